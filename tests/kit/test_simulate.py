"""A simulation is the real engine, deterministic, and ends; its faults do what they say."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from durable_core import DurableError, Retry, Suspend, Workflow
from durable_core.testing.plan import (
    ClockJump,
    Crash,
    Faults,
    Operate,
    Pause,
    Raising,
    SignalAt,
    Slow,
    Stop,
    StoreError,
    Theft,
)
from durable_core.testing.simulate import Signal, simulate
from durable_core.testing.world import SimulationLimitError

Ctx = Any


class Shop:
    """The world outside: what handlers did to it stays done."""

    def __init__(self) -> None:
        self.holds: set[str] = set()
        self.paid: list[str] = []


async def reserve(ctx: Ctx) -> int:
    ctx.deps.holds.add(ctx.idempotency_key)
    return len(ctx.input["items"])


async def release(ctx: Ctx) -> None:
    ctx.deps.holds.clear()


def price(ctx: Ctx) -> int:
    return 10


async def pay(ctx: Ctx) -> str:
    ctx.deps.paid.append(ctx.idempotency_key)
    return "paid"


checkout = (
    Workflow("checkout")
    .step("reserve", reserve, compensate=release)
    .parallel("check", {"price": price, "fraud": price})
    .step("pay", pay, retry=Retry(max_attempts=3), timeout=timedelta(seconds=20))
    .wait_for_signal("approval", "ok", timeout=timedelta(days=2))
    .sleep("settle", timedelta(hours=24))
    .returns(lambda c: {"paid": c.results["pay"], "items": c.results["reserve"]})
)
CART = {"items": [1, 2]}
PAID = {"paid": "paid", "items": 2}


def play(*faults: Any, **options: Any) -> Any:
    return simulate(checkout, CART, Faults(*faults, **options), deps=Shop, signals={"ok": True})


def test_a_quiet_simulation_does_everything_once() -> None:
    sim = play()
    assert (sim.status, sim.result) == ("completed", PAID)
    for unit in ("reserve", "check/price", "check/fraud", "pay"):
        assert sim.invocations(unit) == sim.committed(unit) == 1
    assert sim.invocations("undo reserve") == sim.committed("undo reserve") == 0
    assert len(sim.deps.paid) == 1
    assert [entry.kind for entry in sim.journal][-1] == "run_completed"
    assert sim.world.time.seconds > 24 * 3600 - 1


@pytest.mark.parametrize(
    "fault",
    [
        Crash(unit="pay"),
        Crash(unit="pay", when="after"),
        Crash(verb="commit", nth=2),
        Crash(verb="commit", nth=2, when="after"),
        Crash(verb="claim"),
        Crash(verb="claim", when="after"),
        Pause(unit="pay", when="after"),
        Pause(verb="commit", nth=3),
        Pause(verb="commit", nth=3, when="after"),
        StoreError(verb="commit"),
        StoreError(verb="commit", kind="lost"),
        StoreError(verb="commit", kind="landed"),
        StoreError(verb="claim", kind="landed"),
        Theft(nth=2),
        ClockJump(nth=4, seconds=7_200),
        ClockJump(nth=4, seconds=-7_200),
        Stop(nth=5),
        SignalAt(nth=3, copies=2),
        Slow(unit="pay", seconds=10),
        Slow(unit="pay", seconds=30),
        Raising(unit="pay", times=2),
        Raising(unit="pay", when="after"),
    ],
)
def test_no_fault_that_should_not_changes_the_result(fault: Any) -> None:
    sim = play(fault)
    assert sum(sim.fired.values()) >= 1, "the fault did not happen"
    assert (sim.status, sim.result) == ("completed", PAID), sim.timeline()
    assert sim.committed("pay") == 1
    assert len(set(sim.deps.paid)) == 1, "the key is the same in every call"


def test_a_crash_after_the_effect_repeats_it_with_the_same_key() -> None:
    sim = play(Crash(unit="pay", when="after"))
    assert sim.invocations("pay") == 2 and sim.committed("pay") == 1
    assert len(sim.deps.paid) == 2 and len(set(sim.deps.paid)) == 1
    assert "x" in sim.timeline()


def test_a_handler_that_always_raises_fails_the_run_and_rolls_it_back() -> None:
    sim = play(Raising(unit="pay", times=9))
    assert sim.status == "failed" and sim.invocations("pay") == 3
    assert sim.committed("undo reserve") == 1 and not sim.deps.holds
    assert sim.failure is not None and "Injected" in str(sim.failure)


def test_the_timeline_says_why_a_handler_failed() -> None:
    async def odd(ctx: Any) -> None:
        raise KeyError(object())

    sim = simulate(Workflow("flow").step("odd", odd, retry=Retry(max_attempts=1)))
    assert "fails odd  (KeyError: <object object at 0x…>)" in sim.timeline()
    assert (
        sim.timeline()
        == simulate(Workflow("flow").step("odd", odd, retry=Retry(max_attempts=1))).timeline()
    )


def test_an_operator_can_cancel_at_any_commit() -> None:
    statuses = {play(Operate(what="cancel", nth=nth)).status for nth in range(1, 4)}
    assert statuses == {"cancelled"}


def test_every_run_dropped_after_each_commit_comes_to_the_same() -> None:
    sim = play(always_suspend=True)
    assert (sim.status, sim.result) == ("completed", PAID)
    assert len({call.process for call in sim.world.calls}) > 1


def test_equal_plans_give_equal_chronicles() -> None:
    plan = (Crash(unit="pay", when="after"), Theft(nth=2), Stop(nth=9))
    assert play(*plan).trace == play(*plan).trace
    assert play(*plan, seed=1).status == "completed"
    assert play(*plan).trace != play().trace


def test_a_plan_prints_as_python_that_makes_it_again() -> None:
    plan = Faults(
        Crash(unit="pay", when="after"), StoreError(verb="commit", nth=2, kind="lost"), workers=3
    )
    assert repr(plan) == (
        "Faults(Crash(unit='pay', when='after'), StoreError(verb='commit', nth=2, kind='lost'), "
        "workers=3)"
    )
    assert eval(repr(plan)) == plan  # noqa: S307


def test_a_run_that_waits_for_what_never_comes_is_suspended() -> None:
    waits = Workflow("w").wait_for_signal("go")
    sim = simulate(waits)
    assert sim.status == "suspended"
    assert [wait.kind for wait in sim.waiting_for] == ["signal"]


def test_a_suspended_handler_is_resumed() -> None:
    async def ask(ctx: Ctx) -> Any:
        return Suspend("may I?") if ctx.resumption is None else ctx.resumption.data

    agent = Workflow("agent").step("ask", ask)
    assert simulate(agent).status == "suspended"
    sim = simulate(agent, resume="yes")
    assert sim.result == {"ask": "yes"} and sim.invocations("ask") == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"plan": Faults(Crash(unit="pya"))}, "no step is called 'pya'"),
        ({"signals": {"okay": 1}}, "never waits for a signal 'okay'"),
        ({"signals": ["ok"]}, "signals must be"),
        ({"deps": Shop()}, "deps must make"),
        ({"plan": [Crash(unit="pay")]}, "plan must be a Faults"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(DurableError, match=says):
        simulate(checkout, CART, **{"deps": Shop, **options})


@pytest.mark.parametrize(
    "make",
    [
        Crash,
        lambda: Crash(unit="a", verb="commit"),
        lambda: Crash(verb="comit"),
        lambda: Crash(unit="a", nth=0),
        lambda: Pause(unit="a", leases=float("nan")),
        lambda: Faults(workers=4),
        lambda: Faults("crash"),  # type: ignore[arg-type]
        lambda: Operate(what="explode"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(DurableError):
        make()


def test_a_workflow_that_never_ends_is_stopped() -> None:
    async def again(ctx: Ctx, value: int) -> int:
        return value

    endless = Workflow("endless").loop(
        "spin", again, initial=1, until=lambda r, n: False, max_iterations=49_000
    )
    with pytest.raises(SimulationLimitError, match="does the workflow end"):
        simulate(endless)


def test_asking_for_a_unit_there_is_none_of_is_an_error() -> None:
    with pytest.raises(DurableError, match="no step is called 'payy'"):
        play().invocations("payy")


def test_signals_that_are_not_early_come_when_the_plan_says() -> None:
    late = Signal("ok", True, early=False)
    sim = simulate(checkout, CART, Faults(SignalAt(nth=3)), deps=Shop, signals=[late])
    assert (sim.status, sim.result) == ("completed", PAID)
    assert simulate(checkout, CART, deps=Shop, signals=[late]).status == "failed"


def test_threads_of_the_loop_are_simulated_and_the_network_is_refused() -> None:
    async def threaded(ctx: Ctx) -> int:
        return await asyncio.to_thread(lambda: 7)

    async def reaches_out(ctx: Ctx) -> None:
        await asyncio.open_connection("127.0.0.1", 9)

    assert simulate(Workflow("threaded").step("a", threaded)).result == {"a": 7}
    sim = simulate(Workflow("online").step("a", reaches_out, retry=Retry(max_attempts=1)))
    assert sim.status == "failed" and "cannot reach the network" in str(sim.failure)


def test_a_signal_that_is_sent_again_is_known_whatever_came_early() -> None:
    waits = Workflow("w").wait_for_signal("a", "go").step("s", price).wait_for_signal("b", "stop")
    signals = [Signal("stop", 2, early=False), Signal("go", 1)]
    sim = simulate(waits, None, Faults(SignalAt(nth=1, copies=2)), signals=signals)
    assert sim.status == "completed"
    assert sim.world.stored["run"].arrived == 2, "each of the two came once"
