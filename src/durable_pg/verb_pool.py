"""Verb pool: connections that are lent for one verb each.

A pool's usual way to lend and take back is half of what a verb costs in this process: a task, four
timers and five turns of the loop, because whoever gets a connection may be cancelled in the middle
of it, or leave something behind. Our verbs go on to their end, leave nothing behind, and throw away
a connection that is in doubt (``connection``). So lending is taking from a list. Rules:

1. The connection that was used last is lent first: it, and its process at the server, are awake.
2. At most ``size`` are there. Whoever comes when all are lent waits, in the order of coming.
3. One that nobody has needed for ``IDLE_S`` is closed, at the latest after twice that time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

IDLE_S = 300.0


class VerbPool:
    """Connections made by ``connect``, at most ``size``."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect
        self._size = size
        self._places = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._lent: set[Connection] = set()
        self._unused: set[Connection] = set()  # since the timer was set
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def acquire(self, *, timeout: float) -> Connection:
        """One that nobody else has; raises ``TimeoutError`` if there is none for so many seconds,
        and whatever ``connect`` raises."""
        if self._places.locked():
            async with asyncio.timeout(timeout):
                await self._places.acquire()
        else:
            await self._places.acquire()
        try:
            conn = self._take() or await self._connect()
        except BaseException:
            self._places.release()
            raise
        self._lent.add(conn)
        return conn

    def _take(self) -> Connection | None:
        if self._closed:
            raise asyncpg.InterfaceError("the pool is closed")
        while self._idle:
            conn = self._idle.pop()
            self._unused.discard(conn)
            if not conn.is_closed():
                return conn
        return None

    async def release(self, conn: Connection) -> None:
        """Take it back."""
        self._lent.discard(conn)
        if not conn.is_closed():
            self._idle.append(conn)
            if self._timer is None and not self._closed:
                self._set_timer()
        self._places.release()

    def _set_timer(self) -> None:
        self._unused = set(self._idle)
        self._timer = asyncio.get_running_loop().call_later(IDLE_S, self._close_unused)

    def _close_unused(self) -> None:
        self._timer = None
        for conn in self._unused:
            conn.terminate()
        self._idle = [conn for conn in self._idle if conn not in self._unused]
        if self._idle:
            self._set_timer()

    async def close(self) -> None:
        """Close them, when all are back; who wants one from now on gets ``InterfaceError``."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(self._size):
            await self._places.acquire()
        idle, self._idle = self._idle, []
        self._places.release()  # whoever waits is told
        await asyncio.gather(*(conn.close() for conn in idle))

    def terminate(self) -> None:
        """Hang up on all of them."""
        for conn in (*self._idle, *self._lent):
            conn.terminate()
