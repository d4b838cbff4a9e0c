"""This library as a ``Peer``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import attrs

from benchmarks.peer import HOUR_S, SIGNAL, SLEEP, Client, Handle, Peer, Plan
from benchmarks.whole_engine import handler
from durable_core import Engine, Run, Start, StepContext, Workflow
from durable_pg import PgStore

SIGNAL_NAME = "go"


@attrs.frozen(slots=True)
class OurClient:
    """A ``Client``."""

    engine: Engine
    workflow: Workflow[Any, Any]

    async def start(self, values: Sequence[Any]) -> Sequence[Any]:
        if len(values) == 1:
            return [await self.engine.start(self.workflow, values[0])]
        return await self.engine.start_many([Start(self.workflow, value) for value in values])

    async def result(self, run: Run[Any]) -> Any:
        return await run.result()

    async def signal(self, runs: Sequence[Run[Any]]) -> None:
        await asyncio.gather(*(run.signal(SIGNAL_NAME) for run in runs))

    async def due(self, run: Run[Any], asked: float) -> float:
        return asked


class Ours:
    """A ``Peer``."""

    def __init__(self, dsn: str, plan: Plan, handle: Handle | None, concurrency: int) -> None:
        self._dsn = dsn
        self._workflow = workflow_of(plan, handle)
        self._concurrency = concurrency

    def _engine(self, migrate: bool = False) -> Engine:
        return Engine(PgStore(self._dsn), [self._workflow], migrate=migrate)

    async def prepare(self) -> None:
        async with self._engine(migrate=True):
            pass

    @asynccontextmanager
    async def live(self) -> AsyncIterator[Client]:
        async with self._engine() as engine, engine.worker(concurrency=self._concurrency):
            yield OurClient(engine, self._workflow)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[Callable[[Any], Awaitable[object]]]:
        async with self._engine() as engine:
            yield lambda value: engine.start(self._workflow, value)

    @asynccontextmanager
    async def working(self, begin: Callable[[], None]) -> AsyncIterator[None]:
        async with self._engine() as engine:
            begin()
            async with engine.worker(concurrency=self._concurrency):
                yield

    async def results(self) -> Sequence[Any]:
        async with self._engine() as engine:
            return [await engine.run(info.id).result() async for info in engine.runs()]


def workflow_of(plan: Plan, handle: Handle | None) -> Workflow[Any, Any]:
    """Its results are those of its steps alone. An input that nobody asks for is not read."""

    def step_of(index: int) -> Callable[[StepContext[Any, Any]], Awaitable[dict[str, Any]]]:
        if handle is None:
            return handler

        async def step(ctx: StepContext[Any, Any]) -> dict[str, Any]:
            return await handle(ctx.input, index)

        return step

    workflow: Workflow[Any, Any] = Workflow("bench")
    if plan.wait == SLEEP:
        workflow = workflow.sleep("rest", lambda ctx: datetime.fromtimestamp(ctx.input["due"], UTC))
    elif plan.wait == SIGNAL:
        workflow = workflow.wait_for_signal(SIGNAL_NAME, timeout=HOUR_S)
    names = [f"s{index}" for index in range(plan.steps)]
    for index, name in enumerate(names):
        workflow = workflow.step(name, step_of(index))
    if plan.wait in (SLEEP, SIGNAL):
        workflow = workflow.returns(lambda ctx: {name: ctx.results[name] for name in names})
    return workflow


def make(dsn: str, plan: Plan, handle: Handle | None, concurrency: int) -> Peer:
    return Ours(dsn, plan, handle, concurrency)
