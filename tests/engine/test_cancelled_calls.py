"""Cancelled calls: what was written although nobody waits for it is acted on at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from tests.engine.stage import PATIENCE_S, Stage

from durable_core import Engine, Host, StepContext, Workflow
from durable_core.errors import RunNotFoundError
from durable_core.store import (
    ClaimRequest,
    CreateResult,
    DeliverVerdict,
    Delivery,
    Foreseen,
    Message,
    NewRun,
)
from durable_core.testing.memory import MemoryStore


async def one(ctx: StepContext[Any, Any]) -> int:
    return 1


class Held(MemoryStore):
    """Starts and messages take effect when ``go`` is set; changes are not listened to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def create(self, runs: Sequence[NewRun], *, conn: Any = None) -> tuple[CreateResult, ...]:
        self.asked.set()
        await self.go.wait()
        return await super().create(runs, conn=conn)

    async def deliver(
        self, messages: Sequence[Message], *, inbox_limit: int = 10_000, conn: Any = None
    ) -> tuple[DeliverVerdict, ...]:
        verdicts = await super().deliver(messages, inbox_limit=inbox_limit, conn=conn)
        self.asked.set()
        await self.go.wait()
        return verdicts

    async def deliver_and_claim(
        self,
        messages: Sequence[Message],
        request: ClaimRequest,
        *,
        inbox_limit: int = 10_000,
        foreseen: Foreseen | None = None,
    ) -> Delivery:
        delivery = await super().deliver_and_claim(
            messages, request, inbox_limit=inbox_limit, foreseen=foreseen
        )
        self.asked.set()
        await self.go.wait()
        return delivery

    async def wait_for_work(self, timeout_ms: int | None) -> bool:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


QUIET = Host(fallback_poll_s=None)


async def test_a_run_whose_start_was_cancelled_is_claimed_at_once() -> None:
    done = asyncio.Event()

    async def step(ctx: StepContext[Any, Any]) -> None:
        done.set()

    workflow = Workflow("w").step("a", step)
    store = Held()
    engine = Engine(store, [workflow], host=QUIET)
    async with engine, engine.worker():
        starting = asyncio.create_task(engine.start(workflow, id="r"))
        await store.asked.wait()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        store.go.set()
        await asyncio.wait_for(done.wait(), PATIENCE_S)


@pytest.mark.parametrize("waits", [False, True], ids=["held", "idle"])
async def test_a_signal_whose_sender_was_cancelled_is_taken_at_once(waits: bool) -> None:
    workflow = Workflow("w").wait_for_signal("go")
    store = Held()
    engine = Engine(store, [workflow], host=QUIET)
    async with engine, engine.worker():
        store.go.set()
        run = await engine.start(workflow)
        while waits and (await run.info()).status != "suspended":  # noqa: ASYNC110
            await asyncio.sleep(0)
        store.go.clear()
        store.asked.clear()
        sending = asyncio.create_task(run.signal("go", 7))
        await store.asked.wait()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        store.go.set()
        assert await run.result(timeout=PATIENCE_S) == {"go": 7}


async def test_calls_cancelled_at_any_moment_leave_nothing_behind(stage: Stage) -> None:
    workflow = Workflow("w").sleep("nap", 3600)
    async with stage.engine(workflow) as engine:
        async with engine.worker(grace=0):
            for turns in range(12):
                calls: tuple[Coroutine[Any, Any, Any], ...] = (
                    engine.start(workflow, id="r"),
                    engine.run("r").result(),
                )
                for call in calls:
                    task = asyncio.create_task(call)
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.wait([task])
                    end = None if task.cancelled() else task.exception()
                    assert end is None or isinstance(end, RunNotFoundError)
            await engine.start(workflow, id="r")
        assert engine._ends._waiters == {}
        assert not engine._shared.listener._listeners
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_body_that_raises_leaves_the_worker_drained_and_the_engine_closed() -> None:
    workflow = Workflow("w").step("a", one)
    engine = Engine(MemoryStore(), [workflow])
    with pytest.raises(KeyError):
        async with engine.worker():
            await engine.start(workflow)
            raise KeyError("body")
    assert asyncio.all_tasks() == {asyncio.current_task()}
