"""Everything the kernel takes in: what became of attempts, and what lies in the inbox.

Time is not an event: ``advance`` is told ``now_ms`` and fires what is due.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .failure import Failure
from .outcome import AttemptKey
from .value import Payload


@attrs.frozen(slots=True)
class AttemptSucceeded:
    """The handler returned a value, encoded here."""

    key: AttemptKey
    payload: Payload


@attrs.frozen(slots=True)
class AttemptFailed:
    """The handler raised or timed out; ``retryable`` is the policy's word on the exception."""

    key: AttemptKey
    failure: Failure
    retryable: bool


@attrs.frozen(slots=True)
class AttemptSuspended:
    """The handler returned ``Suspend(snapshot)``; ``token`` is fresh and unguessable."""

    key: AttemptKey
    snapshot: Payload
    token: str


@attrs.frozen(slots=True)
class AttemptStopped:
    """The handler was cancelled by the engine (cancel, lost race) and gave no verdict."""

    key: AttemptKey


@attrs.frozen(slots=True, kw_only=True)
class MessageArrived:
    """A message of the run's inbox; ``seq`` is its arrival number, ``facts`` its JSON meta."""

    seq: int
    kind: str
    name: str
    at_ms: int
    payload: Payload | None = None
    facts: Mapping[str, Any] = attrs.field(factory=dict)


Event = AttemptSucceeded | AttemptFailed | AttemptSuspended | AttemptStopped | MessageArrived


class MessageKind:
    """The kinds of messages, as they stand in the store."""

    SIGNAL = "signal"
    RESUME = "resume"
    CANCEL = "cancel"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    RETRY = "retry"
    CHILD_ENDED = "child_ended"
    ROLLBACK = "rollback"
    CHILD_UNDONE = "child_undone"
