"""Shielded: work that goes on to its end although whoever waits for it is cancelled, and
waiting for the ends of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any


async def to_the_end(
    work: Coroutine[Any, Any, None], on_cancel: Callable[[], None] = lambda: None
) -> None:
    """Do it all; a cancellation is told to ``on_cancel``, and raised when it is done."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
            on_cancel()
    task.result()
    if cancelled is not None:
        raise cancelled


async def ended(tasks: Iterable[asyncio.Task[Any] | None], patience_s: float) -> None:
    """Wait for the end of these, then cancel those that hang."""
    going = [task for task in tasks if task is not None]
    if going:
        await asyncio.wait(going, timeout=max(0.0, patience_s))
        for task in going:
            task.cancel()
        await asyncio.gather(*going, return_exceptions=True)
