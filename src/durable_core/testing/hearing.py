"""Hearing: simulated processes that listen to the store, and when they are told of changes."""

from __future__ import annotations

import asyncio

from .processes import Process


class Hearing:
    """One store's changes, and who has been told of which."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []
        self._changes = 0
        self._told: dict[Process, int] = {}  # of which change each process knows

    def changed(self) -> None:
        """Something in the store may have changed: wake every process that listens."""
        self._changes += 1
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, process: Process, timeout_ms: int | None) -> bool:
        """True after the next change, or one this process was not told of; False when the time
        is up before."""
        if self._told.setdefault(process, self._changes) != self._changes:
            self._told[process] = self._changes
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1_000):
                await waiter
        except TimeoutError:
            return False
        self._told[process] = self._changes
        return True
