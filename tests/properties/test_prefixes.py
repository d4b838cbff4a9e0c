"""I-REPLAY: going on from any prefix of a journal ends as going in one go.

A random workflow of all kinds is run once. For prefixes of its journal, a new run is created that
has these entries already, as if a worker had died after the last of them, and is run to its end by
the whole engine. Status, failure and what was completed must be the same.
"""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.properties.lifetimes import Machine
from tests.properties.plans import Plan, plans, workflow_of
from tests.properties.test_crash_points import outcome, told

from durable_core.codec.records import entry_to_record
from durable_core.kernel.event import MessageKind
from durable_core.kernel.journal import (
    Entry,
    RunCompleted,
    SignalConsumed,
    UnitCompensated,
    UnitCompleted,
    UnitFailed,
)
from durable_core.kernel.value import Payload
from durable_core.store import Message

EARLY = Message(run_id="run", kind=MessageKind.SIGNAL, name="go", payload=Payload(b'"early"'))


def go_on_from(plan: Plan, prefix: list[Entry]) -> Machine:
    machine = Machine([workflow_of(plan)])
    if prefix:
        machine.time.advance(prefix[-1].at_ms - machine.time.now_ms())
    consumed = any(isinstance(entry, SignalConsumed) for entry in prefix)
    run = machine.new_run("main", {"order": 1})
    run = attrs.evolve(run, entries=tuple(map(entry_to_record, prefix)))
    machine.run_to_the_end(run, [] if consumed else [EARLY])
    return machine


def done(machine: Machine) -> set[tuple[Any, ...]]:
    lasting = (UnitCompleted, UnitFailed, UnitCompensated, RunCompleted)
    return {told(entry) for entry in machine.journal() if isinstance(entry, lasting)}


def without_children(plan: Plan) -> bool:
    """A child run is not in the prefix of its parent."""
    return all(block.kind != "child" for block in plan.blocks)


@settings(max_examples=40)
@given(plans().filter(without_children), st.data())
def test_every_prefix_of_a_journal_goes_on_to_the_same_end(plan: Plan, data: st.DataObject) -> None:
    whole = go_on_from(plan, [])
    entries = whole.journal()
    lengths = data.draw(st.sets(st.integers(1, len(entries) - 1), max_size=6), "prefixes") or {1}
    for length in lengths if len(entries) > 1 else ():
        again = go_on_from(plan, entries[:length])
        assert outcome(again) == outcome(whole)
        assert done(again) == done(whole)
        assert [told(entry) for entry in again.journal()[:length]] == [
            told(entry) for entry in entries[:length]
        ]
