"""Virtual time: an event loop whose clock jumps to the next timer instead of waiting.

The engine's own loop code runs on it unchanged. A ``VirtualTime`` outlives the loops made on it,
so that a crashed process and the one that follows it share one clock. Plain handlers are called
inline. Whoever waits for the real world (a thread, a file) says so in ``outside``.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from ..errors import DurableError

T = TypeVar("T")
START_MS = 1_000_000_000_000
"""What a virtual clock shows at first: 2001-09-09, so that wall-clock time stands out."""


class DeadlockError(DurableError):
    """Nothing can ever happen again: no timer is set, and what is awaited never comes."""


class VirtualTime:
    """A clock in ms that only moves when somebody moves it."""

    def __init__(self, start_ms: int = START_MS) -> None:
        self.start_ms = start_ms
        self.seconds = 0.0  # since the start: a loop compares times to the nanosecond
        self.lenient = False  # give the real world a moment before time jumps
        self.outside = 0  # calls to the real world under way; time stands still meanwhile

    def now_ms(self) -> int:
        """The time, in ms since 1970."""
        return self.start_ms + int(self.seconds * 1000 + 1e-6)

    def advance(self, ms: float) -> None:
        """Let time pass."""
        self.seconds += ms / 1000

    def loop(self) -> VirtualLoop:
        """A new event loop on this clock."""
        return VirtualLoop(self)


class _Jump(selectors.DefaultSelector):
    """Instead of waiting for the real world, lets the virtual time pass."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__()
        self._time = time

    def select(self, timeout: float | None = None) -> list[Any]:
        if self._time.outside > 0 and not self._time.lenient and timeout != 0:
            return super().select(1.0)
        ready = super().select(0.005 if self._time.lenient and timeout != 0 else 0)
        if not ready and timeout is None and not self._time.lenient:
            raise DeadlockError("the simulated process waits for something that never comes")
        if not ready and timeout:
            self._time.seconds += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time."""

    def __init__(self, time: VirtualTime, selector: selectors.BaseSelector | None = None) -> None:
        self._virtual = time
        super().__init__(selector or _Jump(time))
        # What asyncio takes for equally late: its own 1 ns is lost in a float after 97 days, and
        # a timer that is due to the last digit would then never be.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._virtual.seconds


class InlineExecutor(Executor):
    """Calls at once, in the caller's thread."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call ``fn`` and give a future that is done."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future
