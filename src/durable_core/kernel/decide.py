"""Decide: the verdict on one step, from the step, what its journal says, and the moment.

``decide`` is asked for every step at the frontier, on the first pass and on replay alike, so
"is it recorded?" is answered in one place. It answers with an end (``Completed``, ``Failed``,
``TimedOut``), with ``Attempting`` (a handler is to run now), with ``Holding`` (nothing to do
until then), or with ``Recording`` (append this entry, then ask again). ``decide_undo`` is the
same question for the compensation of a completed unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

from . import journal as j
from .event import MessageArrived
from .failure import Failure
from .fold import Fold, UnitState
from .ids import UnitKey, child_run_id
from .outcome import (
    Attempting,
    Completed,
    Failed,
    Holding,
    Recording,
    Started,
    StepOutcome,
    TimedOut,
)
from .run import RunContext
from .step import Call, Child, Join, Record, Step, Timer, Undo, Wait
from .tables import FAMILY, UnitStatus
from .value import NULL, Payload

U = UnitStatus
WITH_TIME = (U.SLEEPING, U.AWAITING, U.RETRYING)
"""What comes to an end, or is tried again, by itself."""


class Moment:
    """The context of a decision: where and when it is taken, and what lies in the inbox.

    ``next_seq`` is the number of the next entry; ``signals`` lie in the inbox by their names.
    """

    __slots__ = ("fold", "next_seq", "now_ms", "run", "signals")

    def __init__(
        self,
        run: RunContext,
        fold: Fold,
        now_ms: int,
        signals: Mapping[str, Sequence[MessageArrived]],
    ) -> None:
        self.run = run
        self.fold = fold
        self.now_ms = now_ms
        self.next_seq = fold.length + 1
        self.signals = signals


def started(step: Step, state: UnitState) -> str | None:
    """The child run that this step started, if it was not to wait for its end."""
    if state.child_id is None or not (isinstance(step, Child) and step.detached):
        return None
    return state.child_id


def decide(step: Step, state: UnitState | None, moment: Moment) -> StepOutcome:
    """What this step comes to, given what the journal says of its unit (None: nothing yet)."""
    if state is None:
        return _begin(step, moment)
    child_id = started(step, state)
    if child_id is not None:
        return Started(child_id)
    match state.status:
        case U.COMPLETED:
            return Completed(state.payload or NULL, state.verdict)
        case U.FAILED:
            assert state.failure is not None
            return Failed(state.failure)
        case U.TIMED_OUT:
            return TimedOut()
        case U.CANCELLED:
            return Failed(Failure(type="Cancelled", message="the step lost a race"))
        case U.RETRYING:
            return _when_due(state, moment, Attempting(state.attempts + 1))
        case U.RESUMED:
            return Attempting(state.attempts + 1)
        case U.SUSPENDED | U.WITH_CHILD:
            return Holding()
        case U.SLEEPING:
            fired = j.TimerFired(unit=step.unit, seq=moment.next_seq, at_ms=moment.now_ms)
            return _when_due(state, moment, Recording(fired))
        case U.AWAITING:
            assert isinstance(step, Wait)
            return _decide_wait(step, state, moment)
        case U.NEW:
            return _begin(step, moment)
        case _:
            assert_never(state.status)


def precedence(unit: UnitKey, moment: Moment) -> tuple[int, int]:
    """Of steps that are decided in one moment, the lowest comes first: whose message came first,
    then what was due first, then whatever was begun or is to be. A cursor that was there all the
    time comes to them in this order."""
    state = moment.fold.units.get(unit)
    if state is not None and state.status is U.AWAITING and state.signal is not None:
        messages = moment.signals.get(state.signal)
        if messages:
            return 0, messages[0].seq
    if state is not None and state.status in WITH_TIME and state.due_at_ms is not None:
        return 1, state.due_at_ms
    return 2, 0


def decide_undo(
    unit: UnitKey, undo: Undo, done: UnitState, state: UnitState | None, moment: Moment
) -> StepOutcome:
    """What the compensation of this unit comes to; ``done`` is the completed unit's state."""
    if state is None:
        if not undo.child:
            return Attempting(1)
        assert done.child_id is not None
        return Recording(
            j.ChildRollbackRequested(
                unit=unit, seq=moment.next_seq, at_ms=moment.now_ms, child_id=done.child_id
            )
        )
    match state.status:
        case U.COMPLETED:
            return Completed(NULL)
        case U.FAILED:
            assert state.failure is not None
            return Failed(state.failure)
        case U.RETRYING:
            return _when_due(state, moment, Attempting(state.attempts + 1))
        case U.RESUMED:
            return Attempting(state.attempts + 1)
        case _:
            return Holding()


def _when_due(state: UnitState, moment: Moment, outcome: StepOutcome) -> StepOutcome:
    if state.due_at_ms is not None and state.due_at_ms > moment.now_ms:
        return Holding(state.due_at_ms)
    return outcome


def _begin(step: Step, moment: Moment) -> StepOutcome:
    units = len(moment.fold.units)
    if units >= moment.run.limits.units:
        return _refuse(
            step.unit,
            moment,
            Failure(
                type="LimitExceededError",
                message=f"the run has {units} units, the most it may have "
                f"(Limits.units); unit {str(step.unit)!r} was not begun",
            ),
        )
    match step:
        case Call():
            return Attempting(1)
        case Record():
            return _begin_record(step, moment)
        case Timer():
            due = step.due(moment.now_ms)
            if isinstance(due, Failure):
                return _refuse(step.unit, moment, due)
            return Recording(
                j.TimerStarted(
                    unit=step.unit, seq=moment.next_seq, at_ms=moment.now_ms, due_at_ms=due
                )
            )
        case Wait():
            return _begin_wait(step, moment)
        case Child():
            return _begin_child(step, moment)
        case Join():
            raise AssertionError("a child run is joined after it was started")
        case _:
            assert_never(step)


def _begin_record(step: Record, moment: Moment) -> StepOutcome:
    value = step.compute()
    if isinstance(value, Failure):
        return _refuse(step.unit, moment, value)
    entry = RECORD_ENTRIES[step.kind](
        unit=step.unit, seq=moment.next_seq, at_ms=moment.now_ms, payload=value
    )
    return Recording(entry)


RECORD_ENTRIES: dict[str, Callable[..., j.Entry]] = {
    "route_decided": j.RouteDecided,
    "items_recorded": j.ItemsRecorded,
    "value_recorded": j.ValueRecorded,
}
assert all(kind in FAMILY for kind in RECORD_ENTRIES)


def _begin_wait(step: Wait, moment: Moment) -> StepOutcome:
    signal = step.signal()
    if isinstance(signal, Failure):
        return _refuse(step.unit, moment, signal)
    due = None if step.timeout_ms is None else moment.now_ms + step.timeout_ms
    return Recording(
        j.SignalAwaited(
            unit=step.unit,
            seq=moment.next_seq,
            at_ms=moment.now_ms,
            signal=signal,
            due_at_ms=due,
        )
    )


def _decide_wait(step: Wait, state: UnitState, moment: Moment) -> StepOutcome:
    """The oldest message of that name, unless it came after the time-out."""
    assert state.signal is not None
    due = state.due_at_ms
    for message in moment.signals.get(state.signal, ()):
        if due is not None and message.at_ms > due:
            break
        payload = message.payload or NULL
        refused = step.accept(payload) if step.accept is not None else None
        seq, at_ms = moment.next_seq, moment.now_ms
        entry: j.Entry
        if refused is not None:
            entry = j.SignalRejected(
                unit=step.unit, seq=seq, at_ms=at_ms, failure=refused, message=message.seq
            )
        else:
            entry = j.SignalConsumed(
                unit=step.unit, seq=seq, at_ms=at_ms, payload=payload, message=message.seq
            )
        return Recording(entry, consumed=message.seq)
    if due is None or due > moment.now_ms:
        return Holding(due)
    if step.may_time_out:
        return Recording(j.WaitTimedOut(unit=step.unit, seq=moment.next_seq, at_ms=moment.now_ms))
    return _refuse(
        step.unit,
        moment,
        Failure(
            type="TimeoutError",
            message=f"no signal {state.signal!r} came within {step.timeout_ms} ms",
        ),
    )


def _begin_child(step: Child, moment: Moment) -> StepOutcome:
    run = moment.run
    if run.depth + 1 > run.limits.child_depth:
        return _refuse(
            step.unit,
            moment,
            Failure(
                type="LimitExceededError",
                message=f"a child run would be {run.depth + 1} levels deep, more than "
                f"Limits.child_depth ({run.limits.child_depth})",
            ),
        )
    spec = step.begin()
    if isinstance(spec, Failure):
        return _refuse(step.unit, moment, spec)
    entry = j.ChildStarted(
        unit=step.unit,
        seq=moment.next_seq,
        at_ms=moment.now_ms,
        child_id=child_run_id(run.run_id, run.created_at_ms, moment.fold.generation, step.unit),
        workflow=step.name,
    )
    return Recording(entry, child=spec)


def _refuse(unit: UnitKey, moment: Moment, failure: Failure) -> Recording:
    return Recording(
        j.UnitFailed(unit=unit, seq=moment.next_seq, at_ms=moment.now_ms, failure=failure)
    )


def conclude(step: Call, payload: Payload) -> Payload | Failure | None:
    """The decision to be recorded with a call's result, if the step takes one."""
    return None if step.conclude is None else step.conclude(payload)
