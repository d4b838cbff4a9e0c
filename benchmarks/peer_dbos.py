"""DBOS as a ``Peer``, through its public API, set up as it is quickest here.

Its results are awaited in the process that executes them; its queue is looked at every ms
instead of every second; it hears of messages by LISTEN, as it is installed; all its processes say
they are of the same version, as it asks for. It has no bound on how many workflows are under way;
more threads and connections than it takes by itself were tried, and do not make it quicker here.

A sleep of its is a duration, which it counts from when it writes that down; when a sleep had to
end is what it wrote.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dbos import DBOS

from benchmarks.peer import HOUR_S, SIGNAL, SLEEP, Client, Handle, Peer, Plan, at_once

QUEUE = "bench"
TOPIC = "go"
POLL_S = 0.001


class DbosClient:
    """A ``Client``."""

    def __init__(self, workflow: Callable[[Any], Awaitable[Any]]) -> None:
        self._workflow = workflow

    async def start(self, values: Sequence[Any]) -> Sequence[Any]:
        return await asyncio.gather(
            *(DBOS.start_workflow_async(self._workflow, value) for value in values)
        )

    async def result(self, run: Any) -> Any:
        return await run.get_result()

    async def signal(self, runs: Sequence[Any]) -> None:
        await asyncio.gather(*(DBOS.send_async(run.workflow_id, True, TOPIC) for run in runs))

    async def due(self, run: Any, asked: float) -> float:
        steps = await DBOS.list_workflow_steps_async(run.workflow_id)
        (written,) = (each["output"] for each in steps if each["function_name"] == "DBOS.sleep")
        return float(written)


class Dbos:
    """A ``Peer``."""

    def __init__(self, dsn: str, plan: Plan, handle: Handle | None) -> None:
        self._url = dsn.replace("postgresql://", "postgresql+psycopg://")
        act = handle or at_once

        async def handler(value: Any, index: int) -> dict[str, Any]:
            return await act(value, index)

        step = DBOS.step(name="handler")(handler)

        async def body(value: Any) -> dict[str, Any]:
            if plan.wait == SLEEP:
                await DBOS.sleep_async(value["due"] - time.time())
            elif plan.wait == SIGNAL:
                assert await DBOS.recv_async(TOPIC, timeout_seconds=HOUR_S)
            return {f"s{index}": await step(value, index) for index in range(plan.steps)}

        self._workflow = DBOS.workflow(name="bench")(body)

    @asynccontextmanager
    async def _launched(self, queues: Sequence[str]) -> AsyncIterator[None]:
        config = {
            "name": "bench",
            "system_database_url": self._url,
            "application_version": "bench",
            "executor_id": str(os.getpid()),
            "log_level": "ERROR",
        }
        DBOS(config=config)
        DBOS.listen_queues(queues)
        DBOS.launch()
        try:
            yield
        finally:
            DBOS.destroy()

    async def prepare(self) -> None:
        async with self._launched([]):
            await DBOS.register_queue_async(QUEUE, polling_interval_sec=POLL_S)

    @asynccontextmanager
    async def live(self) -> AsyncIterator[Client]:
        async with self._launched([]):
            yield DbosClient(self._workflow)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Callable[[Any], Awaitable[object]]]:
        async with self._launched([]):
            yield lambda value: DBOS.enqueue_workflow_async(QUEUE, self._workflow, value)

    @asynccontextmanager
    async def working(self, begin: Callable[[], None]) -> AsyncIterator[None]:
        async with self._launched([QUEUE]):
            begin()
            yield

    async def results(self) -> Sequence[Any]:
        async with self._launched([]):
            return [each.output for each in await DBOS.list_workflows_async(queue_name=QUEUE)]


def make(dsn: str, plan: Plan, handle: Handle | None, concurrency: int) -> Peer:
    return Dbos(dsn, plan, handle)
