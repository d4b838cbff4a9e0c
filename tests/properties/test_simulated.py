"""The engine under random mishaps: generated workflows in simulated worlds.

Under CI always the same schedules; elsewhere others each time, and what fails names its seed.
``make torture`` takes tens of thousands.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.properties.schedules import Flow, Tally, judge, play, run_seed

from durable_core import Retry, StepContext, Workflow
from durable_core.testing.plan import Faults, Skew
from durable_core.testing.strategies import faults, workflows

SCHEDULES = 300
"""In each of the tests here that count them: some ten seconds."""

patient = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """The engine complains of every mishap, and rightly."""
    logger = logging.getLogger("durable")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


def number(nth: int) -> int:
    return nth if os.environ.get("CI") else random.SystemRandom().randrange(1 << 32)


@pytest.mark.slow
@pytest.mark.parametrize("nth", [1, 2])
def test_no_rule_is_broken_under_random_mishaps(nth: int) -> None:
    tally = Tally()
    run_seed(number(nth), SCHEDULES, tally)
    assert tally.schedules >= SCHEDULES and tally.twice >= SCHEDULES // 50
    assert len(tally.fired) >= 5 and len(tally.states) >= 20, str(tally)


@settings(patient, max_examples=60)
@given(workflows(), st.integers(1, 3))
def test_a_run_that_is_dropped_after_every_commit_comes_to_the_same(
    workflow: Flow, workers: int
) -> None:
    judge(workflow, Faults(workers=workers, always_suspend=True), play(workflow, Faults()))


@settings(patient, max_examples=40)
@given(workflows(), st.data())
def test_a_simulation_is_the_same_each_time(workflow: Flow, data: st.DataObject) -> None:
    plan = data.draw(faults(workflow, signals=("go",)))
    assert play(workflow, plan).trace == play(workflow, plan).trace


@pytest.mark.parametrize("initial_ms", range(100, 130))
def test_nothing_fires_early_where_a_clock_has_run_for_years(initial_ms: int) -> None:
    """Seconds as floats are then too coarse for a ns, and rounding must not make a ms of it."""

    async def fails_once(ctx: StepContext[object, object]) -> int:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return 1

    retry = Retry(initial=initial_ms / 1000, jitter=0)
    workflow = Workflow("main").step("s0", fails_once, retry=retry)
    judge(workflow, Faults(Skew(seconds=1e8)), play(workflow, Faults()))
