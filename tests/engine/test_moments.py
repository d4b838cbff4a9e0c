"""Moments at the edge of the calendar can be given, kept and read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from tests.engine.stage import PATIENCE_S, Stage

from durable_core import Workflow
from durable_core.engine.moments import FIRST, LAST, moment
from durable_core.workflow.context import StepContext
from durable_core.workflow.decisions import EPOCH

EDGES = [
    datetime.max.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
    datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
]


@pytest.mark.parametrize("ms", [0, 1, -1, 253_402_300_799_999, 951_782_400_123])
def test_a_moment_is_exact_to_the_millisecond(ms: int) -> None:
    assert (moment(ms) - EPOCH) / timedelta(milliseconds=1) == ms


def test_what_lies_beyond_the_calendar_is_its_edge() -> None:
    assert moment(253_402_300_800_000) == moment(10**18) == LAST
    assert moment(-(10**18)) == FIRST


async def deadline(ctx: StepContext) -> None:
    assert ctx.deadline is not None


@pytest.mark.parametrize("edge", EDGES)
async def test_a_run_with_a_deadline_or_a_sleep_at_the_edge_can_be_read(
    stage: Stage, edge: datetime
) -> None:
    flow = Workflow("flow").step("a", deadline, timeout=timedelta(days=365_000)).sleep("s", edge)
    async with stage.running(flow) as engine:
        run = await engine.start(flow, deadline=edge)
        await stage.watch.until("RunSuspended", run.id)
        info = await run.info()
        assert info.deadline is not None and info.deadline.year == 9999
        assert [one.id async for one in engine.runs()] == [run.id]
        await run.cancel(mode="terminate")
        assert (await run.wait(timeout=PATIENCE_S)).status == "cancelled"
