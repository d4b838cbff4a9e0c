"""The journal: what has happened to a run, in commit order, as entries in the past tense.

Entries are facts; they are appended, never changed. ``Journal`` is a view (a log and a length)
so that an extended journal shares the log it grew from: appending copies nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar

import attrs

from .empty import NO_LIST
from .failure import Failure
from .ids import RUN_UNIT, UnitKey
from .value import Payload


@attrs.define(slots=True, kw_only=True)
class Entry:
    """One fact. ``seq`` numbers a run's entries from 1 without gap; ``at_ms`` is store time."""

    kind: ClassVar[str]
    unit: UnitKey = RUN_UNIT
    seq: int = 0
    at_ms: int = 0


# --- calls -------------------------------------------------------------------------------


@attrs.define(slots=True, kw_only=True)
class UnitCompleted(Entry):
    """A handler's result. ``verdict`` is the decision recorded with it (loops), ``name`` what was
    called where the unit's own name does not say it; so in the next three."""

    kind: ClassVar[str] = "unit_completed"
    payload: Payload
    attempt: int
    verdict: Payload | Failure | None = None
    name: str | None = None


@attrs.frozen(slots=True, kw_only=True)
class UnitFailed(Entry):
    """The unit has failed for good. ``attempt`` 0: it failed before any handler ran."""

    kind: ClassVar[str] = "unit_failed"
    failure: Failure
    attempt: int = 0
    name: str | None = None


@attrs.frozen(slots=True, kw_only=True)
class AttemptFailed(Entry):
    """An attempt failed and another follows at ``retry_at_ms``."""

    kind: ClassVar[str] = "attempt_failed"
    failure: Failure
    attempt: int
    retry_at_ms: int
    name: str | None = None


@attrs.frozen(slots=True, kw_only=True)
class UnitSuspended(Entry):
    """The handler returned ``Suspend``; ``token`` opens it once."""

    kind: ClassVar[str] = "unit_suspended"
    payload: Payload
    attempt: int
    token: str
    name: str | None = None


@attrs.frozen(slots=True, kw_only=True)
class UnitResumed(Entry):
    """The suspension was resumed with this data."""

    kind: ClassVar[str] = "unit_resumed"
    payload: Payload
    token: str


@attrs.frozen(slots=True, kw_only=True)
class UnitCancelled(Entry):
    """The unit lost a race and will not complete."""

    kind: ClassVar[str] = "unit_cancelled"


# --- recorded values -----------------------------------------------------------------------


@attrs.frozen(slots=True, kw_only=True)
class RouteDecided(Entry):
    """The key a route chose."""

    kind: ClassVar[str] = "route_decided"
    payload: Payload


@attrs.frozen(slots=True, kw_only=True)
class ItemsRecorded(Entry):
    """The list a map fans out over."""

    kind: ClassVar[str] = "items_recorded"
    payload: Payload


@attrs.frozen(slots=True, kw_only=True)
class ValueRecorded(Entry):
    """Any other value computed once: a loop's first input, a time, a random number."""

    kind: ClassVar[str] = "value_recorded"
    payload: Payload


@attrs.frozen(slots=True, kw_only=True)
class UndoRegistered(Entry):
    """The workflow named something to be called when the run is rolled back."""

    kind: ClassVar[str] = "undo_registered"


# --- timers, signals, children ---------------------------------------------------------------


@attrs.frozen(slots=True, kw_only=True)
class TimerStarted(Entry):
    """A sleep began; it is due at ``due_at_ms``."""

    kind: ClassVar[str] = "timer_started"
    due_at_ms: int


@attrs.frozen(slots=True, kw_only=True)
class TimerFired(Entry):
    """The sleep is over."""

    kind: ClassVar[str] = "timer_fired"


@attrs.frozen(slots=True, kw_only=True)
class SignalAwaited(Entry):
    """The run began to wait for a signal, until ``due_at_ms`` if that is set."""

    kind: ClassVar[str] = "signal_awaited"
    signal: str
    due_at_ms: int | None = None


@attrs.frozen(slots=True, kw_only=True)
class SignalConsumed(Entry):
    """A signal ended the wait; ``message`` is its arrival number."""

    kind: ClassVar[str] = "signal_consumed"
    payload: Payload
    message: int


@attrs.frozen(slots=True, kw_only=True)
class SignalRejected(Entry):
    """An ill-typed signal was thrown away; the wait goes on."""

    kind: ClassVar[str] = "signal_rejected"
    failure: Failure
    message: int


@attrs.frozen(slots=True, kw_only=True)
class WaitTimedOut(Entry):
    """No signal came in time, and the workflow goes on."""

    kind: ClassVar[str] = "wait_timed_out"


@attrs.frozen(slots=True, kw_only=True)
class ChildStarted(Entry):
    """A child run was created. ``workflow`` is recorded where it is compared on replay."""

    kind: ClassVar[str] = "child_started"
    child_id: str
    workflow: str | None = None


@attrs.frozen(slots=True, kw_only=True)
class ChildCancelRequested(Entry):
    """The live child was told to cancel itself."""

    kind: ClassVar[str] = "child_cancel_requested"
    child_id: str


@attrs.frozen(slots=True, kw_only=True)
class ChildCompleted(Entry):
    """The child run ended with a result."""

    kind: ClassVar[str] = "child_completed"
    payload: Payload
    child_id: str


@attrs.frozen(slots=True, kw_only=True)
class ChildFailed(Entry):
    """The child run ended without a result."""

    kind: ClassVar[str] = "child_failed"
    failure: Failure
    child_id: str


# --- compensation ----------------------------------------------------------------------------


@attrs.frozen(slots=True, kw_only=True)
class RollbackStarted(Entry):
    """The run is being rolled back; ``cause`` is ``failed``, ``cancelled`` or ``rolled_back``."""

    kind: ClassVar[str] = "rollback_started"
    cause: str
    failure: Failure | None = None


@attrs.frozen(slots=True, kw_only=True)
class UnitCompensated(Entry):
    """The unit's compensator succeeded."""

    kind: ClassVar[str] = "unit_compensated"
    attempt: int


@attrs.frozen(slots=True, kw_only=True)
class CompensationAttemptFailed(Entry):
    """A compensator failed and is tried again at ``retry_at_ms``."""

    kind: ClassVar[str] = "compensation_attempt_failed"
    failure: Failure
    attempt: int
    retry_at_ms: int


@attrs.frozen(slots=True, kw_only=True)
class CompensationFailed(Entry):
    """The unit could not be undone; the rollback goes on."""

    kind: ClassVar[str] = "compensation_failed"
    failure: Failure
    attempt: int


@attrs.frozen(slots=True, kw_only=True)
class CompensationSuspended(Entry):
    """The compensator returned ``Suspend``."""

    kind: ClassVar[str] = "compensation_suspended"
    payload: Payload
    attempt: int
    token: str


@attrs.frozen(slots=True, kw_only=True)
class CompensationResumed(Entry):
    """The suspended compensator was resumed with this data."""

    kind: ClassVar[str] = "compensation_resumed"
    payload: Payload
    token: str


@attrs.frozen(slots=True, kw_only=True)
class ChildRollbackRequested(Entry):
    """The completed child run was told to undo itself."""

    kind: ClassVar[str] = "child_rollback_requested"
    child_id: str


# --- the run itself --------------------------------------------------------------------------


@attrs.frozen(slots=True, kw_only=True)
class CancelRequested(Entry):
    """Somebody cancelled the run; ``mode`` is ``compensate`` or ``terminate``."""

    kind: ClassVar[str] = "cancel_requested"
    mode: str
    reason: str | None = None


@attrs.frozen(slots=True, kw_only=True)
class DeadlinePassed(Entry):
    """The run's deadline passed; it fails."""

    kind: ClassVar[str] = "deadline_passed"


@attrs.frozen(slots=True, kw_only=True)
class RollbackRequested(Entry):
    """The parent asked this completed child to undo itself: a new generation begins."""

    kind: ClassVar[str] = "rollback_requested"


@attrs.frozen(slots=True, kw_only=True)
class RunPaused(Entry):
    """An operator paused the run."""

    kind: ClassVar[str] = "run_paused"


@attrs.frozen(slots=True, kw_only=True)
class RunUnpaused(Entry):
    """An operator let the run go on."""

    kind: ClassVar[str] = "run_unpaused"


@attrs.frozen(slots=True, kw_only=True)
class RunParked(Entry):
    """The run is held for an operator, or for a worker whose definition fits."""

    kind: ClassVar[str] = "run_parked"
    reason: str
    failure: Failure | None = None


@attrs.frozen(slots=True, kw_only=True)
class RunUnparked(Entry):
    """The hold was lifted; the run goes on where it stood."""

    kind: ClassVar[str] = "run_unparked"


@attrs.frozen(slots=True, kw_only=True)
class RunRetried(Entry):
    """An operator retried the ended run: a new generation begins."""

    kind: ClassVar[str] = "run_retried"


@attrs.frozen(slots=True, kw_only=True)
class RunContinued(Entry):
    """The run began anew with another input: the first entry of a journal, and of this
    generation. ``deadline_waived``: the run's deadline had passed before, and counts no more."""

    kind: ClassVar[str] = "run_continued"
    payload: Payload
    generation: int
    deadline_waived: bool = False


@attrs.frozen(slots=True, kw_only=True)
class RunForked(Entry):
    """All entries before this one were copied from another run; they are never compensated."""

    kind: ClassVar[str] = "run_forked"
    source_id: str


@attrs.frozen(slots=True, kw_only=True)
class RunCompleted(Entry):
    """The run ended with a result: a payload, or a view over the journal (``shape``)."""

    kind: ClassVar[str] = "run_completed"
    payload: Payload | None = None
    shape: Mapping[str, Any] | None = None


@attrs.frozen(slots=True, kw_only=True)
class RunFailed(Entry):
    """The run ended failed; ``not_compensated`` lists the units that could not be undone."""

    kind: ClassVar[str] = "run_failed"
    failure: Failure
    not_compensated: tuple[str, ...] = ()


@attrs.frozen(slots=True, kw_only=True)
class RunCancelled(Entry):
    """The run ended cancelled; ``not_compensated`` lists what was not undone."""

    kind: ClassVar[str] = "run_cancelled"
    reason: str | None = None
    not_compensated: tuple[str, ...] = ()


ENTRY_CLASSES: Mapping[str, type[Entry]] = {
    cls.kind: cls
    for cls in (
        UnitCompleted,
        UnitFailed,
        AttemptFailed,
        UnitSuspended,
        UnitResumed,
        UnitCancelled,
        RouteDecided,
        ItemsRecorded,
        ValueRecorded,
        UndoRegistered,
        TimerStarted,
        TimerFired,
        SignalAwaited,
        SignalConsumed,
        SignalRejected,
        WaitTimedOut,
        ChildStarted,
        ChildCancelRequested,
        ChildCompleted,
        ChildFailed,
        RollbackStarted,
        UnitCompensated,
        CompensationAttemptFailed,
        CompensationFailed,
        CompensationSuspended,
        CompensationResumed,
        ChildRollbackRequested,
        CancelRequested,
        DeadlinePassed,
        RollbackRequested,
        RunPaused,
        RunUnpaused,
        RunParked,
        RunUnparked,
        RunRetried,
        RunContinued,
        RunForked,
        RunCompleted,
        RunFailed,
        RunCancelled,
    )
}
"""Every kind of entry by its name, as it stands in the store."""


class Journal(Sequence[Entry]):
    """An immutable, indexed view of a run's entries.

    ``extend`` gives a longer view over the same log when this view is its newest, and copies
    only when two views grow apart (a branch in a test).
    """

    __slots__ = ("_length", "_log")

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self._log = list(entries) if entries else NO_LIST
        self._length = len(self._log)

    def extend(self, entries: Sequence[Entry]) -> Journal:
        """This journal followed by ``entries``."""
        if not entries:
            return self
        if not self._length:
            return Journal(entries)
        longer = Journal.__new__(Journal)
        longer._log = self._log if len(self._log) == self._length else list(self)
        longer._log.extend(entries)
        longer._length = self._length + len(entries)
        return longer

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._log[i] for i in range(*index.indices(self._length))]
        if index < 0:
            index += self._length
        if not 0 <= index < self._length:
            raise IndexError(index)
        return self._log[index]

    def __iter__(self) -> Iterator[Entry]:
        return islice(self._log, self._length)


NO_JOURNAL = Journal()
"""Of every run that has only begun."""
