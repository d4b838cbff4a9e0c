"""Gathering: starts that are made at the same time are created in one transaction.

While one batch is being written the next one gathers, so nothing waits for company. Rules:

1. Each start is answered once: with what the store says of it, or with the error it met.
2. A store that stays out of reach is told to all of a batch; after any other error each of them
   is tried alone, so that one run the store refuses does not take the others with it.
3. Whoever stops waiting changes nothing: what is being written is written.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence

from ..errors import StoreUnavailableError
from ..store import CreateResult, NewRun, Store
from .retrying import retrying

BATCH = 200
"""Runs in one store call, at most."""

Waiter = asyncio.Future[CreateResult]


class Gathering:
    """Creates runs; made anew each time the engine is opened."""

    def __init__(
        self,
        store: Store,
        on_orphan: Callable[[], None] = lambda: None,
        *,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """``on_orphan`` is called when a start came through whose starter waits no more."""
        self._store = store
        self._entropy = entropy
        self._on_orphan = on_orphan
        self._pending: list[tuple[NewRun, Waiter]] = []
        self._task: asyncio.Task[None] | None = None

    async def create(self, new: NewRun) -> CreateResult:
        """As ``Store.create`` does it."""
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        self._pending.append((new, waiter))
        if self._task is None:
            self._task = loop.create_task(self._flush())
        return await waiter

    async def _flush(self) -> None:
        batch: list[tuple[NewRun, Waiter]] = []
        try:
            while self._pending:
                batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
                await self._write(batch)
        except asyncio.CancelledError:  # the event loop ends
            for _, waiter in (*batch, *self._pending):
                waiter.cancel()
            raise
        finally:
            self._task = None

    async def _write(self, batch: Sequence[tuple[NewRun, Waiter]]) -> None:
        try:
            news = [new for new, _ in batch]
            results = await retrying(lambda: self._store.create(news), self._entropy)
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreUnavailableError):
                for one in batch:
                    await self._write([one])
                return
            for _, waiter in batch:
                if not waiter.done():
                    waiter.set_exception(error)
            return
        for (_, waiter), result in zip(batch, results, strict=True):
            if not waiter.done():
                waiter.set_result(result)
            else:
                self._on_orphan()
