"""Ledger: the world outside of the corpus, and the handlers that act on it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from durable_core import Suspend

Ctx = Any

TALLY: ContextVar[Counter[str]] = ContextVar("TALLY")
"""How often each pure function was asked in the simulation under way. Those see nothing of the
world, so their calls are counted beside it; each ``Ledger`` begins a new count."""


class Ledger:
    """The world outside: what was done and undone, and with which values."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        self.undone: Counter[str] = Counter()
        self.undone_with: list[tuple[str, Any]] = []
        self.asked: Counter[str] = Counter()
        TALLY.set(self.asked)


# --- handlers ------------------------------------------------------------------------------------


async def act(ctx: Ctx) -> str:
    """Has an effect, and gives its unit."""
    ctx.deps.done[ctx.unit] += 1
    return str(ctx.unit)


def count(ctx: Ctx) -> None:
    """The same as a plain function; what it gives is None, and that is a result."""
    ctx.deps.done[ctx.unit] += 1


async def undo(ctx: Ctx) -> None:
    """Undoes what has given its unit."""
    ctx.deps.undone[ctx.unit] += 1
    ctx.deps.undone_with.append((ctx.unit, ctx.value))


async def cannot_undo(ctx: Ctx) -> None:
    """A compensator that always raises."""
    raise ValueError("it cannot be undone")


async def refuse(ctx: Ctx) -> None:
    """Never succeeds."""
    raise ValueError("never")


async def third_time(ctx: Ctx) -> int:
    """Succeeds in its third attempt."""
    if ctx.attempt < 3:
        raise ValueError("not yet")
    return int(ctx.attempt)


async def linger(ctx: Ctx) -> str:
    """Takes its time, then acts; told to stop, it does so all the same."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(40)
    return await act(ctx)


LATE_S = 16.5
"""So that it ends 20.5 s after its beginning: the second attempt begins after 19 s (a time-out of
4 s, 5 s of grace, 10 s of backoff), and ends after 22 s."""


async def stubborn(ctx: Ctx) -> int:
    """The first attempt takes too long, and its end comes in the middle of the second."""
    try:
        await asyncio.sleep(20 if ctx.attempt == 1 else 3)
    except asyncio.CancelledError:
        await asyncio.sleep(LATE_S)
    return int(ctx.attempt)


async def ask(ctx: Ctx) -> Any:
    """A turn of an agent: suspends, and gives the answer."""
    if ctx.resumption is None:
        return Suspend(ctx.unit)
    ctx.deps.done[ctx.unit] += 1
    return {"asked": ctx.unit, "answer": ctx.resumption.data}


async def add_one(ctx: Ctx, value: int) -> int:
    """One iteration."""
    ctx.deps.done[ctx.unit] += 1
    return value + 1


def items(ctx: Ctx) -> list[str]:
    """Asked once."""
    TALLY.get()[f"items of {ctx.unit}"] += 1
    return ["a", "b"]


def left(ctx: Ctx) -> str:
    """Asked once."""
    TALLY.get()[f"route of {ctx.unit}"] += 1
    return "left"


def three(value: int, n: int) -> bool:
    """The end of a loop."""
    return n >= 3


def same(value: int) -> int:
    """What a loop goes on with."""
    return value
