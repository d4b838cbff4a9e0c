"""Building: what each call declares. Reference cases S1-S6 and R1-R26, under our meaning."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from durable_core.errors import DefinitionError
from durable_core.kernel.policy import Retry
from durable_core.workflow import RUN_INPUT, SKIP, Branch, Registry, StepContext, Undo, Workflow
from durable_core.workflow.nodes import (
    ChildNode,
    LoopNode,
    MapNode,
    ParallelNode,
    RouteNode,
    SignalNode,
    SleepNode,
    StepNode,
)

Context = StepContext[Any, Any]


def work(ctx: Context) -> int:
    return 1


async def later(ctx: Context) -> int:
    return 1


def undo(ctx: Context) -> None: ...


child = Workflow("child").step("only", work)

everything = (
    Workflow("everything", input=dict, version="3")
    .step("a", work)
    .parallel("b", {"b1": work, "b2": Branch(later)})
    .map("c", lambda ctx: [1, 2], work)
    .route("d", lambda ctx: "x", {"x": work})
    .loop("e", work)
    .sleep("f", timedelta(seconds=1))
    .wait_for_signal("g", "go")
    .child("h", child)
    .returns(lambda ctx: 1)
)


def only(workflow: Workflow[Any, Any]) -> Any:
    (node,) = workflow.nodes
    return node


def test_every_kind_gives_an_ordered_flat_list() -> None:  # S1, R26
    assert [(node.kind, node.name) for node in everything.nodes] == [
        ("step", "a"),
        ("parallel", "b"),
        ("map", "c"),
        ("route", "d"),
        ("loop", "e"),
        ("sleep", "f"),
        ("signal", "g"),
        ("child", "h"),
    ]
    assert (everything.name, everything.version, everything.input_type) == ("everything", "3", dict)


def test_every_call_gives_a_new_workflow() -> None:
    one = Workflow("w")
    two = one.step("a", work)
    three = two.returns(lambda ctx: 1)
    assert (one.nodes, len(two.nodes), two.returned) == ((), 1, None)
    assert one != two
    assert two.nodes == three.nodes
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        two.name = "other"  # type: ignore[misc]


def test_the_defaults_of_a_step() -> None:  # S5, R2, R3
    node = only(Workflow("w").step("a", work))
    assert isinstance(node, StepNode)
    assert node.work.retry == Retry(max_attempts=3, initial=1, factor=2.0, max_delay=60, jitter=0.1)
    assert (node.work.timeout_ms, node.work.undo, node.transactional) == (None, None, False)


def test_the_policies_of_a_step_are_kept() -> None:  # S6, R4
    patient = Retry(max_attempts=9)
    node = only(
        Workflow("w").step(
            "a",
            work,
            compensate=Undo(undo, retry=patient, timeout=2),
            retry=patient,
            timeout=timedelta(milliseconds=1500),
            transactional=True,
        )
    )
    assert (node.work.retry, node.work.timeout_ms, node.transactional) == (patient, 1500, True)
    assert node.work.undo is not None
    assert (node.work.undo.retry, node.work.undo.timeout_ms) == (patient, 2000)


def test_a_bare_compensator_has_five_attempts() -> None:
    node = only(Workflow("w").step("a", work, compensate=undo))
    assert node.work.undo is not None
    assert (node.work.undo.handler, node.work.undo.retry.max_attempts) == (undo, 5)


def test_none_for_a_policy_is_the_default_one() -> None:
    node = only(Workflow("w").step("a", work, retry=None, timeout=None, compensate=None))
    assert node == only(Workflow("w").step("a", work))


def test_parallel_keeps_its_entries_in_order() -> None:  # R16, R18
    quick = Retry(max_attempts=1)
    entries: dict[str, Any] = {
        "z": work,
        "a": Branch(later, compensate=undo, retry=quick, timeout=1),
    }
    node = only(Workflow("w").parallel("p", entries, max_concurrency=2))
    assert isinstance(node, ParallelNode)
    assert [name for name, _ in node.entries] == ["z", "a"]
    (_, z), (_, a) = node.entries
    assert (z.retry.max_attempts, a.retry, a.timeout_ms) == (3, quick, 1000)
    assert (z.is_async, a.is_async, node.max_concurrency) == (False, True, 2)


def test_route_keeps_select_and_branches() -> None:  # R19
    node = only(Workflow("w").route("r", work, {"x": work, "y": Branch(later)}, otherwise=SKIP))
    assert isinstance(node, RouteNode)
    assert (node.select, [key for key, _ in node.branches]) == (work, ["x", "y"])
    assert node.otherwise is SKIP


def test_route_without_otherwise_has_none() -> None:
    assert only(Workflow("w").route("r", work, {"x": work})).otherwise is None


def test_the_defaults_of_a_loop() -> None:  # R21
    node = only(Workflow("w").loop("l", work))
    assert isinstance(node, LoopNode)
    assert (node.max_iterations, node.collect, node.on_exhausted) == (1000, False, "return")
    assert (node.initial, node.until, node.feedback) == (RUN_INPUT, None, None)


def test_the_cap_of_a_loop_can_be_set() -> None:  # R22
    assert only(Workflow("w").loop("l", work, max_iterations=7)).max_iterations == 7


def test_map_keeps_its_options() -> None:
    node = only(
        Workflow("w").map("m", lambda ctx: [], work, max_concurrency=3, min_success=0, retry=None)
    )
    assert isinstance(node, MapNode)
    assert (node.max_concurrency, node.min_success, node.work.takes) == (3, 0, 1)


@pytest.mark.parametrize(
    ("duration", "kept"),
    [
        (timedelta(seconds=2), 2000),
        (0.25, 250),
        (3, 3000),
        (timedelta(0), 0),
        (datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
        (work, work),
    ],
)
def test_sleep_takes_durations_moments_and_functions(duration: Any, kept: Any) -> None:  # R12, R13
    node = only(Workflow("w").sleep("s", duration))
    assert isinstance(node, SleepNode)
    assert node.duration == kept


def test_a_signal_is_called_like_its_step_unless_named() -> None:  # R14, R15
    named = only(Workflow("w").wait_for_signal("s", "risk.approved", type=int, timeout=2))
    assert isinstance(named, SignalNode)
    assert (named.signal, named.type, named.timeout_ms) == ("risk.approved", int, 2000)
    assert not named.may_time_out
    assert only(Workflow("w").wait_for_signal("s")).signal == "s"
    assert only(Workflow("w").wait_for_signal("s", str)).signal is str
    assert only(Workflow("w").wait_for_signal("s", timeout=1, on_timeout="continue")).may_time_out


def test_a_child_is_a_workflow_or_a_name() -> None:  # R23, R24: nothing is polled
    node = only(Workflow("w").child("c", child))
    assert isinstance(node, ChildNode)
    assert (node.workflow, node.workflow_name, node.input) == (child, "child", RUN_INPUT)
    assert only(Workflow("w").child("c", "other")).workflow_name == "other"


def test_a_workflow_registers_under_its_name() -> None:  # S4, R7
    assert Registry([everything]).latest("everything") is everything


@pytest.mark.parametrize(
    "again",
    [
        lambda w: w.step("a", work),
        lambda w: w.parallel("a", {"x": work}),
        lambda w: w.map("a", work, work),
        lambda w: w.route("a", work, {"x": work}),
        lambda w: w.loop("a", work),
        lambda w: w.sleep("a", 1),
        lambda w: w.wait_for_signal("a"),
        lambda w: w.child("a", child),
        lambda w: w.parallel("p", {"a": work}),
        lambda w: w.parallel("p", {"p": work}),
        lambda w: w.step("entry", work),
    ],
)
def test_steps_and_entries_share_one_name_space(again: Any) -> None:  # S2, R5, R25
    workflow = Workflow("w").step("a", work).parallel("before", {"entry": work})
    with pytest.raises(DefinitionError, match=r"workflow 'w', step .*is taken .* choose another"):
        again(workflow)


def test_route_keys_are_their_own_names() -> None:
    Workflow("w").step("x", work).route("r", work, {"x": work, "r": work})


def test_workflows_are_equal_by_what_they_declare() -> None:
    def build() -> Workflow[Any, Any]:
        return Workflow("w").step("a", work, retry=Retry(max_attempts=2)).loop("l", work)

    assert build() == build()
    assert hash(build()) == hash(build())
    assert len({build(), build(), build().sleep("s", 1)}) == 2


def test_a_workflow_shows_its_steps() -> None:
    assert repr(Workflow("w").step("a", work)) == "<Workflow 'w' version '1': step a>"
    assert repr(Workflow("w")) == "<Workflow 'w' version '1': no steps>"
