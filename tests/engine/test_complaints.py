"""A store that is out of reach for a while: the worker lives, and says so once."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from tests.engine.stage import PATIENCE_S, Stage

from durable_core import StepContext, Workflow
from durable_core.errors import StoreUnavailableError
from durable_core.store import ClaimBatch, ClaimRequest

Ctx = StepContext[Any, Any]


async def one(ctx: Ctx) -> int:
    return 1


async def test_a_worker_goes_on_claiming_and_complains_once(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    workflow = Workflow("w").step("a", one)
    store = stage.store()
    claim, failures = store.claim, 5

    async def failing(request: ClaimRequest) -> ClaimBatch:
        nonlocal failures
        if failures:
            failures -= 1
            raise StoreUnavailableError("it is restarted")
        return await claim(request)

    store.claim = failing  # type: ignore[method-assign]
    caplog.set_level(logging.WARNING)
    async with stage.running(workflow, store=store, worker={"name": "w1"}) as engine:
        run = await engine.start(workflow)
        assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    said = [record.getMessage() for record in caplog.records]
    assert said == ["worker w1 cannot claim, and tries on: it is restarted"]
    assert failures == 0
