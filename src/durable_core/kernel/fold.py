"""Fold: what a journal says, kept current entry by entry in constant time each.

Owns the state of every unit and of every compensation, the commit order of completed units,
and the run's own facts (generation, holds, cancellation, rollback, end). Rules:

1. An entry moves its unit as ``tables.py`` allows, or the journal is corrupt.
2. ``run_retried`` and ``rollback_requested`` open a new generation. A retry of a run that was
   rolled back forgets the units that were undone or failed, so that they run again; a retry of
   one whose rollback failed forgets the failed compensations only.
3. Units before ``run_forked`` are inherited: read, never compensated.

Must not know programs, time or stores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..errors import EncodingError
from . import journal as j
from .empty import NO_DICT, NO_LIST
from .failure import Failure
from .ids import UnitKey
from .tables import (
    FAMILY,
    UNDO_KINDS,
    UNDO_MOVES,
    UNIT_ENDED,
    UNIT_KINDS,
    UNIT_MOVES,
    UnitStatus,
)
from .value import NULL, Payload


class UnitState:
    """What the journal says of one unit, or of one unit's compensation."""

    __slots__ = (
        "attempts",
        "cancel_requested",
        "child_id",
        "data",
        "due_at_ms",
        "ended_seq",
        "failure",
        "family",
        "generation",
        "inherited",
        "name",
        "payload",
        "signal",
        "since_ms",
        "snapshot",
        "status",
        "token",
        "verdict",
    )

    def __init__(self, generation: int) -> None:
        self.status = UnitStatus.NEW
        self.generation = generation
        self.family: str | None = None
        self.name: str | None = None  # of what was called, where it was recorded
        self.attempts = 0  # failed ones
        self.failure: Failure | None = None
        self.payload: Payload | None = None
        self.verdict: Payload | Failure | None = None
        self.due_at_ms: int | None = None
        self.since_ms = 0
        self.ended_seq = 0
        self.snapshot: Payload | None = None
        self.data: Payload | None = None
        self.token: str | None = None
        self.signal: str | None = None
        self.child_id: str | None = None
        self.cancel_requested = False
        self.inherited = False

    @property
    def ended(self) -> bool:
        """Whether the unit has its terminal entry."""
        return self.status in UNIT_ENDED


class Fold:
    """The state a journal adds up to. ``apply`` is the only way it changes."""

    __slots__ = (
        "begun_in",
        "cancel",
        "completed",
        "deadline_passed",
        "deadline_waived",
        "ended",
        "generation",
        "going",
        "input",
        "length",
        "live_children",
        "open_undos",
        "open_units",
        "parked",
        "paused",
        "rollback",
        "run_id",
        "stopped_seq",
        "tokens",
        "undos",
        "units",
    )

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._begin()

    def _begin(self) -> None:
        """As before the first entry."""
        self.length = 0
        self.generation = 1
        self.begun_in = 1  # the generation in which the program last went on
        self.input: Payload | None = None  # of this generation, when it is not the run's own
        self.stopped_seq: int | None = None  # from which entry on the program is told no more
        self.units: dict[UnitKey, UnitState] = NO_DICT
        self.undos: dict[UnitKey, UnitState] = NO_DICT
        self.completed: list[UnitKey] = NO_LIST  # calls and children, in commit order
        self.open_units: dict[UnitKey, UnitState] = NO_DICT  # begun and not ended
        self.open_undos: dict[UnitKey, UnitState] = NO_DICT
        self.live_children: dict[UnitKey, UnitState] = NO_DICT
        self.tokens: dict[str, tuple[UnitKey, bool]] = NO_DICT  # open; True: of a compensator
        self.paused: j.RunPaused | None = None
        self.parked: j.RunParked | None = None
        self.cancel: j.CancelRequested | None = None
        self.deadline_passed: j.DeadlinePassed | None = None
        self.deadline_waived = False
        self.rollback: j.RollbackStarted | None = None
        self.ended: j.RunCompleted | j.RunFailed | j.RunCancelled | None = None
        self.going = True  # whether the program may still record anything new

    @property
    def has_begun(self) -> bool:
        """Whether anything of a unit was recorded in this generation."""
        return any(state.generation == self.generation for state in self.units.values())

    def is_late(self, state: UnitState) -> bool:
        """Whether the unit ended when the run was already being stopped."""
        return self.stopped_seq is not None and state.ended_seq > self.stopped_seq

    @classmethod
    def of(cls, run_id: str, entries: Iterable[j.Entry]) -> Fold:
        """The fold of a whole journal. Raises ``EncodingError`` for a corrupt one."""
        fold = cls(run_id)
        for entry in entries:
            fold.apply(entry)
        return fold

    def apply(self, entry: j.Entry) -> None:
        """Take one more entry into account. Raises ``EncodingError`` if it cannot follow."""
        if entry.seq != self.length + 1 and not isinstance(entry, j.RunContinued):
            # What was before that one is gone.
            raise self._corrupt(entry, f"it should be number {self.length + 1}")
        kind = entry.kind
        if kind in UNIT_KINDS:
            if not self.units:
                self.units = {}
            self._move(self.units, UNIT_MOVES, entry, undoing=False)
        elif kind in UNDO_KINDS:
            state = self.units.get(entry.unit)
            if state is None or state.status is not UnitStatus.COMPLETED:
                raise self._corrupt(entry, "the unit is not completed")
            if not self.undos:
                self.undos = {}
            self._move(self.undos, UNDO_MOVES, entry, undoing=True)
        else:
            _RUN_ENTRIES[type(entry)](self, entry)
            self.going = (
                self.cancel is None
                and self.deadline_passed is None
                and self.rollback is None
                and self.ended is None
            )
            if self.going:
                self.stopped_seq = None
            elif self.stopped_seq is None:
                self.stopped_seq = entry.seq
        self.length = entry.seq

    def _move(
        self,
        states: dict[UnitKey, UnitState],
        moves: Mapping[UnitStatus, Mapping[str, UnitStatus]],
        entry: j.Entry,
        *,
        undoing: bool,
    ) -> None:
        state = states.get(entry.unit)
        if state is None:
            state = UnitState(self.generation)
        status = moves[state.status].get(entry.kind)
        if status is None:
            raise self._corrupt(entry, f"the unit is {state.status.value}")
        family = FAMILY.get(entry.kind)
        if family is not None:
            if state.family is not None and state.family != family:
                raise self._corrupt(entry, f"the unit is a {state.family}")
            state.family = family
        states[entry.unit] = state
        if status is not state.status:
            state.status = status
            state.since_ms = entry.at_ms
            if status in UNIT_ENDED:
                state.ended_seq = entry.seq
                (self.open_undos if undoing else self.open_units).pop(entry.unit, None)
            elif undoing:
                if not self.open_undos:
                    self.open_undos = {}
                self.open_undos[entry.unit] = state
            else:
                if not self.open_units:
                    self.open_units = {}
                self.open_units[entry.unit] = state
        _UNIT_ENTRIES[type(entry)](self, state, entry)

    def _corrupt(self, entry: j.Entry, why: str) -> EncodingError:
        return EncodingError(
            f"the journal of run {self.run_id!r} is corrupt: entry {entry.seq} "
            f"({entry.kind} of {str(entry.unit) or 'the run'!r}) cannot stand there: {why}"
        )

    # --- one method an entry's effect --------------------------------------------------------

    def _unit_completed(self, state: UnitState, entry: Any) -> None:
        state.payload = entry.payload
        if isinstance(entry, j.UnitCompleted):
            state.verdict = entry.verdict
            state.name = entry.name or state.name
        if not self.completed:
            self.completed = []
        self.completed.append(entry.unit)
        self.live_children.pop(entry.unit, None)
        self._drop_token(state)

    def _attempt_failed(self, state: UnitState, entry: Any) -> None:
        state.attempts = entry.attempt
        state.failure = entry.failure
        state.due_at_ms = entry.retry_at_ms
        state.name = getattr(entry, "name", None) or state.name

    def _failed(self, state: UnitState, entry: Any) -> None:
        state.failure = entry.failure
        state.attempts = getattr(entry, "attempt", 0)
        state.name = getattr(entry, "name", None) or state.name
        self.live_children.pop(entry.unit, None)

    def _cancelled(self, state: UnitState, entry: Any) -> None:
        self._drop_token(state)

    def _drop_token(self, state: UnitState) -> None:
        if state.token is not None:
            self.tokens.pop(state.token, None)

    def _suspended(self, state: UnitState, entry: Any) -> None:
        state.snapshot = entry.payload
        state.data = None
        state.token = entry.token
        state.name = getattr(entry, "name", None) or state.name
        undo = isinstance(entry, j.CompensationSuspended)
        if not self.tokens:
            self.tokens = {}
        self.tokens[entry.token] = (entry.unit, undo)

    def _resumed(self, state: UnitState, entry: Any) -> None:
        state.data = entry.payload
        self.tokens.pop(entry.token, None)

    def _value(self, state: UnitState, entry: Any) -> None:
        state.payload = entry.payload

    def _undo_registered(self, state: UnitState, entry: Any) -> None:
        state.payload = NULL
        if not self.completed:
            self.completed = []
        self.completed.append(entry.unit)

    def _timer_started(self, state: UnitState, entry: Any) -> None:
        state.due_at_ms = entry.due_at_ms

    def _timer_fired(self, state: UnitState, entry: Any) -> None:
        state.payload = NULL

    def _signal_awaited(self, state: UnitState, entry: Any) -> None:
        state.signal = state.name = entry.signal
        state.due_at_ms = entry.due_at_ms

    def _child_started(self, state: UnitState, entry: Any) -> None:
        state.child_id = entry.child_id
        state.name = entry.workflow
        if not self.live_children:
            self.live_children = {}
        self.live_children[entry.unit] = state

    def _child_cancel_requested(self, state: UnitState, entry: Any) -> None:
        state.cancel_requested = True

    def _child_rollback_requested(self, state: UnitState, entry: Any) -> None:
        state.child_id = entry.child_id

    def _nothing(self, state: UnitState, entry: Any) -> None:
        """The move is all there is to it."""

    # --- the run's own entries ---------------------------------------------------------------

    def _paused(self, entry: j.Entry) -> None:
        assert isinstance(entry, j.RunPaused)
        self.paused = entry

    def _unpaused(self, entry: j.Entry) -> None:
        self.paused = None

    def _parked(self, entry: j.Entry) -> None:
        assert isinstance(entry, j.RunParked)
        self.parked = entry

    def _unparked(self, entry: j.Entry) -> None:
        self.parked = None

    def _cancel_requested(self, entry: j.Entry) -> None:
        assert isinstance(entry, j.CancelRequested)
        self.cancel = entry

    def _deadline_passed(self, entry: j.Entry) -> None:
        assert isinstance(entry, j.DeadlinePassed)
        self.deadline_passed = entry

    def _rollback_started(self, entry: j.Entry) -> None:
        assert isinstance(entry, j.RollbackStarted)
        if self.rollback is not None:
            raise self._corrupt(entry, "the run is being rolled back already")
        self.rollback = entry

    def _run_ended(self, entry: j.Entry) -> None:
        assert isinstance(entry, j.RunCompleted | j.RunFailed | j.RunCancelled)
        if self.ended is not None:
            raise self._corrupt(entry, "the run has ended already")
        self.ended = entry

    def _run_retried(self, entry: j.Entry) -> None:
        if not isinstance(self.ended, j.RunFailed):
            raise self._corrupt(entry, "the run has not failed")
        self.generation += 1
        if self.ended.not_compensated:
            self.undos = {u: s for u, s in self.undos.items() if s.status is not UnitStatus.FAILED}
        else:
            self._forget_for_retry()
            self.begun_in = self.generation
            self.rollback = None
            self.cancel = None
        self.deadline_waived = self.deadline_waived or self.deadline_passed is not None
        self.deadline_passed = None
        self.ended = None

    def _forget_for_retry(self) -> None:
        keep = {
            unit: state
            for unit, state in self.units.items()
            if unit not in self.undos
            and state.status in (UnitStatus.COMPLETED, UnitStatus.TIMED_OUT)
            and not isinstance(state.verdict, Failure)
        }
        self.units = keep
        self.undos = NO_DICT
        self.open_units = NO_DICT
        self.open_undos = NO_DICT
        self.tokens = NO_DICT
        self.completed = [unit for unit in self.completed if unit in keep]

    def _rollback_requested(self, entry: j.Entry) -> None:
        if not isinstance(self.ended, j.RunCompleted):
            raise self._corrupt(entry, "the run has not completed")
        self.generation += 1
        self.ended = None

    def _run_continued(self, entry: j.Entry) -> None:
        """Nothing of before counts any more; what was told to the run is told again if need be."""
        assert isinstance(entry, j.RunContinued)
        self._begin()
        self.generation = self.begun_in = entry.generation
        self.input = entry.payload
        self.deadline_waived = entry.deadline_waived

    def _run_forked(self, entry: j.Entry) -> None:
        for state in self.units.values():
            state.inherited = True
        self.completed = NO_LIST


_UNIT_ENTRIES: Mapping[type[j.Entry], Callable[[Fold, UnitState, Any], None]] = {
    j.UnitCompleted: Fold._unit_completed,
    j.ChildCompleted: Fold._unit_completed,
    j.UnitFailed: Fold._failed,
    j.ChildFailed: Fold._failed,
    j.AttemptFailed: Fold._attempt_failed,
    j.UnitSuspended: Fold._suspended,
    j.UnitResumed: Fold._resumed,
    j.UnitCancelled: Fold._cancelled,
    j.RouteDecided: Fold._value,
    j.ItemsRecorded: Fold._value,
    j.ValueRecorded: Fold._value,
    j.UndoRegistered: Fold._undo_registered,
    j.SignalConsumed: Fold._value,
    j.TimerStarted: Fold._timer_started,
    j.TimerFired: Fold._timer_fired,
    j.SignalAwaited: Fold._signal_awaited,
    j.SignalRejected: Fold._nothing,
    j.WaitTimedOut: Fold._nothing,
    j.ChildStarted: Fold._child_started,
    j.ChildCancelRequested: Fold._child_cancel_requested,
    j.UnitCompensated: Fold._nothing,
    j.CompensationAttemptFailed: Fold._attempt_failed,
    j.CompensationFailed: Fold._failed,
    j.CompensationSuspended: Fold._suspended,
    j.CompensationResumed: Fold._resumed,
    j.ChildRollbackRequested: Fold._child_rollback_requested,
}

_RUN_ENTRIES: Mapping[type[j.Entry], Callable[[Fold, j.Entry], None]] = {
    j.RunPaused: Fold._paused,
    j.RunUnpaused: Fold._unpaused,
    j.RunParked: Fold._parked,
    j.RunUnparked: Fold._unparked,
    j.CancelRequested: Fold._cancel_requested,
    j.DeadlinePassed: Fold._deadline_passed,
    j.RollbackStarted: Fold._rollback_started,
    j.RollbackRequested: Fold._rollback_requested,
    j.RunRetried: Fold._run_retried,
    j.RunContinued: Fold._run_continued,
    j.RunForked: Fold._run_forked,
    j.RunCompleted: Fold._run_ended,
    j.RunFailed: Fold._run_ended,
    j.RunCancelled: Fold._run_ended,
}
