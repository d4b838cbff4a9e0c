"""Shielded: work that goes on to its end although whoever waits for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
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
