"""Clock: the engine's only sense of time, and where its surroundings come in.

Durable decisions use the store's clock: the last store time seen plus a monotonic difference
(``StoreClock``). ``Host`` bundles what a simulator replaces: the entropy for ids and tokens, and
the host that renews leases. Waiting goes through the running event loop, which a simulator may
also bring along.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import attrs


@attrs.frozen(slots=True, kw_only=True)
class Host:
    """The engine's surroundings; ``entropy(n)`` gives n unpredictable bytes."""

    entropy: Callable[[int], bytes] = secrets.token_bytes


class StoreClock:
    """The store's time in ms, between two answers of the store."""

    __slots__ = ("_at", "_loop", "_store_ms")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._store_ms = 0
        self._at = 0.0

    def set(self, store_ms: int) -> None:
        """The store has just said what time it is. Time never goes back."""
        loop = asyncio.get_running_loop()
        if self._loop is loop and store_ms < self.now_ms():
            return
        self._loop = loop
        self._store_ms = store_ms
        self._at = loop.time()

    def now_ms(self) -> int:
        """The store's time, in ms since 1970 UTC."""
        assert self._loop is not None, "the store has not been asked for the time yet"
        return self._store_ms + int((self._loop.time() - self._at) * 1000)


def time_ordered_id(now_ms: int, entropy: Callable[[int], bytes]) -> str:
    """A UUID of version 7 as text: 48 bits of ms, then 74 unpredictable bits (RFC 9562)."""
    value = int.from_bytes(entropy(10), "big")
    rand_a, rand_b = value >> 68, value & (1 << 62) - 1
    whole = (now_ms & (1 << 48) - 1) << 80 | 7 << 76 | (rand_a & 0xFFF) << 64 | 2 << 62 | rand_b
    text = f"{whole:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
