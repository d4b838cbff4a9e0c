"""Absurd as a ``Peer``, through its public API, set up as it is quickest here.

Its worker looks for tasks every millisecond instead of every 250. It has no way to hear of a
result but asking, and asks at 50 ms first; so a table of its own is asked for all tasks that are
waited for, every millisecond, on a connection of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import absurdctl
import psycopg
from absurd_sdk import AsyncAbsurd

from benchmarks.peer import AT_ONCE, Peer, RunOne

QUEUE = TASK = "bench"
POLL_S = 0.001
LOOK = """
SELECT task_id, completed_payload FROM absurd.t_bench
WHERE task_id = ANY (%s) AND state = 'completed'
"""
ALL = "SELECT completed_payload FROM absurd.t_bench"


async def handler() -> dict[str, Any]:
    return {"ok": True, "n": 1}


class Absurd:
    """A ``Peer``."""

    def __init__(self, dsn: str, steps: int) -> None:
        self._dsn = dsn
        self._steps = steps

    def _app(self) -> Any:
        async def body(params: Any, ctx: Any) -> dict[str, Any]:
            steps = params["steps"]
            return {f"s{index}": await ctx.step(f"s{index}", handler) for index in range(steps)}

        app: Any = AsyncAbsurd(self._dsn, queue_name=QUEUE)
        app.register_task(TASK)(body)
        return app

    async def _connect(self) -> Any:
        return await psycopg.AsyncConnection.connect(self._dsn, autocommit=True)

    async def prepare(self) -> None:
        conn = await self._connect()
        await conn.execute(absurdctl.BUNDLED_SCHEMA_SQL)
        await conn.close()
        app = self._app()
        await app.create_queue()
        await app.close()

    @asynccontextmanager
    async def live(self) -> AsyncIterator[RunOne]:
        waited: dict[Any, asyncio.Future[Any]] = {}
        client, conn = self._app(), await self._connect()

        async def look() -> None:
            while True:
                if waited:
                    rows = await conn.execute(LOOK, (list(waited),))
                    for task_id, result in await rows.fetchall():
                        waited.pop(task_id).set_result(result)
                await asyncio.sleep(POLL_S)

        async def run_one() -> Any:
            spawned = await client.spawn(TASK, {"steps": self._steps})
            waiting = waited[spawned["task_id"]] = asyncio.get_running_loop().create_future()
            return await waiting

        async with self.working(lambda: None):
            looking = asyncio.create_task(look())
            try:
                yield run_one
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
                await client.close()
                await conn.close()

    async def enqueue(self, runs: int) -> None:
        app = self._app()
        for _ in range(runs):
            await app.spawn(TASK, {"steps": self._steps})
        await app.close()

    @asynccontextmanager
    async def working(self, begin: Callable[[], None]) -> AsyncIterator[None]:
        app = self._app()
        begin()
        worker = asyncio.create_task(app.start_worker(concurrency=AT_ONCE, poll_interval=POLL_S))
        try:
            yield
        finally:
            app.stop_worker()
            await worker
            await app.close()

    async def results(self) -> Sequence[Any]:
        conn = await self._connect()
        rows = await (await conn.execute(ALL)).fetchall()
        await conn.close()
        return [result for (result,) in rows]


def make(dsn: str, steps: int) -> Peer:
    return Absurd(dsn, steps)
