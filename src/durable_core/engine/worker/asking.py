"""Asking: calls that may lease runs, and what is told of runs before their answers are here.

A call has read the inboxes of the runs it leased when it was done, and not when its answer was
taken in. Of a message that came between the two nobody here can be told: the run is in no hands
yet. So whoever waits for an answer remembers what was told meanwhile, and the runs among it have
their inboxes read once more when they are taken over.
"""

from __future__ import annotations

from collections.abc import Iterable


class Asked:
    """One call; ``since`` is when it was made, in monotonic seconds, by which leases are kept."""

    __slots__ = ("_all", "_run_ids", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self._run_ids: set[str] = set()
        self._all = False

    def told(self, run_ids: Iterable[str]) -> None:
        """These have got messages."""
        self._run_ids.update(run_ids)

    def heard(self) -> None:
        """Any run may have."""
        self._all = True

    def may_have_missed(self, run_id: str) -> bool:
        """Whether this run may have messages that the answer does not bring."""
        return self._all or run_id in self._run_ids


class Asking:
    """The calls of one worker that are not answered yet."""

    def __init__(self) -> None:
        self._calls: set[Asked] = set()

    def begin(self, since: float) -> Asked:
        """A call is made now."""
        asked = Asked(since)
        self._calls.add(asked)
        return asked

    def end(self, asked: Asked) -> None:
        """What it leased is taken over, or it leased nothing."""
        self._calls.discard(asked)

    def told(self, run_ids: Iterable[str]) -> None:
        """These runs have got messages."""
        for asked in self._calls:
            asked.told(run_ids)

    def heard(self) -> None:
        """Something may have changed through another connection."""
        for asked in self._calls:
            asked.heard()
