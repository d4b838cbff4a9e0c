"""Waits: what a run waits for, read off its fold."""

from __future__ import annotations

from .fold import Fold, UnitState
from .ids import UnitKey
from .run import Waiting
from .tables import UnitStatus

WAIT_KINDS = {
    UnitStatus.RETRYING: "retry",
    UnitStatus.SUSPENDED: "resume",
    UnitStatus.SLEEPING: "timer",
    UnitStatus.AWAITING: "signal",
    UnitStatus.WITH_CHILD: "child",
}


def waiting_for(fold: Fold, limit: int) -> tuple[Waiting, ...]:
    """At most ``limit`` waits: the operator's first, then units in the order they began."""
    waits: list[Waiting] = []
    if fold.parked is not None:
        waits.append(_operator(fold.parked.reason, fold.parked.at_ms))
    if fold.paused is not None:
        waits.append(_operator("paused", fold.paused.at_ms))
    stopping = (
        fold.cancel is not None or fold.deadline_passed is not None or fold.rollback is not None
    )
    units = fold.live_children if stopping else fold.open_units
    for states in (units, fold.open_undos):
        for unit, state in states.items():
            if len(waits) >= limit:
                return tuple(waits)
            if state.status in WAIT_KINDS:
                waits.append(_unit_wait(unit, state))
    return tuple(waits)


def open_suspensions(fold: Fold, limit: int) -> tuple[Waiting, ...]:
    """Only the suspensions, for a run that is otherwise busy."""
    waits: list[Waiting] = []
    for unit, undoing in list(fold.tokens.values())[:limit]:
        state = (fold.undos if undoing else fold.units)[unit]
        waits.append(_unit_wait(unit, state))
    return tuple(waits)


def _operator(reason: str, since_ms: int) -> Waiting:
    return Waiting(kind="operator", unit=None, since_ms=since_ms, reason=reason)


def _unit_wait(unit: UnitKey, state: UnitState) -> Waiting:
    kind = WAIT_KINDS[state.status]
    return Waiting(
        kind=kind,
        unit=str(unit),
        since_ms=state.since_ms,
        name=state.signal if kind == "signal" else state.child_id if kind == "child" else None,
        until_ms=state.due_at_ms if kind in ("retry", "timer", "signal") else None,
        reason=str(state.failure)[:300] if kind == "retry" else None,
        token=state.token if kind == "resume" else None,
    )
