"""Resting: runs that are held because their moment is near, with nothing to do until then.

They take no place of their worker's: it claims and starts others meanwhile, and the slots see to
it that no more handlers run at once than they should.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar


class Sleeper(Protocol):
    """Who may rest."""

    def time_is_up(self) -> None:
        """It has rested."""
        ...


SleeperT = TypeVar("SleeperT", bound=Sleeper)


class Resting(Generic[SleeperT]):
    """Who rests, each with a timer."""

    def __init__(self) -> None:
        self._timers: dict[SleeperT, asyncio.TimerHandle] = {}

    @property
    def count(self) -> int:
        """How many rest."""
        return len(self._timers)

    def rest(self, sleeper: SleeperT, seconds: float) -> None:
        """Let it rest for so long."""
        self.stir(sleeper)
        loop = asyncio.get_running_loop()
        self._timers[sleeper] = loop.call_later(seconds, self._is_over, sleeper)

    def stir(self, sleeper: SleeperT) -> None:
        """It rests no more, if it did."""
        timer = self._timers.pop(sleeper, None)
        if timer is not None:
            timer.cancel()

    def _is_over(self, sleeper: SleeperT) -> None:
        del self._timers[sleeper]
        sleeper.time_is_up()
