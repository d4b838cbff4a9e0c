"""Entering: an engine that several enter and leave at once is open while anybody is inside."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.engine.stage import PATIENCE_S, Stage

from durable_core import StepContext, Workflow


async def one(ctx: StepContext[Any, Any]) -> int:
    return 1


async def test_an_engine_entered_while_the_last_one_leaves_it_stays_open(stage: Stage) -> None:
    workflow = Workflow("w").step("a", one)
    engine = stage.engine(workflow)
    await engine.__aenter__()
    leaving = asyncio.create_task(engine.__aexit__(None, None, None))
    await asyncio.sleep(0)
    async with engine:
        await leaving
        async with engine.worker():
            run = await engine.start(workflow)
            assert await run.result(timeout=PATIENCE_S) == {"a": 1}


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_several_may_enter_at_once_in_one_event_loop_after_another(
    kind: str, tmp_path: Path
) -> None:
    workflow = Workflow("w").step("a", one)
    engine = Stage(kind, tmp_path).engine(workflow)

    async def use() -> Any:
        async with engine.worker():
            run = await engine.start(workflow)
            return await run.result(timeout=PATIENCE_S)

    async def main() -> list[Any]:
        return await asyncio.gather(*(use() for _ in range(3)))

    for _ in range(3):
        assert asyncio.run(main()) == [{"a": 1}] * 3
