"""Checker: lays the ledger beside the journals and says where they disagree.

The ledger knows every attempt that was begun, by whom, and under which nonce; the journal knows
the nonce of every attempt that counted. An attempt that did not count must have been lost with
its worker: begun by a process that was killed, and at most one a process and unit.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
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
        where = (record["run"], record["unit"])
        if record["op"] == "begin":
            begins[where].append({**record, "place": place})
        else:
            ends[where][record["nonce"]] = place
    return {
        where: Unit(run=where[0], unit=where[1], begins=found, order=ends[where])
        for where, found in begins.items()
    }


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


def check_unit(unit: Unit, entries: Sequence[JournalEntry], killed: Collection[int]) -> list[str]:
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
    wrong += [
        f"{where}: attempt {record['attempt']} by {record['pid']}, which was not killed, is not "
        f"on record"
        for record in lost
        if record["pid"] not in killed
    ]
    twice = [pid for pid, n in Counter(record["pid"] for record in lost).items() if n > 1]
    if twice:
        wrong.append(f"{where}: processes {twice} lost more than one attempt")
    missing = recorded - {record["nonce"] for record in unit.begins}
    if missing:
        wrong.append(f"{where}: {len(missing)} attempts on record that never began")
    if len({record["key"] for record in unit.begins}) != 1:
        wrong.append(f"{where}: its idempotency key changed")
    if completed is not None:
        end = unit.order[completed]
        after = [record for record in unit.begins if record["place"] > end]
        if after:
            wrong.append(f"{where}: begun again after it was completed")
    return wrong


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
    lasts = [max(ledger[run_id, f"{unit}~"].order.values()) for unit in seen]
    if seen != own or lasts != sorted(lasts):
        wrong.append(f"{run_id}: the ledger has its compensations in another order")
    return wrong


def busy_with(records: Iterable[Record], pid: int) -> set[tuple[str, str]]:
    """The units that this process had begun and not ended."""
    busy: dict[str, tuple[str, str]] = {}
    for record in records:
        if record["pid"] != pid:
            continue
        if record["op"] == "begin":
            busy[record["nonce"]] = (record["run"], record["unit"])
        else:
            busy.pop(record["nonce"], None)
    return set(busy.values())
