"""What a program may ask for: steps as data, and the two combinators over them.

A program (a lowered workflow) yields one of these and receives outcomes. The kernel reads the
unit, the policies and the pure callables; handlers and scopes are the front end's own objects,
carried through to the engine unread. The callables a step carries are run at most once a run:
their answer is recorded in the journal in the same transition, and replay reads the record.
They return a ``Failure`` instead of raising, so that a user's mistake is an outcome.

``family`` is that of the entries a step leaves (``tables.FAMILY``); ``name`` what is asked for,
where that is recorded and compared on replay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import attrs

from .failure import Failure
from .ids import UnitKey
from .policy import DEFAULT_RETRY, DEFAULT_UNDO_RETRY, Retry
from .value import Payload


@attrs.frozen(slots=True, kw_only=True)
class Undo:
    """How the kernel sees a compensator: an opaque handler with its policies.

    ``child`` means that the unit is a child run, undone by a message to it instead.
    """

    handler: object = None
    scope: object = None
    retry: Retry = DEFAULT_UNDO_RETRY
    timeout_ms: int | None = None
    child: bool = False


@attrs.define(slots=True, kw_only=True, weakref_slot=False)
class Call:
    """Run a handler as one unit.

    ``name``: what is called, when the unit's own name does not say it. ``conclude`` maps the
    encoded result to an encoded decision recorded with it (a loop's stop-or-next), or to a
    ``Failure`` that fails the step though the unit is completed.
    """

    family: ClassVar[str] = "call"
    unit: UnitKey
    handler: object
    scope: object = None
    retry: Retry = DEFAULT_RETRY
    timeout_ms: int | None = None
    undo: Undo | None = None
    transactional: bool = False
    name: str | None = None
    conclude: Callable[[Payload], Payload | Failure] | None = None


@attrs.frozen(slots=True, kw_only=True)
class Record:
    """Compute a value once and record it under the entry kind ``kind``."""

    name: ClassVar[str | None] = None
    unit: UnitKey
    kind: str
    compute: Callable[[], Payload | Failure]

    @property
    def family(self) -> str:
        """Each kind is a family."""
        return self.kind


@attrs.frozen(slots=True, kw_only=True)
class Timer:
    """Sleep until the ms that ``due(now_ms)`` gives, computed once."""

    family: ClassVar[str] = "timer"
    name: ClassVar[str | None] = None
    unit: UnitKey
    due: Callable[[int], int | Failure]


@attrs.frozen(slots=True, kw_only=True)
class Wait:
    """Wait for a signal.

    ``signal()`` gives its name, computed once. ``accept`` refuses an ill-typed payload with a
    ``Failure`` (recorded as rejected; the wait goes on). On a time-out the outcome is
    ``TimedOut`` when ``may_time_out``, else a failure. ``name``: the signal's, when that is to be
    compared on replay.
    """

    family: ClassVar[str] = "wait"
    unit: UnitKey
    signal: Callable[[], str | Failure]
    timeout_ms: int | None = None
    may_time_out: bool = False
    accept: Callable[[Payload], Failure | None] | None = None
    name: str | None = None


@attrs.frozen(slots=True, kw_only=True)
class ChildSpec:
    """What a child run is started with; ``digest`` identifies workflow and canonical input."""

    workflow: str
    version: str
    fingerprint: str
    input: Payload
    digest: str


@attrs.frozen(slots=True, kw_only=True)
class Child:
    """Start a child run and wait for its end.

    ``detached``: do not wait; the outcome is ``Started``, and a ``Join`` of the same unit waits.
    ``name``: the workflow's, when it is to be recorded and compared on replay.
    """

    family: ClassVar[str] = "child"
    unit: UnitKey
    begin: Callable[[], ChildSpec | Failure]
    undo: Undo | None = None
    detached: bool = False
    name: str | None = None


@attrs.frozen(slots=True, kw_only=True)
class Join:
    """Wait for the end of a child run that was started detached, under the same unit."""

    family: ClassVar[str] = "child"
    name: ClassVar[str | None] = None
    unit: UnitKey


Step = Call | Record | Timer | Wait | Child | Join


@attrs.frozen(slots=True, kw_only=True)
class All:
    """Run every step (or All, or First) to its end, at most ``max_concurrency`` at once; the
    outcome is a ``Settled`` with theirs in order of declaration."""

    steps: tuple[Ask, ...]
    max_concurrency: int | None = None


@attrs.frozen(slots=True, kw_only=True)
class First:
    """The first step (or All, or First) to end wins; the others are cancelled. The outcome is a
    ``Won``."""

    steps: tuple[Ask, ...]


Ask = Step | All | First
