"""Everything the kernel gives out: outcomes to programs, attempts and transitions to the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import attrs

from .failure import Failure
from .ids import UnitKey
from .journal import Entry
from .run import RunStatus, Waiting
from .step import Call, ChildSpec, Undo
from .value import Payload

# --- to a program ------------------------------------------------------------------------


@attrs.define(slots=True)
class Completed:
    """The step is done. ``verdict`` is what ``Call.conclude`` recorded, else None."""

    payload: Payload
    verdict: Payload | Failure | None = None


@attrs.frozen(slots=True)
class Failed:
    """The step has failed for good."""

    failure: Failure


@attrs.frozen(slots=True)
class TimedOut:
    """A wait that may time out did."""


@attrs.frozen(slots=True)
class Started:
    """A detached child run was started."""

    child_id: str


@attrs.frozen(slots=True)
class Settled:
    """Every step of an ``All`` has ended; outcomes in order of declaration."""

    outcomes: tuple[Outcome, ...]


@attrs.frozen(slots=True)
class Won:
    """The step at ``index`` of a ``First`` ended first."""

    index: int
    outcome: Outcome


Outcome = Completed | Failed | TimedOut | Started | Settled | Won


@attrs.frozen(slots=True, kw_only=True)
class Ending:
    """How a program ends: with a payload, or with ``shape``, a JSON-like view over its journal.

    ``shape`` maps result names to ``{"unit": path}``, ``{"list": path, "n": count}``,
    ``{"map": {entry: path}}`` or ``{"null": true}``. ``assemble`` gives the result as one
    payload, for a parent run. ``continues``: the run has not ended; it begins anew with
    ``payload`` as its input (``continue_as_new``).
    """

    payload: Payload | None
    shape: Mapping[str, Any] | None
    assemble: Callable[[], Payload]
    continues: bool = False


# --- what decide answers ---------------------------------------------------------------


@attrs.define(slots=True)
class Attempting:
    """Start attempt ``number`` now."""

    number: int


@attrs.frozen(slots=True)
class Holding:
    """Nothing to do until ``until_ms`` (None: until a message or an attempt's end)."""

    until_ms: int | None = None


@attrs.define(slots=True)
class Recording:
    """Append this entry, then ask again. ``child`` is to be started with it, and the message
    ``consumed`` leaves the inbox."""

    entry: Entry
    child: ChildSpec | None = None
    consumed: int | None = None


StepOutcome = Completed | Failed | TimedOut | Started | Attempting | Holding | Recording


# --- to the engine -----------------------------------------------------------------------


class AttemptKey(NamedTuple):
    """Which attempt of a run is meant: the unit's own, or that of its compensator."""

    unit: UnitKey
    compensating: bool = False


@attrs.define(slots=True, kw_only=True, weakref_slot=False)
class Attempt:
    """One call of a handler to be made once the transition is committed.

    ``call`` is the step (for a compensator too: ``undo`` then holds its handler, and ``value``
    the unit's own result). ``snapshot`` and ``data`` are set when the unit was resumed;
    ``stopped`` when the engine was told to cancel it.
    """

    key: AttemptKey
    number: int
    generation: int
    call: Call | None
    undo: Undo | None = None
    value: Payload | None = None
    snapshot: Payload | None = None
    data: Payload | None = None
    stopped: bool = False

    @property
    def handler(self) -> object:
        """The front end's handler object."""
        return self.undo.handler if self.undo is not None else self._call.handler

    @property
    def scope(self) -> object:
        """The front end's own data for building the handler's context."""
        return self.undo.scope if self.undo is not None else self._call.scope

    @property
    def timeout_ms(self) -> int | None:
        """The attempt's time limit, or None."""
        return self.undo.timeout_ms if self.undo is not None else self._call.timeout_ms

    @property
    def transactional(self) -> bool:
        """Whether the handler runs inside the transaction that commits its entry."""
        return self.undo is None and self._call.transactional

    @property
    def _call(self) -> Call:
        assert self.call is not None, "an attempt is made for a call or an undo"
        return self.call

    def retryable(self, error: BaseException) -> bool:
        """Whether the unit's policy finds this exception worth another attempt."""
        policy = self.undo.retry if self.undo is not None else self._call.retry
        return policy.retryable(error)


@attrs.frozen(slots=True, kw_only=True)
class ChildStart:
    """A child run to be created in the same commit."""

    run_id: str
    unit: UnitKey
    spec: ChildSpec


@attrs.frozen(slots=True, kw_only=True)
class Outgoing:
    """A message to another run, delivered in the same commit. ``facts`` is JSON-like."""

    run_id: str
    kind: str
    name: str = ""
    payload: Payload | None = None
    facts: Mapping[str, Any] = attrs.field(factory=dict)
    dedupe: str | None = None
    reopens: bool = False
    anyone: bool = False


@attrs.define(slots=True, kw_only=True)
class Transition:
    """The kernel's full answer for a run: the unit of commit, then what to do once it landed.

    ``entries`` continue the journal after ``after_seq``. ``attempts`` are to be started and
    ``stop`` to be cancelled after the commit. ``resume_at_ms``: advance again then, at the
    latest. ``release``: the lease is given up, and the run may be claimed from ``claim_at_ms`` on;
    ``ended``: the run is terminal. ``failure`` is set once the run is failing. ``renews``: the run
    began anew; ``entries`` replace what the journal held, their numbers go on.
    """

    after_seq: int
    status: RunStatus
    generation: int
    entries: tuple[Entry, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    stop: tuple[AttemptKey, ...] = ()
    consumed: tuple[int, ...] = ()
    children: tuple[ChildStart, ...] = ()
    messages: tuple[Outgoing, ...] = ()
    tokens_opened: tuple[str, ...] = ()
    tokens_closed: tuple[str, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    failure: Failure | None = None
    resume_at_ms: int | None = None
    release: bool = False
    claim_at_ms: int | None = None
    ended: bool = False
    renews: bool = False

    @property
    def writes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(
            self.entries
            or self.consumed
            or self.children
            or self.messages
            or self.release
            or self.ended
        )
