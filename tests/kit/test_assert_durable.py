"""The one-liner: it passes what is durable, and tells the smallest plan that breaks what is not."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st

from durable_core import DurableError, Retry, Suspend, Workflow
from durable_core.testing import (
    CounterexampleError,
    Crash,
    Raising,
    Simulation,
    assert_durable,
)
from durable_core.testing.generated import Gives

Ctx = Any


class Shop:
    """Knows the keys it was paid with, or not."""

    def __init__(self, *, careful: bool = True) -> None:
        self.careful = careful
        self.payments: list[str] = []
        self.holds: set[str] = set()

    def pay(self, key: str) -> None:
        if not (self.careful and key in self.payments):
            self.payments.append(key)


def careless() -> Shop:
    return Shop(careful=False)


async def reserve(ctx: Ctx) -> int:
    ctx.deps.holds.add(ctx.run_id)
    return len(ctx.input["items"])


async def release(ctx: Ctx) -> None:
    ctx.deps.holds.discard(ctx.run_id)


async def pay(ctx: Ctx) -> str:
    ctx.deps.pay(ctx.idempotency_key)
    return "paid"


checkout = (
    Workflow("checkout")
    .step("reserve", reserve, compensate=release)
    .step("pay", pay, retry=Retry(max_attempts=3))
    .wait_for_signal("approval", "ok", timeout=timedelta(days=2))
)
carts = st.fixed_dictionaries({"items": st.lists(st.integers(1, 9), max_size=3)})


def paid_once(sim: Simulation) -> None:
    assert len(sim.deps.payments) <= 1, "paid twice"
    if sim.status == "failed" and sim.committed("reserve"):
        assert not sim.deps.holds


@pytest.mark.parametrize("inputs", [{"items": [1]}, carts], ids=["value", "strategy"])
def test_a_durable_workflow_passes(inputs: Any) -> None:
    assert_durable(
        checkout, inputs, deps=Shop, signals={"ok": True}, check=paid_once, max_examples=50
    )


def test_an_effect_that_forgets_its_key_is_found_with_the_smallest_plan() -> None:
    with pytest.raises(CounterexampleError) as caught:
        assert_durable(
            checkout, carts, deps=careless, signals={"ok": True}, check=paid_once, max_examples=50
        )
    found = caught.value.counterexample
    (fault,) = found.plan.faults
    assert fault in (Crash(unit="pay", when="after"), Raising(unit="pay", when="after"))
    assert "paid twice" in str(caught.value)
    assert caught.value.__notes__ == ["workflow 'checkout' with the input {'items': []}"]
    assert isinstance(caught.value.__cause__, AssertionError)


def test_random_plans_find_what_no_single_fault_shows() -> None:
    def dies_once(sim: Simulation) -> None:
        assert sim.fired["Crash"] < 2, "died twice"

    flow = Workflow("flow").step("only", Gives(1))
    with pytest.raises(CounterexampleError, match="died twice") as caught:
        assert_durable(flow, check=dies_once, crashes=0, max_examples=4000)
    assert {type(fault) for fault in caught.value.counterexample.plan.faults} == {Crash}
    assert len(caught.value.counterexample.plan) == 2


def test_inputs_are_made_small_too() -> None:
    async def many(ctx: Ctx) -> int:
        if ctx.input > 10 and ctx.attempt > 1:
            raise LookupError
        return random.randrange(10**9) if ctx.input > 10 else 1

    def never_fails(sim: Simulation) -> None:
        raised = [fault.times for fault in sim.plan.faults if isinstance(fault, Raising)]
        assert sim.status != "failed" or max(raised, default=0) >= Retry().max_attempts

    flow = Workflow("flow").step("many", many)
    with pytest.raises(CounterexampleError) as caught:
        assert_durable(flow, st.integers(0, 1_000), check=never_fails, max_examples=1_000)
    assert caught.value.__notes__ == ["workflow 'flow' with the input 11"]


def test_a_run_that_suspends_is_resumed() -> None:
    async def ask(ctx: Ctx) -> Any:
        return Suspend("may I?") if ctx.resumption is None else ctx.resumption.data

    def answered(sim: Simulation) -> None:
        if not sim.plan.races:
            assert sim.result == {"ask": "yes"}

    agent = Workflow("agent").step("ask", ask)
    assert_durable(agent, resume="yes", check=answered, max_examples=50)


def test_a_result_that_depends_on_the_schedule_is_found_without_being_asked_for() -> None:
    calls: list[int] = []

    async def counts(ctx: Ctx) -> int:
        ctx.deps.append(1)
        return len(ctx.deps)

    flow = Workflow("flow").step("counts", counts)
    with pytest.raises(CounterexampleError, match="depends on the schedule"):
        assert_durable(flow, deps=lambda: list(calls), max_examples=50)


def test_without_crashes_only_the_random_part_is_done() -> None:
    plans = set()
    assert_durable(
        Workflow("flow").step("one", Gives(1)),
        check=lambda sim: plans.add(sim.plan),
        crashes=0,
        max_examples=10,
    )
    assert 1 <= len(plans) <= 10


@pytest.mark.parametrize("crashes", [-1, 3, True])
def test_what_makes_no_sense_is_refused(crashes: Any) -> None:
    with pytest.raises(DurableError, match="crashes must be"):
        assert_durable(checkout, crashes=crashes)
