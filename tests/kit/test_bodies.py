"""The kit on workflows as async code: every planted mistake is found, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.bodies import (
    Ctx,
    begins_anew,
    clean_bodies,
    counts_outside,
    double,
    fails_at_last,
    hold,
    orders,
    pay,
    pays_without_key,
    planted_bodies,
)
from tests.kit.clean import Clean
from tests.kit.planted import Planted, Shop, found, paid_once

from durable_core import DurableError, Workflow, workflow
from durable_core.testing import (
    CounterexampleError,
    Crash,
    Faults,
    assert_durable,
    check_upgrade,
    faults,
    replay,
    simulate,
    violations,
)
from durable_core.testing.surroundings import unheard

SECONDS_MAX = 5.0
PLANTED = planted_bodies()
CLEAN = clean_bodies()


@pytest.mark.parametrize("case", PLANTED, ids=[f"{case.name} ({case.by})" for case in PLANTED])
def test_a_planted_mistake_is_found(case: Planted) -> None:
    said, seconds = found(case)
    assert case.says in said, said or "nothing was found"
    assert case.unit in said, said
    assert seconds < SECONDS_MAX


@pytest.mark.parametrize("case", CLEAN, ids=[case.name for case in CLEAN])
def test_a_clean_body_raises_no_alarm(case: Clean) -> None:
    assert case.alarm() == ""


@workflow
async def catches_everything(ctx: Ctx) -> int:
    rounds = 0
    while True:
        try:
            ctx.now(), ctx.random(), ctx.patched("new"), ctx.compensate(double, 1)
            rounds = await ctx.step(double, rounds + 1)
            if rounds > 20:
                return rounds
        except BaseException:
            rounds = 30


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_body_that_catches_everything_is_dropped_all_the_same() -> None:
    """It caught what its context refused it, for ever: the worker hung."""
    with unheard():
        sim = simulate(catches_everything, None, Faults(always_suspend=True))
    assert (sim.status, sim.result) == ("completed", 30)


@workflow
async def asks_as_it_goes(ctx: Ctx, n: int) -> list[int]:
    return [
        await ctx.step(double.with_options(key=f"round-{number}"), number) for number in range(n)
    ]


def test_a_fault_may_be_at_a_key_that_the_body_makes_up() -> None:
    sim = simulate(asks_as_it_goes, 3, Faults(Crash(unit="round-2", when="after")))
    assert sim.fired["Crash"] == 1 and sim.invocations("round-2") == 2
    assert sim.committed("round-2") == 1


@pytest.mark.parametrize("unit", ["rond-2", "undo rond-2/1", "dubel#2"])
def test_a_fault_at_a_unit_that_the_body_never_comes_to_is_refused(unit: str) -> None:
    with pytest.raises(DurableError, match="no step is called"):
        simulate(asks_as_it_goes, 3, Faults(Crash(unit=unit)))
    sim = simulate(asks_as_it_goes, 3)
    with pytest.raises(DurableError, match="no step is called"):
        sim.invocations(unit)


def test_faults_are_drawn_at_what_can_be_seen_and_at_what_was_seen() -> None:
    def units(**how: Any) -> set[str]:
        drawn: set[str] = set()

        @settings(max_examples=300, database=None)
        @given(faults(fails_at_last, **how))
        def draw(plan: Faults) -> None:
            drawn.update(unit for one in plan.faults if (unit := getattr(one, "unit", None)))

        draw()
        return drawn

    assert {"refuse", "release_late"} <= units()
    seen = simulate(fails_at_last, "lamp", deps=Shop)
    assert {"refuse", "undo release_late"} <= units(seen=seen)


def test_a_body_is_durable_in_one_line() -> None:
    assert_durable(begins_anew, st.integers(1, 3), deps=Shop, crashes=0, max_examples=30)


def test_a_body_that_pays_twice_is_not() -> None:
    with pytest.raises(CounterexampleError, match="paid 2 times"):
        assert_durable(pays_without_key, deps=Shop, check=paid_once, crashes=0)


def test_a_child_that_is_a_body_is_watched_too() -> None:
    outer = Workflow("outer").child("inner", counts_outside).step("last", lambda ctx: 1)
    assert simulate(outer, None, Faults(Crash(unit="double"))).status == "completed"


def test_what_a_run_did_before_it_began_anew_is_known() -> None:
    sim = simulate(begins_anew, 1)
    # What it did last before it begins anew is a part of that: it has no entry of its own.
    assert (sim.result, sim.committed("double"), sim.invocations("double")) == (8, 1, 3)
    assert [entry.kind for entry in sim.journal] == ["run_continued", "unit_completed",
                                                     "run_completed"]  # fmt: skip
    assert violations(sim) == []


# --- replay and upgrades -------------------------------------------------------------------------


def _changed(run: Any) -> Any:
    return workflow(name="orders")(run)


async def _renamed(ctx: Ctx, what: str) -> str:
    await ctx.step(hold.with_options(key="reserve"), what)
    return await ctx.step(pay)


async def _patched(ctx: Ctx, what: str) -> str:
    await ctx.step(hold, what)
    if ctx.patched("check"):
        await ctx.step(double, 1)
    return await ctx.step(pay)


def test_a_run_is_replayed_against_the_code_of_today() -> None:
    sim = simulate(orders, "lamp", deps=Shop)
    assert replay(orders, sim).fits
    answer = replay(_changed(_renamed), sim)
    assert answer.error is not None and answer.error.unit == "hold", str(answer)
    assert replay(_changed(_patched), sim).fits


def test_an_upgrade_of_a_body_is_judged_by_its_runs() -> None:
    runs = [simulate(orders, "lamp", deps=Shop)]
    assert check_upgrade(orders, _changed(_patched), runs).safe
    assert not check_upgrade(orders, _changed(_renamed), runs).safe


def test_without_runs_nothing_can_be_said() -> None:
    answer = check_upgrade(orders, _changed(_patched))
    assert not answer.safe and "runs=" in str(answer), str(answer)
    assert check_upgrade(orders, orders).safe
