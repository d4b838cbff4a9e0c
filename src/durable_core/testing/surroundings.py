"""Surroundings: what a handler finds around it in a simulation: time, chance, the world outside.

``time.time`` shows the virtual time, ``time.sleep`` returns at once and is counted, and the
numbers of ``random`` follow from the plan, the process and the call. Other threads see nothing
of it, and afterwards everything is as it was.
"""

from __future__ import annotations

import inspect
import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .processes import skew_s
from .virtual_time import VirtualTime

READING_S = 1e-6
"""How long it takes to read the clock: whoever waits by looking at it does not wait for ever."""

_REAL_TIME, _REAL_TIME_NS, _REAL_SLEEP = time.time, time.time_ns, time.sleep


@contextmanager
def simulated(virtual: VirtualTime) -> Iterator[None]:
    """While this lasts, handlers called in this thread see the virtual time, as their process's
    own clock shows it, and chance that is none."""
    thread, chance = threading.get_ident(), random.getstate()
    passed = [0.0]
    outside = time.time, time.time_ns, time.sleep

    def here() -> bool:
        return threading.get_ident() == thread

    def now() -> float:
        if not here():
            return _REAL_TIME()
        passed[0] += READING_S
        return virtual.start_ms / 1_000 + virtual.seconds + skew_s() + passed[0]

    def now_ns() -> int:
        return int(now() * 1e9) if here() else _REAL_TIME_NS()

    def sleep(seconds: float, /) -> None:
        if here():
            passed[0] += seconds
        else:
            _REAL_SLEEP(seconds)

    time.time, time.time_ns, time.sleep = now, now_ns, sleep  # type: ignore[assignment]
    try:
        yield
    finally:
        time.time, time.time_ns, time.sleep = outside
        random.setstate(chance)


def draw_anew(seed: int, *place: object) -> None:
    """From here on ``random`` gives what follows from the seed and this place."""
    random.seed(f"{seed} {place}")


@contextmanager
def unheard() -> Iterator[None]:
    """What the engine logs of thousands of mishaps that were meant to happen is of no use."""
    logger = logging.getLogger("durable")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


class Outside:
    """The lifespan of every simulated engine: it gives the world outside, which is there."""

    __signature__ = inspect.Signature()  # engines are made by the thousand, and each looks at it

    def __init__(self, deps: Any) -> None:
        self._deps = deps

    def __call__(self) -> Outside:
        return self

    async def __aenter__(self) -> Any:
        return self._deps

    async def __aexit__(self, *_: object) -> None:
        """It outlives every process."""
