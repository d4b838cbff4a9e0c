"""This library as a ``Peer``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.peer import AT_ONCE, Peer, RunOne
from benchmarks.whole_engine import handler
from durable_core import Engine, Start, Workflow
from durable_pg import PgStore

SLICE = 1_000
"""Runs that are started, or read, by one call."""


class Ours:
    """A ``Peer``."""

    def __init__(self, dsn: str, steps: int) -> None:
        self._dsn = dsn
        self._workflow: Workflow[Any, Any] = Workflow("bench")
        for index in range(steps):
            self._workflow = self._workflow.step(f"s{index}", handler)

    def _engine(self, migrate: bool = False) -> Engine:
        return Engine(PgStore(self._dsn), [self._workflow], migrate=migrate)

    async def prepare(self) -> None:
        async with self._engine(migrate=True):
            pass

    @asynccontextmanager
    async def live(self) -> AsyncIterator[RunOne]:
        async with self._engine() as engine, engine.worker(concurrency=AT_ONCE):

            async def run_one() -> Any:
                run = await engine.start(self._workflow, {"n": 1})
                return await run.result()

            yield run_one

    async def enqueue(self, runs: int) -> None:
        async with self._engine() as engine:
            for left in range(runs, 0, -SLICE):
                await engine.start_many([Start(self._workflow, {"n": 1})] * min(left, SLICE))

    @asynccontextmanager
    async def working(self, begin: Callable[[], None]) -> AsyncIterator[None]:
        async with self._engine() as engine:
            begin()
            async with engine.worker(concurrency=AT_ONCE):
                yield

    async def results(self) -> Sequence[Any]:
        async with self._engine() as engine:
            return [await engine.run(info.id).result() async for info in engine.runs()]


def make(dsn: str, steps: int) -> Peer:
    return Ours(dsn, steps)
