"""The user's code around the handlers: types, observers, the lifespan; it hurts nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
from tests.acceptance.beside import (
    ERRORS,
    HEALTHY,
    Odd,
    Unprintable,
    async_of,
    end_beside_a_healthy_run,
    hello,
    raising,
)
from tests.acceptance.stage import ONCE, PATIENCE_S, Stage

from durable_core import StepContext, Undo, Workflow

Ctx = StepContext[Any, Any]
W: Any = Workflow


class Moody:
    """Set ``error`` and it cannot be read back any more."""

    error: type[BaseException] | None = None


@attrs.frozen
class Fragile:
    n: int

    def __attrs_post_init__(self) -> None:
        if Moody.error is not None:
            raise Moody.error("cannot be read back")


@pytest.fixture
def moody() -> Iterator[type[Moody]]:
    yield Moody
    Moody.error = None


@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError, Odd])
@pytest.mark.parametrize("reader", ["handler", "select", "item", "until", "returns", "compensator"])
async def test_a_value_that_cannot_be_read_back_fails_the_run_that_reads_it(
    stage: Stage, moody: type[Moody], reader: str, error: type[BaseException]
) -> None:
    """Types are the user's code as well: their constructors run whenever a value is decoded."""

    async def make(ctx: Ctx) -> Fragile:
        fragile = Fragile(1)
        return fragile

    async def turn(ctx: Ctx) -> None:
        moody.error = error

    async def read(ctx: Ctx) -> None:
        ctx.results["make"]

    async def undo(ctx: Ctx) -> None:
        ctx.value  # noqa: B018  # reading it is what is tested

    async def item(ctx: Ctx, value: Fragile) -> None:
        moody.error = error
        ctx.item  # noqa: B018

    async def loop(ctx: Ctx) -> Fragile:
        fragile = Fragile(1)
        moody.error = error
        return fragile

    start = W("bad").step("make", make, compensate=Undo(undo, retry=ONCE)).step("turn", turn)
    bad = {
        "handler": lambda: start.step("read", read, retry=ONCE),
        "select": lambda: start.route("r", lambda c: c.results["make"].n, {"a": hello}),
        "item": lambda: W("bad").map("m", lambda c: [Fragile(1)], item, retry=ONCE),
        "until": lambda: W("bad").loop("l", loop, until=lambda r, n: True),
        "returns": lambda: start.returns(lambda c: c.results["make"].n),
        "compensator": lambda: start.step("fail", async_of(raising(ValueError)), retry=ONCE),
    }[reader]()
    status, failure = await end_beside_a_healthy_run(stage, bad)
    compensated = reader in ("item", "until")  # which have nothing to undo
    assert status == ("failed" if compensated else "compensation_failed")
    assert failure.type


async def test_a_raising_observer_hurts_no_run(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told on, and complained of once."""

    class Loud:
        def on_event(self, event: Any) -> None:
            raise Unprintable

    bad = W("bad").step("a", async_of(raising(ValueError)), retry=ONCE)
    async with stage.running(HEALTHY, bad, observers=[Loud(), stage.watch]) as engine:
        run, healthy = await engine.start(bad), await engine.start(HEALTHY)
        assert await healthy.result(timeout=PATIENCE_S)
        await run.wait(timeout=PATIENCE_S)
        assert await run.status() == "failed"
    assert stage.watch.counts["RunFinished", run.id] == 1
    assert len([line for line in caplog.records if "observer" in line.getMessage()]) == 1


@pytest.mark.parametrize("error", ["ValueError", "its text raises", "SystemExit", "CancelledError"])
async def test_a_lifespan_that_cannot_be_opened_stops_the_worker_alone(
    stage: Stage, error: str
) -> None:
    """Whoever enters the worker is told; the engine goes on, and so do other processes."""

    make: Any = ERRORS[error]

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        if make is not None:
            raise make()
        yield

    async with stage.engine(HEALTHY, lifespan=lifespan) as engine:
        run = await engine.start(HEALTHY)
        with pytest.raises(type(make())):
            async with engine.worker():
                pytest.fail("it has been entered")
        assert await run.status() == "pending"
    async with stage.running(HEALTHY) as engine:
        assert await engine.run(run.id).result(timeout=PATIENCE_S)
