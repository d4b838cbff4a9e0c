"""DBOS as a ``Peer``, through its public API, set up as it is quickest here.

Its results are awaited in the process that executes them; its queue is looked at every 10 ms
instead of every second; all its processes say they are of the same version, as it asks for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dbos import DBOS

from benchmarks.peer import Peer, RunOne

QUEUE = "bench"
POLL_S = 0.01
ENQUEUED_AT_ONCE = 20


async def handler() -> dict[str, Any]:
    return {"ok": True, "n": 1}


step = DBOS.step(name="handler")(handler)


async def body(steps: int) -> dict[str, Any]:
    return {f"s{index}": await step() for index in range(steps)}


workflow = DBOS.workflow(name="bench")(body)


class Dbos:
    """A ``Peer``."""

    def __init__(self, dsn: str, steps: int) -> None:
        self._url = dsn.replace("postgresql://", "postgresql+psycopg://")
        self._steps = steps

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
    async def live(self) -> AsyncIterator[RunOne]:
        async with self._launched([]):

            async def run_one() -> Any:
                handle = await DBOS.start_workflow_async(workflow, self._steps)
                return await handle.get_result()

            yield run_one

    async def enqueue(self, runs: int) -> None:
        left = iter(range(runs))

        async def client() -> None:
            for _ in left:
                await DBOS.enqueue_workflow_async(QUEUE, workflow, self._steps)

        async with self._launched([]):
            await asyncio.gather(*(client() for _ in range(ENQUEUED_AT_ONCE)))

    @asynccontextmanager
    async def working(self, begin: Callable[[], None]) -> AsyncIterator[None]:
        async with self._launched([QUEUE]):
            begin()
            yield

    async def results(self) -> Sequence[Any]:
        async with self._launched([]):
            return [each.output for each in await DBOS.list_workflows_async(queue_name=QUEUE)]


def make(dsn: str, steps: int) -> Peer:
    return Dbos(dsn, steps)
