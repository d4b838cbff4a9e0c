"""Crowding: workers that wake at one moment for the same due runs spread out.

When many timers or leases fall due together, every worker's next look is at that very moment.
The claims do not hinder each other, but most of them find that others were quicker. A worker that
came for something due and found nothing holds back for a random moment next time, up to twice as
long each time; one that found something comes on time again. So does one that gave up a run which
its code does not fit, and which others may: it would be the first to have it back.
"""

from __future__ import annotations

from collections.abc import Callable

FIRST_S = 0.004
LONGEST_S = 0.25


class Crowding:
    """How long to hold back beyond the due time."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._most_s = 0.0

    def found(self, count: int, *, was_due: bool) -> None:
        """A claim brought so many runs; ``was_due``: it came for something known to be due."""
        if count:
            self._most_s = 0.0
        elif was_due:
            self._most_s = min(max(FIRST_S, 2 * self._most_s), LONGEST_S)

    def let_others(self) -> None:
        """Something will fall due that is not for this worker, as far as it knows."""
        self._most_s = LONGEST_S

    def pause_s(self) -> float:
        """Seconds, evenly drawn from none to the most."""
        if not self._most_s:
            return 0.0
        return self._most_s * int.from_bytes(self._entropy(2), "big") / 65_536
