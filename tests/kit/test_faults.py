"""Faults of workers: a cancellation at any await, clocks that are off, a store that is slow or out
of reach; each happens, and changes nothing that it must not."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import find, settings

from durable_core import DurableError, Workflow
from durable_core.testing import (
    Delay,
    Faults,
    Interrupt,
    Skew,
    StoreError,
    explore,
    faults,
    simulate,
    violations,
)
from durable_core.testing.plan import OUTAGE
from durable_core.testing.points import at_any_await

Ctx = Any


class Desk:
    """The world outside."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.left: list[str] = []
        self.read: list[float] = []


async def works(ctx: Ctx) -> str:
    ctx.deps.begun.append(ctx.unit)
    ctx.deps.read.append(time.time())
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        ctx.deps.left.append(ctx.unit)
        raise
    return str(ctx.unit)


def quick(ctx: Ctx) -> int:
    return 1


flow = (
    Workflow("flow")
    .step("a", works)
    .parallel("both", {"x": works, "y": quick})
    .sleep("rest", 90)
    .wait_for_signal("go", timeout=3_600)
    .step("b", works)
)
RESULT = {"a": "a", "both": {"x": "both/x", "y": 1}, "go": "now", "b": "b"}


def play(*plan: Any, **options: Any) -> Any:
    return simulate(flow, None, Faults(*plan, **options), deps=Desk, signals={"go": "now"})


QUIET = play()


def is_sound(sim: Any) -> None:
    assert not sim.world.missed, "the fault did not happen"
    assert sim.status == "completed" and sim.result == RESULT, sim.timeline()
    assert violations(sim, QUIET) == [], sim.timeline()


# --- a worker is cancelled -----------------------------------------------------------------------


def test_a_worker_is_cancelled_at_every_await_and_hands_its_runs_back() -> None:
    turns = QUIET.world.turns
    assert turns > 100
    handlers_left = 0
    for nth in range(1, turns + 1):
        sim = play(Interrupt(nth=nth))
        is_sound(sim)
        assert sim.fired["Interrupt"] == 1
        assert not sim.world.witness.holdings.takeovers, "a lease had to run out"
        handlers_left += len(sim.deps.left)
        assert len(sim.deps.begun) - len(sim.deps.left) == 3
    assert handlers_left > 0, "no handler was at work when its worker was cancelled"


def test_a_worker_that_is_cancelled_while_it_drains_hands_its_runs_back_too() -> None:
    times = 0
    for nth in range(1, QUIET.world.turns, 3):
        sim = play(Interrupt(nth=nth), Interrupt(nth=nth + 4), workers=1)
        if not sim.world.missed:
            times += 1
            is_sound(sim)
            assert not sim.world.witness.holdings.takeovers
    assert times > 10


def test_every_await_of_the_quiet_simulation_is_a_point_of_explore() -> None:
    points = list(at_any_await(QUIET))
    assert [point.faults for point in points] == [
        (Interrupt(nth=nth),) for nth in range(1, QUIET.world.turns + 1)
    ]


# --- clocks of its own ---------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [1.0, -3_600.0, 86_400.0, -1e9 + 1, 1e9 - 1])
@pytest.mark.parametrize("worker", [1, 2])
def test_the_engine_does_not_care_for_the_clock_of_a_worker(worker: int, seconds: float) -> None:
    sim = play(Skew(worker=worker, seconds=seconds))
    is_sound(sim)
    assert sim.fired == {"Skew": 1}
    assert _told(sim) == _told(QUIET)


def _told(sim: Any) -> list[Any]:
    """What happened when; of two workers that wake up at the same time either may be first."""
    return [
        (round(event.at_s, 2), event.what, event.where, event.detail)
        for event in sim.world.chronicle
        if event.what != "its clock is off"
    ]


def test_a_handler_sees_the_clock_of_its_worker() -> None:
    right, wrong = QUIET.deps.read, play(Skew(seconds=500.0), workers=1).deps.read
    assert [round(one - other) for one, other in zip(wrong, right, strict=True)] == [500] * 3


# --- a store that is slow, or out of reach -------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("seconds", [1.0, 75.0])
def test_a_slow_commit_costs_time_and_nothing_else(when: Any, seconds: float) -> None:
    for nth in range(1, QUIET.world.witness.counts["commit"] + 1):
        sim = play(Delay(verb="commit", nth=nth, seconds=seconds, when=when))
        is_sound(sim)
        assert sim.fired == {"Delay": 1}
        assert sim.deps.begun == QUIET.deps.begun, "the lease is renewed meanwhile"
    first = play(Delay(verb="commit", seconds=75.0, when=when))
    assert first.world.witness.landed[1].at_s >= 75.0


@pytest.mark.parametrize("verb", ["claim", "renew"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_other_slow_calls_change_nothing_either(verb: str, when: Any) -> None:
    for nth in range(1, QUIET.world.witness.counts[verb] + 1):
        is_sound(play(Delay(verb=verb, nth=nth, seconds=75.0, when=when)))


def test_a_worker_that_ends_waits_for_a_slow_claim() -> None:
    for nth in range(1, QUIET.world.turns, 3):
        sim = play(Delay(verb="claim", seconds=2.0, when="after"), Interrupt(nth=nth), workers=1)
        if not sim.world.missed:
            is_sound(sim)
            assert not sim.world.witness.holdings.takeovers


@pytest.mark.parametrize("kind", ["refused", "lost", "landed"])
def test_a_store_that_is_out_of_reach_for_longer_than_a_lease(kind: str) -> None:
    sim = play(StoreError(verb="commit", nth=2, kind=kind, times=OUTAGE))
    is_sound(sim)
    if kind != "landed":  # what has landed is not sent again
        assert sim.fired == {"StoreError": OUTAGE}
        assert sim.world.mishaps.over_s > 30


# --- as data -------------------------------------------------------------------------------------


def test_they_print_as_python_that_makes_them_again() -> None:
    plan = Faults(
        Interrupt(nth=7),
        Skew(worker=2, seconds=-1.0),
        Delay(verb="commit", seconds=2.0, when="after"),
        StoreError(verb="claim", times=3),
    )
    assert repr(plan) == (
        "Faults(Interrupt(nth=7), Skew(worker=2, seconds=-1.0), "
        "Delay(verb='commit', seconds=2.0, when='after'), StoreError(verb='claim', times=3))"
    )
    assert eval(repr(plan)) == plan  # noqa: S307
    assert not plan.races


@pytest.mark.parametrize(
    ("kind", "smallest"),
    [
        (Interrupt, Interrupt()),
        (Skew, Skew(seconds=1.0)),
        (Delay, Delay(verb="commit", seconds=1.0)),
    ],
)
def test_they_shrink_to_the_mildest(kind: type, smallest: Any) -> None:
    found = find(
        faults(flow),
        lambda plan: any(isinstance(fault, kind) for fault in plan.faults),
        settings=settings(max_examples=5_000, database=None, derandomize=True),
    )
    assert found == Faults(smallest)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Interrupt(nth=0),
        lambda: Skew(worker=0),
        lambda: Skew(seconds=float("nan")),
        lambda: Delay(verb="comit"),
        lambda: Delay(verb="commit", seconds=-1),
        lambda: StoreError(verb="commit", times=0),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any) -> None:
    with pytest.raises(DurableError):
        make()


def test_explore_makes_them_happen() -> None:
    report = explore(Workflow("one").step("a", quick))
    report.check()
    assert min(report.fired[kind] for kind in ("Interrupt", "Skew", "Delay")) > 2
