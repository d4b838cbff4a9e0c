"""In flight: the attempts of a run that are out; one, nearly always.

A dict of one is 224 bytes, and there may be thousands of runs in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from .empty import NO_DICT
from .outcome import Attempt, AttemptKey


class InFlight:
    """Attempts by their keys. One is kept by itself, those that come while it is out in a dict."""

    __slots__ = ("_one", "_others")

    def __init__(self) -> None:
        self._one: Attempt | None = None
        self._others: dict[AttemptKey, Attempt] = NO_DICT

    def __bool__(self) -> bool:
        return self._one is not None or bool(self._others)

    def __iter__(self) -> Iterator[Attempt]:
        if self._one is not None:
            yield self._one
        yield from self._others.values()

    def add(self, attempt: Attempt) -> None:
        """It goes out; no other of its key is."""
        if self._one is None:
            self._one = attempt
        else:
            self._others = self._others or {}
            self._others[attempt.key] = attempt

    def get(self, key: AttemptKey) -> Attempt | None:
        """The attempt of this key, if it is out."""
        one = self._one
        return one if one is not None and one.key == key else self._others.get(key)

    def pop(self, key: AttemptKey) -> Attempt | None:
        """The same; it is out no more."""
        one = self._one
        if one is not None and one.key == key:
            self._one = None
            return one
        return self._others.pop(key, None)
