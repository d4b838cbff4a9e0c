"""Verb pool: connections that are lent for one verb each.

A pool's usual way to lend and take back is half of what a verb costs in this process: a task, four
timers and five turns of the loop, because whoever gets a connection may be cancelled in the middle
of it. Our verbs go on to their end (``connection``). So lending is taking from a list. Rules:

1. The connection that was used last is lent first: it, and its process at the server, are awake.
2. At most ``size`` are there. Whoever comes when all are lent waits, in the order of coming.
3. What comes back in the middle of a transaction, because the server refused to end it, is hung
   up on: it would fail every verb after.
4. One that nobody has needed for ``IDLE_S`` is closed, at the latest after twice that time.
5. After ``close`` or ``terminate`` nothing is left open, whatever was under way.
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
        self._places = asyncio.BoundedSemaphore(size)
        self._idle: list[Connection] = []
        self._lent: set[Connection] = set()
        self._unused: set[Connection] = set()  # since the timer was set
        self._timer: asyncio.TimerHandle | None = None
        self._came_back = asyncio.Event()
        self._closed = False

    async def acquire(self, *, timeout: float) -> Connection:
        """One that nobody else has; raises ``TimeoutError`` if there is none within so many
        seconds, and whatever ``connect`` raises."""
        if self._idle and not self._places.locked():
            await self._places.acquire()  # which does not wait
            conn = self._take()
            if conn is not None:
                return conn
            self._places.release()
        async with asyncio.timeout(timeout):
            return await self._acquire()

    async def _acquire(self) -> Connection:
        self._check_open()
        await self._places.acquire()
        try:
            return self._take() or await self._connected()
        except BaseException:
            self._places.release()
            raise

    def _check_open(self) -> None:
        if self._closed:
            raise asyncpg.InterfaceError("the pool is closed")

    def _take(self) -> Connection | None:
        while self._idle and not self._closed:
            conn = self._idle.pop()
            self._unused.discard(conn)
            if not conn.is_closed():
                self._lent.add(conn)
                return conn
        return None

    async def _connected(self) -> Connection:
        self._check_open()
        conn = await self._connect()
        if self._closed:
            conn.terminate()
        self._check_open()
        self._lent.add(conn)
        return conn

    async def release(self, conn: Connection) -> None:
        """Take it back. (``async`` as the driver's pool has it; it waits for nothing.)"""
        self._lent.remove(conn)
        self._places.release()
        if self._closed:
            self._came_back.set()
        if conn.is_closed():
            return
        if conn.is_in_transaction():
            conn.terminate()
            return
        self._idle.append(conn)
        if self._timer is None and not self._closed:
            self._set_timer()

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
        """Close them, when all are back; who wants one from now on gets ``InterfaceError``. Whoever
        has no patience for that cancels it: then all are hung up on."""
        self._refuse()
        try:
            while self._lent:
                self._came_back.clear()
                await self._came_back.wait()
            await asyncio.gather(*(conn.close() for conn in self._idle))
        except BaseException:
            self.terminate()
            raise

    def terminate(self) -> None:
        """Hang up on all of them."""
        self._refuse()
        for conn in (*self._idle, *self._lent):
            conn.terminate()

    def _refuse(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
