"""Clock: the engine's only sense of time, and where its surroundings come in.

Durable decisions use the store's clock: the last store time seen plus a monotonic difference
(``StoreClock``). ``Host`` bundles what a simulator replaces: the entropy for ids and tokens, the
threads for plain handlers, and whether leases are renewed from a thread. Waiting goes through
the running event loop, which a simulator brings along too.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import attrs

from ..kernel.outcome import Attempt


def _threads(count: int) -> Executor:
    return ThreadPoolExecutor(count, thread_name_prefix="durable-step")


Calling = Callable[[str, Attempt, Callable[[], Awaitable[Any]]], Awaitable[Any]]
Driving = Callable[[Any, Callable[[], Any]], Any]


@attrs.frozen(slots=True, kw_only=True)
class Host:
    """The engine's surroundings.

    ``entropy(n)`` gives n unpredictable bytes; ``executor(n)`` calls up to n plain handlers at
    once; ``fallback_poll_s`` is how often to look for work when nothing was heard (None: never);
    ``renew_in_thread`` False renews leases on the main loop, which only a simulated loop that
    nothing can block may do. ``lead_s`` is how long before a moment its commit is sent where
    nothing else goes on. The store refuses it if that was too early; then it has woken up whatever
    the next one needs, so that it takes less. ``calling(run_id, attempt, call)`` stands
    around each call of a handler: it awaits ``call()`` for the handler's value, and gives it on.
    ``driving(body, call)`` stands around each stretch of a body of code in the same way;
    ``body.close()`` drops it.
    """

    entropy: Callable[[int], bytes] = secrets.token_bytes
    executor: Callable[[int], Executor] = _threads
    fallback_poll_s: float | None = 5.0
    renew_in_thread: bool = True
    lead_s: float = 0.002
    calling: Calling | None = None
    driving: Driving | None = None


AGAIN_S = 0.0005
"""How long before its moment a commit that came too early is sent again, where there is a lead."""
KEPT_S = 10.0
"""How long an answer counts for more than a newer one that took longer."""
ROUNDING_MS = 1e-5
"""What a clock of seconds may lack of a whole ms, only because it is a float."""
SURELY_S = 50e-6
"""Of timers: more than a loop may be early, or a clock that has run for years may be wrong."""


class StoreClock:
    """The store's time in ms, between two answers of the store.

    An answer tells the time as it was somewhere between the question and the answer, in whole
    ms. So the store's clock is no earlier than that time, counted from the answer, and no later
    than the next ms, counted from the question. What is known is kept while it lies between the
    two, for ``KEPT_S``: of all answers the one that took the shortest counts, and time is never
    ahead of the store's. Only if that is set back by less than an answer takes, it is, for so
    long.
    """

    __slots__ = ("_at", "_loop", "_store_ms")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._store_ms = 0
        self._at = 0.0

    @property
    def known(self) -> bool:
        """Whether the store has been asked yet."""
        return self._loop is not None

    def reset(self) -> None:
        """Another event loop: what was known does not count."""
        self._loop = None

    @staticmethod
    def stamp() -> float:
        """Taken before the store is asked, for ``set``."""
        return asyncio.get_running_loop().time()

    def set(self, store_ms: int, stamp: float | None = None) -> None:
        """The store says what time it is, also backwards. Without ``stamp`` nobody knows when it
        was asked, so it can only be later than was known."""
        loop = asyncio.get_running_loop()
        at = loop.time()
        if loop is self._loop:
            ahead_ms = (at - self._at) * 1000 - (store_ms - self._store_ms)
            if stamp is None:
                fits = ahead_ms >= 0
            else:
                young = at - self._at < KEPT_S
                fits = young and 0 <= ahead_ms <= (at - stamp) * 1000 + 1
            if fits:
                return
        self._loop, self._store_ms, self._at = loop, store_ms, at

    def now_ms(self) -> int:
        """The store's time, in ms since 1970 UTC."""
        assert self._loop is not None, "the store has not been asked for the time yet"
        return self._store_ms + int((self._loop.time() - self._at) * 1000 + ROUNDING_MS)

    def seconds_until(self, store_ms: int) -> float:
        """How long to wait until it is surely past this moment; 0 if it is."""
        assert self._loop is not None, "the store has not been asked for the time yet"
        passed_s = self._loop.time() - self._at
        left_s = (store_ms - self._store_ms) / 1000 - passed_s
        return left_s + SURELY_S if left_s > 0 else 0.0


def share(entropy: Callable[[int], bytes]) -> float:
    """A number from 0 up to, but not, 1; each as likely as the other."""
    return int.from_bytes(entropy(2), "big") / 65_536


class Backoff:
    """Growing, capped pauses with jitter: uniform between a half and the whole."""

    __slots__ = ("_entropy", "_first_s", "_longest_s", "_pause_s")

    def __init__(
        self, entropy: Callable[[int], bytes], *, first_s: float = 0.05, longest_s: float = 5.0
    ) -> None:
        self._entropy = entropy
        self._first_s = first_s
        self._longest_s = longest_s
        self._pause_s = first_s

    def next_s(self) -> float:
        """Seconds to pause before the next try."""
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, self._longest_s)
        return pause_s * (1 + share(self._entropy)) / 2

    def reset(self) -> None:
        """It went well: begin again with the first pause."""
        self._pause_s = self._first_s


def time_ordered_id(now_ms: int, entropy: Callable[[int], bytes]) -> str:
    """A UUID of version 7 as text: 48 bits of ms, then 74 unpredictable bits (RFC 9562)."""
    value = int.from_bytes(entropy(10), "big")
    rand_a, rand_b = value >> 68, value & ((1 << 62) - 1)
    whole = (now_ms & ((1 << 48) - 1)) << 80 | 7 << 76 | (rand_a & 0xFFF) << 64 | 2 << 62 | rand_b
    text = f"{whole:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
