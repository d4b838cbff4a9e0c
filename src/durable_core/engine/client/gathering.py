"""Gathering: what is asked of the store at the same time is asked in one transaction.

While one batch is being written the next one gathers, so nothing waits for company. Rules:

1. Each item is answered once: with what the store says of it, or with the error it met.
2. A store that stays out of reach, or cannot say whether it did what must not be done twice, is
   told to all of a batch; after any other error each of them is tried alone, in their order, so
   that one item the store refuses does not take the others with it.
3. Whoever stops waiting changes nothing: what is being written is written.
4. Items are written in the order in which they came.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

from ...errors import StoreUnavailableError
from ..shielded import ended
from .retrying import PATIENCE_S, retrying

BATCH = 200
"""Items in one store call, at most."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Gathering(Generic[Item, Answer]):
    """One verb of the store, which answers each item; made anew each time the engine is opened."""

    def __init__(
        self,
        verb: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        repeatable: bool = True,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """``repeatable``: doing it twice is doing it once, with each item."""
        self._verb = verb
        self._repeatable = repeatable
        self._entropy = entropy
        self._pending: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """What the verb answers to it."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Answer] = loop.create_future()
        self._pending.append((item, waiter))
        if self.idle:
            self._task = loop.create_task(self._flush())
        return await waiter

    @property
    def idle(self) -> bool:
        """Whether all is answered."""
        return self._task is None or self._task.done()

    async def close(self) -> None:
        """Return when all is answered; those to whom the store says nothing for as long as one
        call would wait for it are told that. Behind it, nothing may be asked."""
        if self._task is not None and not self._task.done():
            await ended([self._task], PATIENCE_S)

    async def _flush(self) -> None:
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        try:
            while self._pending:
                batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
                await self._write(batch)
        except asyncio.CancelledError:  # the engine is closed, or the event loop ends
            self._fail(batch, _cut_off(outcome_unknown=True))
            self._fail(self._pending, _cut_off(outcome_unknown=False))
            self._pending = []
            raise

    async def _write(self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            items = [item for item, _ in batch]
            answers = await retrying(
                lambda: self._verb(items), self._entropy, repeatable=self._repeatable
            )
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, StoreUnavailableError):
                for one in batch:
                    await self._write([one])
            else:
                self._fail(batch, error)
            return
        for (_, waiter), answer in zip(batch, answers, strict=True):
            if not waiter.done():
                waiter.set_result(answer)

    def _fail(self, batch: Iterable[tuple[Item, asyncio.Future[Answer]]], error: Exception) -> None:
        for _, waiter in batch:
            if not waiter.done():
                waiter.set_exception(error)


def _cut_off(*, outcome_unknown: bool) -> StoreUnavailableError:
    return StoreUnavailableError(
        "the engine was closed before the store had answered", outcome_unknown=outcome_unknown
    )
