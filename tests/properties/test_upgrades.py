"""What the diff of two definitions says of a position is what the kernel does with a run there."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from durable_core import Workflow
from durable_core.engine.client.exporting import RunExport
from durable_core.kernel.journal import ChildFailed, UnitFailed
from durable_core.testing.generated import Generated, Gives
from durable_core.testing.replay import exported, replay
from durable_core.testing.simulate import simulate
from durable_core.testing.strategies import workflows
from durable_core.workflow.nodes import SleepNode, StepNode
from durable_core.workflow.upgrade import Position, judge

Flow = Workflow[Any, Any]

added = Generated("any").step("new", Gives()).nodes[0]


def with_nodes(workflow: Flow, nodes: list[Any]) -> Flow:
    changed = Generated.__new__(Generated)
    workflow._fill(changed, tuple(nodes), workflow.returned)
    return changed


@st.composite
def edited(draw: st.DrawFn) -> tuple[Flow, Flow]:
    """A workflow, and the same with steps dropped, moved, added, or of another kind."""
    old = draw(workflows(2, suspends=False))
    nodes = list(old.nodes)
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, max(0, len(nodes) - 1)))
        match draw(st.sampled_from(("drop", "move", "add", "turn"))):
            case "drop" if nodes:
                nodes.pop(place)
            case "move" if nodes:
                nodes.insert(draw(st.integers(0, len(nodes) - 1)), nodes.pop(place))
            case "add" if added not in nodes:
                nodes.insert(place, added)
            case "turn" if nodes:
                name = nodes[place].name
                sleeps = isinstance(nodes[place], StepNode)
                other = SleepNode(name=name, duration=1) if sleeps else attrs.evolve(
                    added, name=name
                )  # fmt: skip
                nodes[place] = other
            case _:
                pass
    return old, with_nodes(old, nodes)


def _until_failed(run: RunExport) -> int:
    """How many entries come before the first failure: of a run that is rolled back there is no
    position, as what of the new definition it would have come to is another question."""
    failed = (UnitFailed.kind, ChildFailed.kind)
    places = [place for place, entry in enumerate(run.entries) if entry.kind in failed]
    return places[0] if places else len(run.entries)


@settings(max_examples=100, deadline=None)
@given(edited())
def test_the_diff_says_parks_where_replay_does_not_fit(pair: tuple[Flow, Flow]) -> None:
    old, new = pair
    whole = exported(simulate(old, {"order": 1}))
    for length in range(_until_failed(whole) + 1):
        cut = attrs.evolve(whole, entries=whole.entries[:length])
        stands = replay(old, cut)
        assert stands.error is None and len(stands.begun) <= 1
        begun = stands.begun[0] if stands.begun else None
        verdict, reasons = judge(old, new, Position(stands.done, begun))
        result = replay(new, cut)
        assert (verdict == "parks") == (result.error is not None), (reasons, result)
