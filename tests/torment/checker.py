"""Checker: lays the ledger beside the journals and says where they disagree.

The ledger knows every attempt that was begun, by whom, and under which nonce; the journal knows
the nonce of every attempt that counted. An attempt that did not count must have been lost: by a
process that was killed, once, or by one that said it had lost the run, as often as it said so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from math import inf
from typing import Any

import attrs

from durable_core import JournalEntry

Record = Mapping[str, Any]

ENDED_WELL = ("unit_completed",)
FAILED = ("attempt_failed", "unit_failed", "compensation_attempt_failed", "compensation_failed")


@attrs.frozen
class Unit:
    """What the ledger knows of one unit (or, with a ``~`` after it, of its compensation)."""

    run: str
    unit: str
    begins: Sequence[Record]
    order: Mapping[str, int]
    """Place in the ledger of each nonce's end."""


def units_of(records: Iterable[Record]) -> dict[tuple[str, str], Unit]:
    """The ledger by unit."""
    begins: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    ends: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for place, record in enumerate(records):
        where = (record["run"], record.get("unit", ""))
        if record["op"] == "begin":
            begins[where].append({**record, "place": place})
        elif record["op"] in ("end", "fail"):
            ends[where][record["nonce"]] = place
    return {
        where: Unit(run=where[0], unit=where[1], begins=found, order=ends[where])
        for where, found in begins.items()
    }


def drops(records: Iterable[Record]) -> Counter[tuple[int, str]]:
    """How often each process said that it had lost a run."""
    return Counter((record["pid"], record["run"]) for record in records if record["op"] == "lost")


def recorded_nonces(entries: Sequence[JournalEntry], unit: str) -> tuple[set[str], str | None]:
    """The nonces of all attempts on record, and that of the one that completed the unit."""
    found: set[str] = set()
    completed = None
    undoing = unit.endswith("~")
    for entry in entries:
        if str(entry.unit) != unit.rstrip("~"):
            continue
        if not undoing and entry.kind in ENDED_WELL:
            completed = entry.value["nonce"]
            found.add(completed)
        elif entry.kind in FAILED and entry.kind.startswith("compensation") == undoing:
            assert entry.failure is not None
            found.add(entry.failure.message)
    return found, completed


def check_unit(
    unit: Unit,
    entries: Sequence[JournalEntry],
    killed: Collection[int],
    dropped: Mapping[tuple[int, str], int],
) -> list[str]:
    """What is wrong with one unit."""
    where = f"{unit.run} {unit.unit}"
    wrong = []
    recorded, completed = recorded_nonces(entries, unit.unit)
    lost = [record for record in unit.begins if record["nonce"] not in recorded]
    if unit.unit.endswith("~"):
        # The journal keeps no value of a compensation: its last attempt is the one that counted.
        done = [e for e in entries if e.kind == "unit_compensated" and f"{e.unit}~" == unit.unit]
        if len(done) != 1:
            wrong.append(f"{where}: compensated {len(done)} times")
        if lost and done:
            completed = lost.pop()["nonce"]
            recorded.add(completed)
    for pid, times in Counter(record["pid"] for record in lost).items():
        excused = (pid in killed) + dropped.get((pid, unit.run), 0)
        if times > excused:
            wrong.append(
                f"{where}: process {pid} lost {times} attempts, and was killed or lost the run "
                f"{excused} times"
            )
    missing = recorded - {record["nonce"] for record in unit.begins}
    if missing:
        wrong.append(f"{where}: {len(missing)} attempts on record that never began")
    if len({record["key"] for record in unit.begins}) != 1:
        wrong.append(f"{where}: its idempotency key changed")
    if completed is not None:
        end = unit.order[completed]
        after = [record for record in unit.begins if record["place"] > end]
        wrong += [
            f"{where}: begun again after it was completed: {_shown(record)}" for record in after
        ]
    return wrong


def _shown(record: Record) -> str:
    return f"attempt {record['attempt']} by {record['pid']} at {record.get('at', 0):.3f}"


def check_order(
    run_id: str,
    entries: Sequence[JournalEntry],
    stages: Sequence[Collection[str]],
    ledger: Mapping[tuple[str, str], Unit],
) -> list[str]:
    """Whether no unit was begun before those of the stage before it were completed for good: an
    attempt that was lost must not have been built upon."""
    wrong = []
    for before, after in pairwise(stages):
        ends = [_completed_at(run_id, entries, unit, ledger) for unit in before]
        begins = [
            (record["place"], unit)
            for unit in after
            if (run_id, unit) in ledger
            for record in ledger[run_id, unit].begins
        ]
        if begins and min(begins)[0] < max(ends):
            wrong.append(f"{run_id} {min(begins)[1]}: begun before {before} was completed")
    return wrong


def _completed_at(
    run_id: str,
    entries: Sequence[JournalEntry],
    unit: str,
    ledger: Mapping[tuple[str, str], Unit],
) -> float:
    """The place in the ledger of the attempt that completed the unit; never, if there is none."""
    _, completed = recorded_nonces(entries, unit)
    return inf if completed is None else ledger[run_id, unit].order[completed]


def check_rollback(
    run_id: str,
    entries: Sequence[JournalEntry],
    wanted: Collection[str],
    ledger: Mapping[tuple[str, str], Unit],
) -> list[str]:
    """Whether exactly these units were undone, in reverse commit order, in both books."""
    committed = [str(e.unit) for e in entries if e.kind == "unit_completed"]
    undone = [str(e.unit) for e in entries if e.kind == "unit_compensated"]
    own = [unit for unit in undone if unit in committed]
    wrong = []
    if sorted(own) != sorted(wanted):
        wrong.append(f"{run_id}: undone were {sorted(own)}, not {sorted(wanted)}")
    if own != [unit for unit in reversed(committed) if unit in own]:
        wrong.append(f"{run_id}: undone in the order {own}, committed in {committed}")
    seen = [unit for unit in own if (run_id, f"{unit}~") in ledger]
    lasts = [_last_end(ledger[run_id, f"{unit}~"]) for unit in seen]
    if seen != own or lasts != sorted(lasts):
        wrong.append(f"{run_id}: the ledger has its compensations in another order")
    return wrong


def _last_end(unit: Unit) -> int:
    """Where the attempt that was begun last ended: it is the one that counted."""
    return unit.order.get(unit.begins[-1]["nonce"], -1)


def busy_with(records: Iterable[Record], pid: int) -> set[tuple[str, str]]:
    """The units that this process had begun and not ended."""
    busy: dict[str, tuple[str, str]] = {}
    for record in records:
        if record["pid"] != pid:
            continue
        if record["op"] == "begin":
            busy[record["nonce"]] = (record["run"], record["unit"])
        elif record["op"] in ("end", "fail"):
            busy.pop(record["nonce"], None)
    return set(busy.values())
