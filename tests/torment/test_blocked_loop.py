"""A handler that blocks the event loop: leases outlive it, up to the stall limit.

Blocking for real time is what these are about, so they stand here and not with the engine's tests.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.engine.stage import PATIENCE_S, Stage

from durable_core import Branch, Limits, StepContext, Workflow

pytestmark = pytest.mark.torment
Ctx = StepContext[Any, Any]


@pytest.fixture(params=["memory", "sqlite"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    """One database of each kind."""
    return Stage(request.param, tmp_path)


async def test_a_handler_that_blocks_the_loop_keeps_its_lease(stage: Stage) -> None:
    calls = []

    async def blocking(ctx: Ctx) -> int:
        calls.append(ctx.attempt)
        time.sleep(0.9)  # noqa: ASYNC251  # what it is about
        return 1

    workflow = Workflow("w").step("a", blocking)
    async with stage.running(workflow, worker={"lease": 0.3}) as engine:
        run = await engine.start(workflow)
        assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    assert calls == [1]
    assert stage.watch.names(run.id).count("RunClaimed") == 1


async def test_no_handler_begins_after_a_stall_that_outlasted_the_lease(stage: Stage) -> None:
    """Not even one that was about to begin when the loop stalled: another worker may have
    completed its unit meanwhile."""
    limits = Limits(loop_stall_limit=timedelta(milliseconds=100))
    calls = []

    async def blocking(ctx: Ctx) -> None:
        calls.append("blocking")
        if len(calls) == 1:
            time.sleep(0.9)  # noqa: ASYNC251  # what it is about

    async def beside(ctx: Ctx) -> None:
        calls.append("beside")

    workflow = Workflow("w").parallel("both", {"a": Branch(blocking), "b": Branch(beside)})
    async with stage.running(workflow, worker={"lease": 0.3}, limits=limits) as engine:
        run = await engine.start(workflow)
        await run.result(timeout=PATIENCE_S)
    assert calls == ["blocking", "blocking", "beside"]


async def test_a_loop_that_stalls_for_too_long_loses_its_runs(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    limits = Limits(loop_stall_limit=timedelta(milliseconds=100))
    calls = []

    async def blocking(ctx: Ctx) -> int:
        calls.append(1)
        if len(calls) == 1:
            time.sleep(0.9)  # noqa: ASYNC251  # what it is about
            await asyncio.sleep(0)
        return len(calls)

    workflow = Workflow("w").step("a", blocking)
    async with stage.running(workflow, worker={"lease": 0.3}, limits=limits) as engine:
        run = await engine.start(workflow)
        await run.result(timeout=PATIENCE_S)
    assert "lease" in caplog.text
