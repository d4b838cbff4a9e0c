"""The tables over their whole product: what they allow happens, what they do not is refused."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from durable_core.errors import EncodingError, InvariantError
from durable_core.kernel import journal as j
from durable_core.kernel.failure import Failure
from durable_core.kernel.fold import Fold
from durable_core.kernel.ids import RUN_UNIT, UnitKey
from durable_core.kernel.invariants import check_transition
from durable_core.kernel.outcome import Transition
from durable_core.kernel.run import TERMINAL, RunStatus, Waiting
from durable_core.kernel.tables import (
    FAMILY,
    REOPENING,
    RUN_MOVES,
    UNDO_KINDS,
    UNDO_MOVES,
    UNIT_ENDED,
    UNIT_KINDS,
    UNIT_MOVES,
    UnitStatus,
)
from durable_core.kernel.value import NULL

UNIT = UnitKey.of("unit")
OTHER = UnitKey.of("other")
BOOM = Failure(type="ValueError", message="boom")

FIELDS: dict[str, Any] = {
    "payload": NULL,
    "failure": BOOM,
    "attempt": 1,
    "retry_at_ms": 5,
    "token": "token",
    "due_at_ms": 5,
    "signal": "go",
    "message": 1,
    "child_id": "child",
    "cause": "failed",
    "mode": "compensate",
    "reason": "poisoned",
    "source_id": "source",
}

WAYS_TO: dict[UnitStatus, tuple[str, ...]] = {
    UnitStatus.NEW: (),
    UnitStatus.RETRYING: ("attempt_failed",),
    UnitStatus.SUSPENDED: ("unit_suspended",),
    UnitStatus.RESUMED: ("unit_suspended", "unit_resumed"),
    UnitStatus.SLEEPING: ("timer_started",),
    UnitStatus.AWAITING: ("signal_awaited",),
    UnitStatus.WITH_CHILD: ("child_started",),
    UnitStatus.COMPLETED: ("unit_completed",),
    UnitStatus.TIMED_OUT: ("signal_awaited", "wait_timed_out"),
    UnitStatus.FAILED: ("unit_failed",),
    UnitStatus.CANCELLED: ("unit_cancelled",),
}
UNDO_WAYS_TO: dict[UnitStatus, tuple[str, ...]] = {
    UnitStatus.NEW: (),
    UnitStatus.RETRYING: ("compensation_attempt_failed",),
    UnitStatus.SUSPENDED: ("compensation_suspended",),
    UnitStatus.RESUMED: ("compensation_suspended", "compensation_resumed"),
    UnitStatus.WITH_CHILD: ("child_rollback_requested",),
    UnitStatus.COMPLETED: ("unit_compensated",),
    UnitStatus.FAILED: ("compensation_failed",),
}


def entry(kind: str, seq: int, unit: UnitKey = UNIT) -> j.Entry:
    cls = j.ENTRY_CLASSES[kind]
    wanted = {f.name for f in attrs.fields(cls)}
    return cls(unit=unit, seq=seq, at_ms=seq, **{k: v for k, v in FIELDS.items() if k in wanted})


def fold_of(*kinds: str) -> Fold:
    fold = Fold("run")
    for seq, kind in enumerate(kinds, 1):
        fold.apply(entry(kind, seq))
    return fold


@pytest.mark.parametrize("status", UnitStatus)
@pytest.mark.parametrize("kind", sorted(UNIT_KINDS))
def test_a_unit_moves_exactly_as_its_table_says(status: UnitStatus, kind: str) -> None:
    fold = fold_of(*WAYS_TO[status])
    following = entry(kind, fold.length + 1)
    expected = UNIT_MOVES[status].get(kind)

    if expected is None:
        with pytest.raises(EncodingError, match="cannot stand there"):
            fold.apply(following)
    else:
        fold.apply(following)
        assert fold.units[UNIT].status is expected
        assert (UNIT in fold.open_units) == (expected not in UNIT_ENDED)


@pytest.mark.parametrize("status", sorted(UNDO_WAYS_TO, key=str))
@pytest.mark.parametrize("kind", sorted(UNDO_KINDS))
def test_a_compensation_moves_exactly_as_its_table_says(status: UnitStatus, kind: str) -> None:
    fold = fold_of("unit_completed", *UNDO_WAYS_TO[status])
    following = entry(kind, fold.length + 1)
    expected = UNDO_MOVES[status].get(kind)

    if expected is None:
        with pytest.raises(EncodingError, match="cannot stand there"):
            fold.apply(following)
    else:
        fold.apply(following)
        assert fold.undos[UNIT].status is expected


def test_statuses_no_compensation_can_reach_have_no_moves() -> None:
    for status in set(UnitStatus) - set(UNDO_WAYS_TO):
        assert not UNDO_MOVES[status]


@pytest.mark.parametrize("kind", sorted(UNDO_KINDS))
def test_only_a_completed_unit_is_compensated(kind: str) -> None:
    for way in (status for status in UnitStatus if status is not UnitStatus.COMPLETED):
        fold = fold_of(*WAYS_TO[way])
        with pytest.raises(EncodingError, match="not completed"):
            fold.apply(entry(kind, fold.length + 1))


@pytest.mark.parametrize("first", sorted(FAMILY))
@pytest.mark.parametrize("second", sorted(FAMILY))
def test_a_unit_keeps_its_family(first: str, second: str) -> None:
    fold = Fold("run")
    if first not in UNIT_MOVES[UnitStatus.NEW]:
        return
    fold.apply(entry(first, 1))
    allowed = second in UNIT_MOVES[fold.units[UNIT].status] and FAMILY[first] == FAMILY[second]
    if allowed:
        fold.apply(entry(second, 2))
    else:
        with pytest.raises(EncodingError):
            fold.apply(entry(second, 2))


def test_ended_units_take_nothing_more() -> None:
    for status in UNIT_ENDED:
        assert not UNIT_MOVES[status]


def test_every_entry_class_has_its_place() -> None:
    for kind, cls in j.ENTRY_CLASSES.items():
        assert cls.kind == kind
        assert not (kind in UNIT_KINDS and kind in UNDO_KINDS)
        if kind not in UNIT_KINDS | UNDO_KINDS:
            prefix = ("run_", "cancel_", "deadline_", "rollback_")
            assert kind.startswith(prefix), "an entry of the run itself"


def test_entries_are_numbered_without_gap() -> None:
    fold = fold_of("timer_started")
    for seq in (0, 1, 3):
        with pytest.raises(EncodingError, match="number 2"):
            fold.apply(entry("timer_fired", seq))


@pytest.mark.parametrize("before", RunStatus)
@pytest.mark.parametrize("after", RunStatus)
def test_a_run_moves_exactly_as_its_table_says(before: RunStatus, after: RunStatus) -> None:
    transition = Transition(
        after_seq=0,
        status=after,
        generation=1,
        waiting=(Waiting(kind="timer", unit="nap", since_ms=0),),
        release=not after.terminal,
        ended=after.terminal,
    )
    if after is before or after in RUN_MOVES[before]:
        check_transition("run", before, transition)
    else:
        with pytest.raises(InvariantError, match="I-LEGAL"):
            check_transition("run", before, transition)


def test_terminal_is_final_but_for_a_new_generation() -> None:
    for status in RunStatus:
        assert status.terminal == (status in TERMINAL)
        assert (not RUN_MOVES[status]) == status.terminal
    assert set(REOPENING) < TERMINAL
    reopened = Transition(
        after_seq=4,
        status=RunStatus.RUNNING,
        generation=2,
        entries=(entry("run_retried", 5, RUN_UNIT),),
    )
    check_transition("run", RunStatus.FAILED, reopened)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("I-SEQ", {"entries": (entry("timer_started", 7),)}),
        ("I-LIVE", {"release": True}),
        ("I-FINAL", {"ended": True}),
        ("I-FINAL", {"status": RunStatus.COMPLETED}),
    ],
)
def test_a_broken_transition_is_refused_by_name(name: str, fields: dict[str, Any]) -> None:
    good = Transition(after_seq=0, status=RunStatus.RUNNING, generation=1)
    with pytest.raises(InvariantError, match=name):
        check_transition("run", RunStatus.RUNNING, attrs.evolve(good, **fields))
