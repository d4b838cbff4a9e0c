"""Listen: hearing that other processes changed something, and letting them hear of us.

LISTEN and NOTIFY only shorten waiting: whoever hears nothing looks again by itself. Rules:

1. A NOTIFY never travels with a commit of ours. It takes a lock of the whole cluster until its
   transaction has ended, so a commit that carried one would make all others queue behind its
   flush to disk. It is sent afterwards, alone, by ``ring``.
2. ``ring`` is heard at once when it was quiet, and at most every ``REST_S`` under load: what rings
   meanwhile is gathered. The last one is always sent.
3. What this store sent itself is not news to it.
4. A connection that listens may die without a sign, so one that has been silent for ``SILENCE_S``
   is asked whether it lives.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from .connection import Connection, Connections
from .queries import ALIVE, NOTIFY
from .translate import DRIVER_ERRORS, translated

REST_S = 0.05
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
        self._heard = asyncio.Event()
        self._listening: Connection | None = None
        self._asked_at = 0.0
        self._ringing: asyncio.Task[None] | None = None
        self._again = False

    # --- hearing -----------------------------------------------------------------------------

    async def wait(self, timeout_ms: int | None) -> bool:
        """True when it has rung since the last time; False when the time is up."""
        loop = asyncio.get_running_loop()
        end = None if timeout_ms is None else loop.time() + timeout_ms / 1_000
        await self._listen()
        while not self._heard.is_set():
            left = SILENCE_S if end is None else min(end - loop.time(), SILENCE_S)
            if left <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._heard.wait()
            await self._check_alive()
        self._heard.clear()
        return True

    async def _listen(self) -> None:
        if self._listening is not None and not self._listening.is_closed():
            return
        again, self._listening = self._listening is not None, None
        try:
            conn = await self._connections.connect()
            try:
                await conn.add_listener(self._channel, self._hear)
            except BaseException:
                conn.terminate()
                raise
        except DRIVER_ERRORS as error:
            raise translated(error, self._connections.place) from error
        conn.add_termination_listener(self._lost)
        self._listening = conn
        self._asked_at = asyncio.get_running_loop().time()
        if again:
            self._heard.set()  # who knows what was missed

    def _hear(self, conn: Any, pid: int, channel: str, sender: object) -> None:
        self._asked_at = asyncio.get_running_loop().time()
        if sender != self._name:
            self._heard.set()

    def _lost(self, conn: Any) -> None:
        if self._listening is conn:
            self._heard.set()

    async def _check_alive(self) -> None:
        loop, conn = asyncio.get_running_loop(), self._listening
        if conn is None or conn.is_closed() or loop.time() - self._asked_at < SILENCE_S:
            return
        self._asked_at = loop.time()
        try:
            async with asyncio.timeout(ANSWER_S):
                await conn.fetch(ALIVE)
        except DRIVER_ERRORS:
            conn.terminate()
            self._heard.set()

    # --- ringing -----------------------------------------------------------------------------

    def ring(self) -> None:
        """Let the others hear that something changed; soon, and at most every ``REST_S``."""
        if self._ringing is None:
            self._ringing = asyncio.get_running_loop().create_task(self._ring())
        else:
            self._again = True

    async def _ring(self) -> None:
        try:
            while True:
                self._again = False
                with suppress(Exception):  # they will look by themselves
                    await self._connections.fetch(NOTIFY, self._channel, self._name)
                await asyncio.sleep(REST_S)
                if not self._again:
                    return
        finally:
            self._ringing = None

    async def close(self) -> None:
        """Send what is still to be heard, and hang up."""
        ringing, conn = self._ringing, self._listening
        self._listening = None
        if ringing is not None:
            ringing.cancel()
            await asyncio.wait({ringing})
            if self._again:
                with suppress(Exception):
                    await self._connections.fetch(NOTIFY, self._channel, self._name)
        if conn is not None and not conn.is_closed():
            conn.remove_termination_listener(self._lost)
            conn.terminate()


async def poll(timeout_ms: int | None, pause: Callable[[float], Awaitable[None]]) -> bool:
    """Where nothing can be heard: True after a while, False when the time is up before."""
    if timeout_ms is not None and timeout_ms / 1_000 < POLL_S:
        await pause(timeout_ms / 1_000)
        return False
    await pause(POLL_S)
    return True
