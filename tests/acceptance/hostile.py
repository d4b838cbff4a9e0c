"""Hostile values: what users, networks and mistakes hand to a public function."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

NAN = float("nan")
INFINITE = float("inf")
SURROGATE = "lone \ud800 surrogate"
HUGE = "x" * 10**6
NAIVE = datetime(2030, 1, 1)


class Hostile:
    """Refuses to be printed, compared, hashed, counted or believed."""

    def _refuse(self, *args: Any) -> Any:
        raise RuntimeError("this object refuses everything")

    __repr__ = __str__ = __len__ = __bool__ = __hash__ = _refuse
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __index__ = __float__ = _refuse


def cyclic() -> list[Any]:
    """A list that holds itself."""
    cycle: list[Any] = [1]
    cycle.append(cycle)
    return cycle


def deep(levels: int = 1_000) -> Any:
    """Lists in lists."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def endless() -> Iterator[int]:
    """An iterator without an end."""
    while True:
        yield 1


LONG_INT = -(10**5_000)
"""Python refuses to print it."""

UNPRINTABLE = [Hostile(), LONG_INT]
"""Wrong everywhere, and a message must not try to show them."""

NO_NAMES = [None, 5, True, 1.5, b"name", [], {}, object(), "", "   ", "a\x00b", SURROGATE, HUGE]
"""What no name, id or key may be."""

NO_VALUES = [NAN, INFINITE, -INFINITE, SURROGATE, {SURROGATE: 1}, {1: "a", "1": "b"}, object(),
             Hostile(), cyclic(), deep(), lambda: None, int, endless(), HUGE * 2,
             [1, {"deep": (2, NAN)}], Exception("value"), 1j]  # fmt: skip
"""What no input, payload or result may be."""

NO_DURATIONS = [-1, -0.5, NAN, INFINITE, -INFINITE, "soon", [], True, object(), NAIVE,
                timedelta(-1), timedelta.max, 10**30]  # fmt: skip
"""What no duration may be."""

NO_COUNTS = [0, -1, 1.5, "5", True, NAN, INFINITE, [], object()]
"""What no number of things may be."""

NO_FUNCTIONS = [5, "name", [], object()]
"""What no handler may be."""
