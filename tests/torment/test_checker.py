"""The checker finds what it is there to find: made-up books with one fault each."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.torment.checker import (
    busy_with,
    check_order,
    check_rollback,
    check_unit,
    drops,
    units_of,
)

from durable_core import Failure, JournalEntry
from durable_core.kernel.ids import UnitKey

KILLED, ALIVE = 11, 22


def record(op: str, nonce: str, unit: str = "a", pid: int = ALIVE, key: str = "k") -> Any:
    return {
        "op": op,
        "run": "r",
        "unit": unit,
        "attempt": 1,
        "key": key,
        "pid": pid,
        "nonce": nonce,
    }


def entry(kind: str, nonce: str | None = None, unit: str = "a") -> JournalEntry:
    failed = "failed" in kind
    return JournalEntry(
        seq=1,
        unit=UnitKey.parse(unit),
        kind=kind,
        step=unit,
        value=None if failed else {"nonce": nonce},
        failure=Failure(type="E", message=nonce or "") if failed else None,
        attempt=1,
        at=datetime(2030, 1, 1, tzinfo=UTC),
    )


GOOD = [
    record("begin", "1", pid=KILLED),
    record("begin", "2"),
    record("fail", "2"),
    record("begin", "3"),
    record("end", "3"),
]
GOOD_JOURNAL = [entry("attempt_failed", "2"), entry("unit_completed", "3")]

FAULTY = {
    "begun again": ([*GOOD, record("begin", "4", pid=KILLED + 1)], "begun again"),
    "lost by the living": ([record("begin", "0"), *GOOD], "lost 1 attempts"),
    "lost twice": ([record("begin", "0", pid=KILLED), *GOOD], "lost 2 attempts"),
    "another key": ([record("begin", "0", pid=KILLED + 1, key="x"), *GOOD], "key changed"),
    "never begun": (GOOD[1:3] + GOOD[:1], "never began"),
}


def faults_of(records: list[Any], journal: list[JournalEntry]) -> str:
    (unit,) = units_of(records).values()
    return "\n".join(check_unit(unit, journal, {KILLED, KILLED + 1}, drops(records)))


def test_good_books_are_passed() -> None:
    assert faults_of(GOOD, GOOD_JOURNAL) == ""


def test_an_attempt_may_be_lost_with_its_run() -> None:
    """As often as the process said so, and no more."""
    said, lost = {"op": "lost", "run": "r", "pid": ALIVE}, record("begin", "0")
    assert faults_of([lost, said, *GOOD], GOOD_JOURNAL) == ""
    assert faults_of([lost, said, record("begin", "9"), *GOOD], GOOD_JOURNAL) != ""


@pytest.mark.parametrize(("records", "said"), FAULTY.values(), ids=FAULTY.keys())
def test_a_fault_is_found(records: list[Any], said: str) -> None:
    journal = GOOD_JOURNAL if said != "never began" else [*GOOD_JOURNAL[:1]]
    if said == "never began":
        journal = [entry("attempt_failed", "2"), entry("attempt_failed", "9")]
    assert said in faults_of(records, journal)


def test_a_unit_that_was_begun_too_early_is_found() -> None:
    """On top of an attempt that ended well and was lost all the same."""
    journal = [entry("unit_completed", "1", "a"), entry("unit_completed", "3", "b")]
    first = [record(op, "1") for op in ("begin", "end")]
    second = [record(op, "3", unit="b") for op in ("begin", "end")]
    early = [record(op, "2", unit="b", pid=KILLED) for op in ("begin", "end")]
    stages = [["a"], ["b"]]
    assert check_order("r", journal, stages, units_of(first + second)) == []
    assert check_order("r", journal, stages, units_of(early + first + second))
    assert check_order("r", journal[1:], stages, units_of(second))


def test_a_wrong_rollback_is_found() -> None:
    journal = [
        entry("unit_completed", "1", "a"),
        entry("unit_completed", "2", "b"),
        entry("unit_compensated", None, "b"),
        entry("unit_compensated", None, "a"),
    ]
    records = [record(op, unit, unit=f"{unit}~") for unit in ("b", "a") for op in ("begin", "end")]
    assert check_rollback("r", journal, {"a", "b"}, units_of(records)) == []
    assert check_rollback("r", journal, {"a"}, units_of(records))
    assert check_rollback("r", journal, {"a", "b"}, units_of(records[:2]))
    assert check_rollback("r", journal, {"a", "b"}, units_of(records[2:] + records[:2]))
    swapped = [*journal[:2], journal[3], journal[2]]
    assert check_rollback("r", swapped, {"a", "b"}, units_of(records))


def test_what_a_process_was_busy_with_is_what_it_had_not_ended() -> None:
    assert busy_with(GOOD, KILLED) == {("r", "a")}
    assert busy_with(GOOD, ALIVE) == set()
