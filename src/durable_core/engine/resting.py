"""Resting: runs that are held because their moment is near, with nothing to do until then.

They take no place of their worker's: it claims and starts others meanwhile, and the slots see to
it that no more handlers run at once than they should.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

Sleeper = TypeVar("Sleeper")


class Resting(Generic[Sleeper]):
    """Who rests, each with a timer; ``on_moment`` is called when it is over."""

    def __init__(self, on_moment: Callable[[Sleeper], None]) -> None:
        self._on_moment = on_moment
        self._timers: dict[Sleeper, asyncio.TimerHandle] = {}

    @property
    def count(self) -> int:
        """How many rest."""
        return len(self._timers)

    def rest(self, sleeper: Sleeper, seconds: float) -> None:
        """Let it rest for so long."""
        self.stir(sleeper)
        loop = asyncio.get_running_loop()
        self._timers[sleeper] = loop.call_later(seconds, self._is_over, sleeper)

    def stir(self, sleeper: Sleeper) -> None:
        """It rests no more, if it did."""
        timer = self._timers.pop(sleeper, None)
        if timer is not None:
            timer.cancel()

    def _is_over(self, sleeper: Sleeper) -> None:
        del self._timers[sleeper]
        self._on_moment(sleeper)
