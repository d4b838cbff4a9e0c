"""I-CRASH: the result and the journal do not depend on where the process dies.

A random workflow is run once undisturbed, and once for each of some calls it makes to its
store, dying before or after that call took effect. Status, result and journal must be the same
every time, and no unit may be called more often than its failed attempts and the deaths allow.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.properties.lifetimes import CrashPoint, Machine
from tests.properties.plans import Plan, plans, workflow_of

from durable_core.codec.records import failure_from_text
from durable_core.kernel.event import MessageKind
from durable_core.kernel.journal import (
    Entry,
    RunCompleted,
    UnitCompleted,
)
from durable_core.kernel.value import Payload
from durable_core.store import Message

EARLY = Message(run_id="run", kind=MessageKind.SIGNAL, name="go", payload=Payload(b'"early"'))


def live(plan: Plan, crashes: list[CrashPoint], path: Path | None = None) -> Machine:
    machine = Machine([workflow_of(plan)], crashes, path=path)
    machine.run_to_the_end(machine.new_run("main", {"order": 1}), [EARLY])
    return machine


def told(entry: Entry) -> tuple[Any, ...]:
    """An entry without what may differ: its place, its time and the traceback's text."""
    value = getattr(entry, "payload", None)
    if isinstance(entry, RunCompleted):
        value = (entry.payload, str(entry.shape))
    failure = getattr(entry, "failure", None)
    return (entry.kind, str(entry.unit), value, None if failure is None else str(failure))


def outcome(machine: Machine) -> tuple[Any, ...]:
    record = machine.record("run")
    failure = None if record.failure is None else str(failure_from_text(record.failure))
    return (record.status, failure)


def check_calls(machine: Machine, crashed: int) -> None:
    """I4: calls of a unit <= recorded failures + 1 + deaths."""
    entries = machine.journal()
    failed = Counter(str(e.unit) for e in entries)
    completed = Counter(str(e.unit) for e in entries if isinstance(e, UnitCompleted))
    assert all(count == 1 for count in completed.values())
    for (run_id, unit, _), count in machine.started.items():
        if run_id == "run":
            assert count <= failed[unit] + 1 + crashed


@settings(max_examples=60)
@given(plans(), st.data())
def test_a_death_at_any_store_call_changes_neither_result_nor_journal(
    plan: Plan, data: st.DataObject
) -> None:
    plain = live(plan, [])
    expected = Counter(told(entry) for entry in plain.journal())
    points = data.draw(
        st.lists(
            st.builds(CrashPoint, st.integers(0, plain.calls - 1), st.booleans()),
            min_size=1,
            max_size=8,
            unique=True,
        )
    )
    for point in points:
        crashed = live(plan, [point])
        assert crashed.crashes == [], "the crash did not happen"
        assert outcome(crashed) == outcome(plain)
        assert Counter(told(entry) for entry in crashed.journal()) == expected
        check_calls(crashed, 1)


@settings(max_examples=60)
@given(plans(), st.data())
def test_several_deaths_in_one_life_of_a_run_change_nothing(
    plan: Plan, data: st.DataObject
) -> None:
    plain = live(plan, [])
    numbers = data.draw(st.sets(st.integers(0, plain.calls - 1), min_size=2, max_size=4))
    crashed = live(plan, [CrashPoint(number, data.draw(st.booleans())) for number in numbers])
    assert outcome(crashed) == outcome(plain)
    assert Counter(map(told, crashed.journal())) == Counter(map(told, plain.journal()))
    check_calls(crashed, len(numbers))


@settings(max_examples=15)
@given(plans(), st.data())
def test_the_same_on_a_sqlite_file(plan: Plan, data: st.DataObject) -> None:
    plain = live(plan, [])
    with tempfile.TemporaryDirectory() as folder:
        same = live(plan, [], Path(folder, "plain.db"))
        assert same.calls == plain.calls
        numbers = data.draw(st.sets(st.integers(0, plain.calls - 1), min_size=1, max_size=4))
        for number in numbers:
            point = CrashPoint(number, data.draw(st.booleans()))
            crashed = live(plan, [point], Path(folder, f"{number}.db"))
            assert crashed.crashes == [], "the crash did not happen"
            assert outcome(crashed) == outcome(plain)
            assert Counter(map(told, crashed.journal())) == Counter(map(told, plain.journal()))
            check_calls(crashed, 1)
