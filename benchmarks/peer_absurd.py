"""Absurd as a ``Peer``, through its public API, set up as it is quickest here.

A worker looks for tasks every millisecond instead of every 250. It has one connection, takes as
many tasks as it may have under way, and no more before it has done all of these: so there are
eight of them in a process that has much to do (one is the quickest for one task at a time), and
tasks that start at one moment are spawned in one transaction. It has no way to hear of a result but
asking, and asks at 50 ms first; so a table of its own is asked for all tasks that are waited for,
every millisecond, on a connection of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import cycle
from math import ceil
from typing import Any

import absurdctl
import psycopg
from absurd_sdk import AsyncAbsurd

from benchmarks.peer import HOUR_S, SIGNAL, SLEEP, Client, Handle, Peer, Plan, at_once

QUEUE = TASK = "bench"
POLL_S = 0.001
MOST_WORKERS = 8
SENDERS = 8
"""Connections that tasks are spawned and events are emitted by."""
LOOK = """
SELECT task_id, completed_payload FROM absurd.t_bench
WHERE task_id = ANY (%s) AND state = 'completed'
"""
ALL = "SELECT completed_payload FROM absurd.t_bench"


class AbsurdClient:
    """A ``Client``: a run is its task's id and the number in its input, which names its event."""

    def __init__(self, apps: Sequence[Any], together: Any, asking: Any) -> None:
        self._apps = apps
        self._together = together
        self._asking = asking
        self._waited: dict[Any, asyncio.Future[Any]] = {}

    async def start(self, values: Sequence[Any]) -> Sequence[Any]:
        if len(values) == 1:
            return [await self._spawn(self._apps[0], values[0])]
        async with self._together.transaction():
            app: Any = AsyncAbsurd(self._together, queue_name=QUEUE)
            return [await self._spawn(app, value) for value in values]

    async def _spawn(self, app: Any, value: Any) -> Any:
        return (await app.spawn(TASK, value, queue=QUEUE))["task_id"], value["n"]

    async def result(self, run: Any) -> Any:
        waiting = self._waited[run[0]] = asyncio.get_running_loop().create_future()
        return await waiting

    async def signal(self, runs: Sequence[Any]) -> None:
        every = zip(cycle(self._apps), runs, strict=False)
        await asyncio.gather(*(app.emit_event(event_of(number)) for app, (_, number) in every))

    async def due(self, run: Any, asked: float) -> float:
        return asked

    async def look(self) -> None:
        """For results, and for ever."""
        while True:
            if self._waited:
                rows = await self._asking.execute(LOOK, (list(self._waited),))
                for task_id, result in await rows.fetchall():
                    self._waited.pop(task_id).set_result(result)
            await asyncio.sleep(POLL_S)


class Absurd:
    """A ``Peer``."""

    def __init__(self, dsn: str, plan: Plan, handle: Handle | None, concurrency: int) -> None:
        self._dsn = dsn
        self._plan = plan
        self._handle = handle or at_once
        self._concurrency = concurrency

    def _worker(self) -> Any:
        plan, handle = self._plan, self._handle

        async def body(value: Any, ctx: Any) -> dict[str, Any]:
            if plan.wait == SLEEP:
                await ctx.sleep_until("rest", value["due"])
            elif plan.wait == SIGNAL:
                await ctx.await_event(event_of(value["n"]), timeout=HOUR_S)
            return {
                f"s{index}": await ctx.step(f"s{index}", partial(handle, value, index))
                for index in range(plan.steps)
            }

        app: Any = AsyncAbsurd(self._dsn, queue_name=QUEUE)
        app.register_task(TASK)(body)
        return app

    async def prepare(self) -> None:
        conn = await connect(self._dsn)
        await conn.execute(absurdctl.BUNDLED_SCHEMA_SQL)
        await conn.close()
        app = self._worker()
        await app.create_queue()
        await app.close()

    @asynccontextmanager
    async def live(self) -> AsyncIterator[Client]:
        async with (
            connected(self._dsn, SENDERS) as apps,
            await connect(self._dsn) as together,
            await connect(self._dsn) as asking,
            self.working(lambda: None),
        ):
            client = AbsurdClient(apps, together, asking)
            looking = asyncio.create_task(client.look())
            try:
                yield client
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Callable[[Any], Awaitable[object]]]:
        async with connected(self._dsn, SENDERS) as apps:
            turns = cycle(apps)
            yield lambda value: next(turns).spawn(TASK, value, queue=QUEUE)

    @asynccontextmanager
    async def working(self, begin: Callable[[], None]) -> AsyncIterator[None]:
        count = workers_for(self._concurrency)
        each = ceil(self._concurrency / count)
        apps = [self._worker() for _ in range(count)]
        begin()
        every = [
            asyncio.create_task(app.start_worker(concurrency=each, poll_interval=POLL_S))
            for app in apps
        ]
        try:
            yield
        finally:
            for app in apps:
                app.stop_worker()
            await asyncio.gather(*every)
            for app in apps:
                await app.close()

    async def results(self) -> Sequence[Any]:
        conn = await connect(self._dsn)
        rows = await (await conn.execute(ALL)).fetchall()
        await conn.close()
        return [result for (result,) in rows]


def workers_for(concurrency: int) -> int:
    """How many workers of this process, each with a connection, share so many tasks."""
    return max(1, min(MOST_WORKERS, concurrency // 10))


@asynccontextmanager
async def connected(dsn: str, count: int) -> AsyncIterator[Sequence[Any]]:
    """Clients, each with a connection of its own."""
    async with AsyncExitStack() as stack:
        conns = [await stack.enter_async_context(await connect(dsn)) for _ in range(count)]
        yield [AsyncAbsurd(conn, queue_name=QUEUE) for conn in conns]


async def connect(dsn: str) -> Any:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


def event_of(number: int) -> str:
    """The name of the event that a workflow waits for."""
    return f"go-{number}"


def make(dsn: str, plan: Plan, handle: Handle | None, concurrency: int) -> Peer:
    return Absurd(dsn, plan, handle, concurrency)
