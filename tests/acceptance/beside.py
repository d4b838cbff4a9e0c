"""Beside: a bad run next to a healthy one, on one worker; and everything there is to raise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.acceptance.hostile import HUGE, SURROGATE
from tests.acceptance.stage import PATIENCE_S, Stage

from durable_core import (
    LeaseLostError,
    NondeterminismError,
    RunFailed,
    StepContext,
    StepFailed,
    StoreUnavailableError,
    TerminalError,
    Workflow,
)

Ctx = StepContext[Any, Any]


class Unprintable(Exception):
    """Its text raises, and that error's text too."""

    def __str__(self) -> str:
        raise Unprintable

    __repr__ = __str__


class Odd(BaseException):
    """No ``Exception`` at all."""


class Picky(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one: int, *, two: int) -> None:
        super().__init__(SURROGATE, HUGE)


def in_a_circle() -> Exception:
    """Its own cause."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


ERRORS: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("broken"),
    "its text raises": Unprintable,
    "no Exception": Odd,
    "picky": lambda: Picky(1, two=2),
    "circular": in_a_circle,
    "a group": lambda: ExceptionGroup("two", [ValueError("one"), Unprintable()]),
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "StopIteration": lambda: StopIteration(1),
    "StopAsyncIteration": StopAsyncIteration,
    "CancelledError": asyncio.CancelledError,
    "TimeoutError": TimeoutError,
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
    "AssertionError": AssertionError,
    "TerminalError": lambda: TerminalError("never again"),
    "NondeterminismError": lambda: NondeterminismError("pretended"),
    "StepFailed": lambda: StepFailed("another", "pretended"),
    "RunFailed": lambda: RunFailed("another", "pretended"),
    "LeaseLostError": lambda: LeaseLostError("pretended"),
    "StoreUnavailableError": lambda: StoreUnavailableError("pretended", outcome_unknown=True),
}


async def hello(ctx: Ctx) -> str:
    return "hello"


HEALTHY = Workflow("healthy").step("a", hello).step("b", hello)


async def end_beside_a_healthy_run(stage: Stage, bad: Any, input: Any = None) -> tuple[str, Any]:
    """How the bad run ended, after a healthy one completed on the same worker, before and after."""
    async with stage.running(HEALTHY, bad) as engine:
        first = await engine.start(HEALTHY)
        run = await engine.start(bad, input)
        assert await first.result(timeout=PATIENCE_S) == {"a": "hello", "b": "hello"}
        await run.wait(timeout=PATIENCE_S)
        after = await engine.start(HEALTHY)
        assert await after.result(timeout=PATIENCE_S) == {"a": "hello", "b": "hello"}
        info = await run.info()
        assert stage.watch.counts["LeaseLost", run.id] == 0
        assert stage.watch.counts["RunClaimed", run.id] <= 2
        assert info.result is None
        return info.status, info.failure


def causes(failure: Any) -> list[str]:
    """The failure and what it came from, as texts."""
    texts = []
    while failure is not None:
        texts.append(str(failure))
        failure = failure.cause
    return texts


Does = Callable[..., Any]
"""What a place's function does: raise, or give something."""


def async_of(do: Does) -> Does:
    async def handler(ctx: Ctx, *more: Any) -> Any:
        return do()

    return handler


def plain_of(do: Does) -> Does:
    def handler(ctx: Ctx, *more: Any) -> Any:
        return do()

    return handler


def raising(make: Callable[[], BaseException]) -> Does:
    def do() -> Any:
        raise make()

    return do


def giving(value: Any) -> Does:
    return lambda: value
