"""Listen: hearing that other processes changed something, and letting them hear of us.

LISTEN and NOTIFY only shorten waiting: whoever hears nothing looks again by itself. Rules:

1. A NOTIFY takes a lock of the whole cluster until its transaction has ended, so commits that
   carried one would queue behind each other's flush to disk. It is sent afterwards, alone, by
   ``ring``: a transaction with nothing in it to be kept is not flushed.
   Only where it is quiet may the verb itself take it along (``carried``), which saves a round
   trip; and where that lock is not in use: a ring that was sent alone was answered at once.
2. ``ring`` is heard at once when it was quiet, and at most every ``REST_S`` under load: what rings
   meanwhile is gathered. The last one is always sent.
   ``ring_seldom`` does so at most every ``SELDOM_S``.
3. What this store sent itself is not news to it.
4. A change is told to everybody who waits when it is heard, and to the first who comes after it.
5. A connection that listens may die without a sign, so one that has been silent for ``SILENCE_S``
   is asked whether it lives. Nobody waits for its answer.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from durable_core.errors import DurableError

from .connection import CLOSE_S, Connections
from .queries import ALIVE, NOTIFY
from .ring import Ring
from .translate import DRIVER_ERRORS, translated
from .verb_pool import Connection

T = TypeVar("T")

REST_S = 0.05
SELDOM_S = 1.0
"""How often others hear of leases that were given at creation. Who has heard of one looks when it
would expire, and learns of the next ones."""
QUICK_S = 0.01
"""How soon a ring is answered that had to wait for nobody: a round trip or two."""
SLOW_S = 0.05
"""A verb that took longer, with its ring, may have waited for somebody's flush."""
SILENCE_S = 30.0
ANSWER_S = 10.0
POLL_S = 0.2
"""How often to look where nothing can be heard."""


class Bell:
    """One channel: ``wait`` hears it, ``ring`` sounds it."""

    def __init__(self, connections: Connections, channel: str) -> None:
        self._connections = connections
        self._channel = channel
        self._name = secrets.token_hex(8)
        self._heard = 0  # how often
        self._told = 0  # what was heard when last a wait was over
        self._changed = asyncio.Event()
        self._listening: Connection | None = None
        self._connecting = asyncio.Lock()
        self._silent_since = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._ringing: asyncio.Task[None] | None = None
        self._again = False
        self._is_free = False  # the lock of NOTIFY, for all we know
        self._seldom: asyncio.TimerHandle | None = None
        self._seldom_at = 0.0  # not before
        self._closed = False

    # --- hearing -----------------------------------------------------------------------------

    async def wait(self, timeout_ms: int | None) -> bool:
        """True when it has rung since the last time; False when the time is up."""
        loop = asyncio.get_running_loop()
        end = None if timeout_ms is None else loop.time() + timeout_ms / 1_000
        told = self._told
        await self._listen()
        while self._heard == told:
            left = SILENCE_S if end is None else min(end - loop.time(), SILENCE_S)
            if left <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()
            self._ask_if_silent()
        if self._closed:
            raise _is_closed()
        self._told = self._heard
        return True

    def _wake(self) -> None:
        self._heard += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _listen(self) -> None:
        """Be connected; anew, if the connection was lost."""
        async with self._connecting:
            if self._closed:
                raise _is_closed()
            if self._listening is None or self._listening.is_closed():
                await self._connect()

    async def _connect(self) -> None:
        self._listening = None
        try:
            async with asyncio.timeout(self._connections.address.timeout_s):
                conn = await self._connections.connect()
                try:
                    await conn.add_listener(self._channel, self._hear)
                except BaseException:
                    conn.terminate()
                    raise
        except DRIVER_ERRORS as error:
            raise translated(error, self._connections.place) from error
        if self._closed:
            conn.terminate()
            raise _is_closed()
        conn.add_termination_listener(self._lost)
        self._listening = conn
        self._silent_since = asyncio.get_running_loop().time()
        self._wake()  # who knows what was missed before

    def _hear(self, conn: Any, pid: int, channel: str, sender: object) -> None:
        self._silent_since = asyncio.get_running_loop().time()
        if sender != self._name:
            self._wake()

    def _lost(self, conn: Any) -> None:
        if self._listening is conn:
            self._wake()

    def _ask_if_silent(self) -> None:
        loop, conn = asyncio.get_running_loop(), self._listening
        is_silent = loop.time() - self._silent_since >= SILENCE_S
        if is_silent and conn is not None and self._asking is None:
            self._asking = loop.create_task(self._ask(conn))

    async def _ask(self, conn: Connection) -> None:
        """Hang up on whoever does not answer."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await conn.fetch(ALIVE)
            self._silent_since = asyncio.get_running_loop().time()
        except DRIVER_ERRORS:
            conn.terminate()
        finally:
            self._asking = None

    # --- ringing -----------------------------------------------------------------------------

    async def carried(self, verb: Callable[[Ring], Awaitable[T]]) -> tuple[T, bool]:
        """What the verb comes to, and whether it took its ring along, which then need not be
        sent."""
        ring, began = Ring(self._channel, self._name, self._may_carry), time.monotonic()
        try:
            result = await verb(ring)
        finally:
            if ring.carried and (ring.sounds is None or time.monotonic() - began > SLOW_S):
                self._is_free = False
        if ring.sounds and self._ringing is None and not self._closed:
            self._ringing = asyncio.get_running_loop().create_task(self._ring_after(REST_S))
        return result, bool(ring.sounds)

    def _may_carry(self) -> bool:
        return self._is_free and self._ringing is None and not self._closed

    def ring(self) -> None:
        """Let the others hear that something changed; soon, and at most every ``REST_S``."""
        self._again = True
        if self._ringing is None and not self._closed:
            self._ringing = asyncio.get_running_loop().create_task(self._ring_after(0))

    def ring_seldom(self) -> None:
        """The same, at most every ``SELDOM_S``."""
        loop = asyncio.get_running_loop()
        if self._seldom is None and not self._closed:
            if loop.time() >= self._seldom_at:
                self._ring_seldom()
            else:
                self._seldom = loop.call_at(self._seldom_at, self._ring_seldom)

    def _ring_seldom(self) -> None:
        self._seldom = None
        self._seldom_at = asyncio.get_running_loop().time() + SELDOM_S
        self.ring()

    async def _ring_after(self, rest_s: float) -> None:
        try:
            if rest_s:
                await asyncio.sleep(rest_s)
            while self._again:
                await self._notify()
                await asyncio.sleep(REST_S)
        finally:
            self._ringing = None

    async def _notify(self) -> None:
        self._again = self._is_free = False
        began = time.monotonic()
        with suppress(Exception):  # they will look by themselves
            await self._connections.fetch(NOTIFY, self._channel, self._name)
            self._is_free = time.monotonic() - began < QUICK_S

    async def close(self) -> None:
        """Send what is still to be heard, and hang up; whoever waits is told so."""
        self._closed = True
        if self._seldom is not None:
            self._seldom.cancel()
            self._again = True
        for task in (self._ringing, self._asking):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        if self._again:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._notify()
        conn = self._listening
        if conn is not None and not conn.is_closed():
            conn.terminate()
        self._wake()


def _is_closed() -> DurableError:
    return DurableError("This store is not open: it was closed while somebody waited for work.")


async def poll(timeout_ms: int | None, pause: Callable[[float], Awaitable[None]]) -> bool:
    """Where nothing can be heard: True after a while, False when the time is up before."""
    if timeout_ms is not None and timeout_ms / 1_000 < POLL_S:
        await pause(timeout_ms / 1_000)
        return False
    await pause(POLL_S)
    return True
