"""Local: word of mouth between the workers and the clients of one engine.

What this process did itself needs no round through the store to be noticed here: a run started
or woken is worked on at once, a message delivered to a held run is read at once, and whoever waits
for a run's end is told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ..store import NewRun
from .waiting import Completed
from .worker.eager import Places, Seats


class Neighbour(Protocol):
    """A worker of the same engine."""

    def wake(self) -> None:
        """Runs may be due."""
        ...

    def holds(self, run_id: str) -> bool:
        """Whether this worker holds the run now."""
        ...

    def mail(self, run_ids: Iterable[str]) -> None:
        """Messages were delivered to these runs: it holds them, or nobody here does."""
        ...

    def keep_places(self, news: Sequence[NewRun]) -> Places | None:
        """Places for these runs, if it can take all of them now."""
        ...

    def keep_seats(self, count: int) -> Seats | None:
        """Places for so many runs that messages may wake, if it has them now."""
        ...


class Local:
    """The workers of an engine, and those who wait for ends of runs."""

    def __init__(self) -> None:
        self._workers: list[Neighbour] = []
        self.on_ended: Callable[[str, Completed | None], None] = lambda run_id, completed: None

    def join(self, worker: Neighbour) -> None:
        """A worker has started."""
        self._workers.append(worker)

    def leave(self, worker: Neighbour) -> None:
        """A worker is stopping."""
        if worker in self._workers:
            self._workers.remove(worker)

    def places_for(self, news: Sequence[NewRun]) -> Places | None:
        """Places for new runs, with a worker that can take all of them now."""
        for worker in self._workers:
            places = worker.keep_places(news)
            if places is not None:
                return places
        return None

    def seats_for(self, run_ids: Iterable[str]) -> Seats | None:
        """Places for those of these runs that nobody here holds, with a worker that has room for
        all of them now."""
        count = sum(not any(w.holds(run_id) for w in self._workers) for run_id in run_ids)
        for worker in self._workers if count else ():
            seats = worker.keep_seats(count)
            if seats is not None:
                return seats
        return None

    def runs_are_due(self) -> None:
        """Runs were created, or handed back, or have a new due time."""
        for worker in self._workers:
            worker.wake()

    def delivered(self, run_id: str) -> None:
        """A message was put into this run's inbox."""
        for worker in self._workers:
            if worker.holds(run_id):
                worker.mail((run_id,))
                return
        for worker in self._workers:
            worker.mail((run_id,))  # one of them may have leased it, and not know that yet
            worker.wake()

    def run_ended(self, run_id: str, completed: Completed | None = None) -> None:
        """A run has ended in this process; how, if it completed."""
        self.on_ended(run_id, completed)
