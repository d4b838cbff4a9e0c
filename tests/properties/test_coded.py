"""Bodies of code: whatever they do, and whatever happens to them, the rules hold.

A warm cursor and a cold one give equal transitions; the result does not depend on the schedule;
a body asks for the same when it is replayed; a run that was stopped begins nothing more; and of a
run that begins anew again and again no signal is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.properties.coded import (
    CHILDREN,
    SIGNALS,
    Ctx,
    Script,
    begun_after_the_stop,
    cold_beside_warm,
    scripts,
    stoppable,
)

from durable_core import TerminalError, current_step, step, workflow
from durable_core.testing import (
    Faults,
    Operate,
    Signal,
    Simulation,
    faults,
    replay,
    simulate,
    violations,
)
from durable_core.testing.checks import unsteady_units
from durable_core.testing.explore import OTHER_DATE_MS
from durable_core.testing.names import UnknownUnitError
from durable_core.testing.replaying import replayed_otherwise

patient = settings(
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.function_scoped_fixture,
    ]
)
STOPS = ("cancel", "cancel", "terminate")
GIVEN = {name: f"{name}!" for name in SIGNALS}


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """The engine complains of every mishap, and rightly."""
    logger = logging.getLogger("durable")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


def play(script: Script, plan: Faults, **how: Any) -> Simulation:
    awaited = {name: GIVEN[name] for name in SIGNALS if f"'{name}'" in repr(script.lines)}
    return simulate(script.workflow(), 0, plan, signals=awaited, children=CHILDREN, **how)


def judge(script: Script, plan: Faults) -> None:
    quiet = play(script, Faults(workers=1))
    try:
        sim = play(script, plan)
    except UnknownUnitError:
        return  # the body does not come to it
    other = play(script, Faults(workers=1), start_ms=OTHER_DATE_MS)
    compare = "free" if script.races or plan.races else "same"
    dated = unsteady_units(quiet, other)
    assert violations(sim, quiet, compare=compare, unsteady=dated) == []  # type: ignore[arg-type]
    for run_id in sim.runs:
        assert begun_after_the_stop(sim.history(run_id)) == []
    if sim.status in ("completed", "failed", "suspended"):
        assert list(replayed_otherwise(sim)) == []
        assert replay(script.workflow(), sim, children=CHILDREN).fits


@settings(patient, max_examples=150)
@given(script=scripts, data=st.data())
def test_no_rule_is_broken_whatever_a_body_does(script: Script, data: st.DataObject) -> None:
    seen = play(script, Faults())
    plan = data.draw(
        faults(script.workflow(), children=CHILDREN, signals=SIGNALS, max_faults=4, seen=seen)
    )
    judge(script, plan)


@settings(patient, max_examples=100)
@given(script=scripts, data=st.data())
def test_warm_and_cold_cursors_of_a_body_give_equal_transitions(
    script: Script, data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = data.draw(faults(script.workflow(), children=CHILDREN, max_faults=2, seen=None))
    with cold_beside_warm(monkeypatch):
        try:
            play(script, plan)
        except UnknownUnitError:
            return


@settings(patient, max_examples=60)
@given(script=scripts, workers=st.integers(1, 3))
def test_a_body_that_is_dropped_after_every_commit_comes_to_the_same(
    script: Script, workers: int
) -> None:
    judge(script, Faults(workers=workers, always_suspend=True))


@settings(patient, max_examples=100)
@given(script=stoppable | scripts, what=st.sampled_from(STOPS), nth=st.integers(1, 6))
def test_a_run_that_is_cancelled_anywhere_begins_nothing_more_and_undoes_the_rest(
    script: Script, what: Any, nth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cold_beside_warm(monkeypatch):
        sim = play(script, Faults(Operate(what=what, nth=nth)))
    assert violations(sim, compare="free") == []
    for run_id in sim.runs:
        assert begun_after_the_stop(sim.history(run_id)) == []


async def unpay(ctx: Any) -> None:
    ctx.deps.append(f"undo {ctx.value}")


@step(compensate=unpay)
async def pay(what: str) -> str:
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        await asyncio.sleep(1)  # too late: it is paid
    current_step().deps.append(f"pay {what}")
    return what


@workflow
async def gives_up(ctx: Ctx) -> None:
    await ctx.first(ctx.all(ctx.step(pay, "one"), ctx.step(pay, "two")), ctx.step(note, 1))
    await ctx.sleep(60)
    raise TerminalError("no more")


def test_a_loser_that_ends_well_after_its_race_is_undone() -> None:
    for plan in (Faults(), Faults(always_suspend=True), Faults(Operate(what="cancel"))):
        sim = simulate(gives_up, None, plan, deps=list)
        assert sim.deps == ["pay one", "pay two", "undo two", "undo one"], plan


# --- beginning anew ------------------------------------------------------------------------------


@step
async def note(number: int) -> int:
    return number


@workflow
async def takes_signals(ctx: Ctx, state: list[int]) -> list[int]:
    """It takes so many signals in a round as the last one says, and one at least; with the last
    of them it begins anew at once."""
    want, *taken = state
    for _ in range(1 + want % 2):
        if len(taken) == 6:
            return taken
        await ctx.step(note, len(taken))
        taken.append(await ctx.wait_for_signal("number", int))
    ctx.continue_as_new([taken[-1], *taken])


@settings(patient, max_examples=60)
@given(st.permutations(range(6)), st.data())
def test_a_run_that_begins_anew_loses_no_signal_and_keeps_no_journal(
    numbers: list[int], data: st.DataObject
) -> None:
    plan = data.draw(faults(takes_signals, races=False, max_faults=4))
    signals = [Signal("number", number) for number in numbers]
    try:
        sim = simulate(takes_signals, [0], plan, signals=signals)
    except UnknownUnitError:
        return
    assert violations(sim) == []
    assert (sim.status, sim.result, sim.runs) == ("completed", numbers, ("run",))
    assert len(sim.journal) <= 1 + 2 * 3 + 1
