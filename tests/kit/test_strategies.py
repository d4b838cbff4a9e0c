"""What is drawn is well formed, of all kinds, prints as Python, and shrinks to next to nothing."""

from __future__ import annotations

import datetime
import subprocess
import sys
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from durable_core import DurableError, Workflow
from durable_core.codec.payload import JsonCodec
from durable_core.testing import generated
from durable_core.testing.generated import Generated, Gives, as_python
from durable_core.testing.plan import KINDS, RACES, Crash, Faults, Operate, SignalAt
from durable_core.testing.simulate import simulate
from durable_core.testing.strategies import faults, payloads, schedules, workflows
from durable_core.workflow.nodes import works_of

GO = {"go": 1}

order = (
    Workflow("order")
    .step("reserve", Gives(1), compensate=Gives())
    .parallel("check", {"price": Gives(1), "fraud": Gives(2)})
    .map("pick", lambda ctx: [1, 2], Gives(3))
    .child("ship", Workflow("shipping").step("label", Gives("l"), compensate=Gives()))
    .wait_for_signal("approved", "go", timeout=60)
)


calm = settings(database=None, max_examples=3_000, deadline=None, derandomize=True)
quick = settings(calm, phases=[Phase.generate])


def first(strategy: Any, condition: Any) -> Any:
    """The smallest that is so."""
    return find(strategy, condition, settings=calm)


def any_of(strategy: Any, condition: Any) -> Any:
    """One that is so."""
    return find(strategy, condition, settings=quick)


# --- faults --------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(faults(order, signals=GO))
def test_every_plan_fits_the_workflow(plan: Faults) -> None:
    sim = simulate(order, None, plan, signals=GO)
    assert sim.status in ("completed", "failed", "cancelled", "suspended", "compensation_failed")
    assert len(plan) <= 3


def test_plans_shrink_towards_no_fault() -> None:
    assert first(faults(order), lambda plan: True) == Faults()
    one = first(faults(order), lambda plan: any(isinstance(x, Crash) for x in plan.faults))
    assert one == Faults(Crash(unit="reserve"))


def test_plans_are_at_units_of_children_and_of_compensators_too() -> None:
    units = set()
    for wanted in ("check/fraud", "pick/1", "label", "undo label", "undo reserve"):
        plan = any_of(
            faults(order, max_faults=1),
            lambda plan, wanted=wanted: any(
                getattr(fault, "unit", None) == wanted for fault in plan.faults
            ),
        )
        units.add(plan.faults[0].unit)
    assert len(units) == 5


@given(faults(order, races=False, max_faults=8))
def test_without_races_nothing_may_change_the_result(plan: Faults) -> None:
    assert not plan.races


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_every_kind_of_fault_is_drawn(kind: type) -> None:
    found = any_of(
        faults(order, signals=GO, max_faults=1),
        lambda plan: any(isinstance(x, kind) for x in plan.faults),
    )
    assert (kind in RACES) == found.races


def test_signals_are_only_repeated_where_there_are_any() -> None:
    some = settings(quick, max_examples=500)
    with pytest.raises(NoSuchExample):
        find(faults(order), lambda plan: any(isinstance(x, SignalAt) for x in plan.faults),
             settings=some)  # fmt: skip


@given(schedules())
def test_schedules_name_no_unit(plan: Faults) -> None:
    assert all(getattr(fault, "unit", None) is None for fault in plan.faults)
    assert not any(isinstance(fault, Operate) for fault in plan.faults)


@given(faults(order, signals=GO))
def test_a_drawn_plan_prints_as_python_that_makes_it_again(plan: Faults) -> None:
    scope = {kind.__name__: kind for kind in (*KINDS, Faults)}
    assert eval(repr(plan), scope) == plan  # noqa: S307


# --- values --------------------------------------------------------------------------------------


@given(payloads())
def test_every_drawn_value_can_be_stored_and_is_the_same_when_it_is_read(value: Any) -> None:
    codec = JsonCodec()
    again = codec.decode(codec.encode(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("kind", [dict, list, tuple, set, bytes, datetime.datetime])
def test_values_are_of_many_types(kind: type) -> None:
    assert type(any_of(payloads(), lambda value: type(value) is kind)) is kind


# --- workflows -----------------------------------------------------------------------------------


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(workflows())
def test_every_drawn_workflow_can_be_run_to_an_end(workflow: Workflow[Any, Any]) -> None:
    sim = simulate(workflow, {"order": 1}, resume="yes")
    assert sim.status in ("completed", "failed", "compensation_failed"), sim.timeline()


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(workflows())
def test_a_drawn_workflow_prints_as_python_that_builds_it_again(
    workflow: Workflow[Any, Any],
) -> None:
    scope = {**vars(generated), "datetime": datetime, "UUID": UUID, "Decimal": Decimal}
    scope["Workflow"] = Generated  # so that it prints like the first
    again = eval(repr(workflow), scope)  # noqa: S307
    assert again == workflow


KINDS_OF_STEPS = ("step", "parallel", "map", "route", "loop", "sleep", "signal", "child")


def test_workflows_shrink_towards_one_step() -> None:
    assert len(first(workflows(), lambda workflow: True).nodes) == 1


@pytest.mark.parametrize("kind", KINDS_OF_STEPS)
def test_every_kind_of_step_is_drawn(kind: str) -> None:
    workflow = any_of(workflows(), lambda workflow: any(n.kind == kind for n in workflow.nodes))
    assert as_python(workflow).count(f".{'wait_for_signal' if kind == 'signal' else kind}(")


@pytest.mark.parametrize(
    "has",
    [
        lambda work: work.undo is not None,
        lambda work: work.timeout_ms is not None,
        lambda work: work.retry.max_attempts == 1,
        lambda work: work.is_async,
        lambda work: not work.is_async,
        lambda work: work.handler.suspends,
        lambda work: work.handler.failing > 2,
        lambda work: work.undo is not None and work.undo.handler.suspends,
    ],
    ids=["undo", "timeout", "retry", "async", "plain", "suspends", "fails", "undo suspends"],
)
def test_every_trait_of_a_handler_is_drawn(has: Any) -> None:
    assert any_of(
        workflows(1), lambda w: any(has(work) for node in w.nodes for _, work in works_of(node))
    )


def depth(workflow: Any) -> int:
    return 1 + max((depth(node.workflow) for node in workflow.nodes if node.kind == "child"),
                   default=0)  # fmt: skip


def test_children_lie_as_deep_as_asked_for_and_no_deeper() -> None:
    assert depth(any_of(workflows(), lambda workflow: depth(workflow) == 4)) == 4
    some = settings(quick, max_examples=300)
    with pytest.raises(NoSuchExample):
        find(workflows(2), lambda workflow: depth(workflow) > 2, settings=some)


def test_without_suspensions_nothing_needs_to_be_resumed() -> None:
    @settings(max_examples=30, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(workflows(2, suspends=False))
    def runs_to_an_end(workflow: Workflow[Any, Any]) -> None:
        assert simulate(workflow).status != "suspended"

    runs_to_an_end()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: workflows(0),
        lambda: workflows(True),
        lambda: faults(order, max_faults=-1),
        lambda: schedules(1.5),  # type: ignore[arg-type]
    ],
)
def test_a_size_that_makes_no_sense_is_refused(ask: Any) -> None:
    with pytest.raises(DurableError, match="whole number"):
        ask()


# --- by type -------------------------------------------------------------------------------------

BY_TYPE = """
from hypothesis import find, settings, strategies as st
calm = settings(database=None)
from durable_core import Workflow
from durable_core.testing.plan import Faults
print(find(st.from_type(Workflow), lambda one: True, settings=calm))
print(find(st.from_type(Faults), lambda one: True, settings=calm))
"""


def test_hypothesis_knows_our_types_by_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BY_TYPE],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    workflow, plan = done.stdout.splitlines()
    assert workflow.startswith("Workflow('main')."), done.stderr
    assert plan == "Faults()"


@pytest.mark.parametrize("module", ["strategies", "registering", "contract"])
def test_our_modules_may_be_what_imports_hypothesis_first(module: str) -> None:
    code = f"import durable_core.testing.{module}"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=100)


def test_a_workflow_with_types_is_drawn_too() -> None:
    assert isinstance(any_of(st.from_type(Workflow[Any, Any]), lambda one: True), Workflow)
