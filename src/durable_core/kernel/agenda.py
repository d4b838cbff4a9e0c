"""Agenda: what a run in memory has to do next, and what it waits for."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping

from .empty import NO_DICT, NO_LIST
from .ids import UnitKey
from .outcome import AttemptKey


class Agenda:
    """Attempts to be started, moments that come, and units that wait for signals.

    Disposable: a cursor that begins anew finds all of it again.
    """

    __slots__ = ("_awaiting", "_due_number", "_dues", "_ready")

    def __init__(self) -> None:
        self._ready: dict[AttemptKey, None] = NO_DICT  # in order
        self._dues: list[tuple[int, int, AttemptKey]] = NO_LIST
        self._due_number = 0
        self._awaiting: dict[str, dict[UnitKey, None]] = NO_DICT

    # --- attempts ------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether there is an attempt to start."""
        return bool(self._ready)

    def make_ready(self, key: AttemptKey) -> None:
        """This attempt can be started."""
        self._ready = self._ready or {}
        self._ready[key] = None

    def take_ready(self) -> Mapping[AttemptKey, None]:
        """The attempts to be started, in the order they came; they are no longer here."""
        ready, self._ready = self._ready, NO_DICT
        return ready

    def unready(self, key: AttemptKey) -> None:
        """Nothing is to be started for it."""
        self._ready.pop(key, None)

    # --- moments -------------------------------------------------------------------------------

    def remind_at(self, moment_ms: int, key: AttemptKey) -> None:
        """Something is due for this then."""
        self._dues = self._dues or []
        heapq.heappush(self._dues, (moment_ms, self._due_number, key))
        self._due_number += 1

    def due(self, now_ms: int) -> list[AttemptKey]:
        """Those whose moment has come, the earliest first; they are no longer here."""
        keys = []
        while self._dues and self._dues[0][0] <= now_ms:
            keys.append(heapq.heappop(self._dues)[2])
        return keys

    def next_ms(self, is_over: Callable[[AttemptKey], bool]) -> int | None:
        """The next moment of what is not over by now, as the time-out of a signal that came is;
        what is over is no longer here."""
        while self._dues and is_over(self._dues[0][2]):
            heapq.heappop(self._dues)
        return self._dues[0][0] if self._dues else None

    # --- signals -------------------------------------------------------------------------------

    def wait_for(self, signal: str, unit: UnitKey) -> None:
        """This unit waits for a signal of this name."""
        self._awaiting = self._awaiting or {}
        self._awaiting.setdefault(signal, {})[unit] = None

    def who_wait_for(self, signal: str) -> Mapping[UnitKey, None]:
        """The units that do."""
        units: Mapping[UnitKey, None] = self._awaiting.get(signal, NO_DICT)
        return units

    def wait_no_more(self, signal: str, unit: UnitKey) -> None:
        """This unit has got one, or wants none any more."""
        self._awaiting.get(signal, NO_DICT).pop(unit, None)
