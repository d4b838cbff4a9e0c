"""Eager starts: a run that is started where a worker has room for it is created with its lease.

That saves the claim: of a run of one step, one transaction of three and a round trip. Rules:

1. Nobody is overtaken: a worker keeps places for new runs only while it knows of nothing due that
   it has left behind, and for all that start in one call or for none of them.
2. The places are kept before the runs are created, so that no claim fills them meanwhile.
3. Only what this very call created is adopted. A run that was there, leased to the same worker
   and not held by it, comes of a try whose answer was lost: how far it has got is not known, so
   nothing is begun; its first lease is given up, which changes nothing if that is over.
4. A process that dies between the two lets the lease expire, as it would after a claim.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

import attrs

from ..store import ClaimedRun, CreateResult, NewRun
from .claiming import Reach


class Host(Protocol):
    """A worker that may take new runs."""

    def now(self) -> float:
        """Monotonic seconds, by which its leases are kept."""
        ...

    async def adopt(self, claimed: ClaimedRun, since: float) -> None:
        """Take over a run that was asked for at ``since``; never raises."""
        ...

    def give_back(self, claimed: ClaimedRun) -> None:
        """Give up the lease of a run of which more is not known."""
        ...

    def holds(self, run_id: str) -> bool:
        """Whether this worker holds the run now."""
        ...

    def places_are_free(self) -> None:
        """Some of the places that were kept are needed no more."""
        ...


class Kept:
    """How many places a worker keeps for runs that are being created."""

    def __init__(self) -> None:
        self.count = 0
        self.closed = False
        self._none = asyncio.Event()
        self._none.set()

    def keep(self, count: int) -> None:
        """So many more."""
        self.count += count
        self._none.clear()

    def free(self, count: int) -> None:
        """So many less."""
        self.count -= count
        if not self.count:
            self._none.set()

    async def until_none(self, patience_s: float) -> None:
        """Return when none is kept, or the time is up."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._none.wait(), patience_s)

    def close(self) -> None:
        """The worker is gone: what is created for it now is left to expire."""
        self.closed = True


class Places:
    """Places that a worker keeps for the runs of one call, within its reach."""

    def __init__(self, host: Host, kept: Kept, count: int, reach: Reach) -> None:
        kept.keep(count)
        self._host = host
        self._kept = kept
        self._count = count
        self._reach = reach
        self._since = host.now()

    def leased(self, new: NewRun) -> NewRun:
        """The run, to be created with a lease of this worker."""
        return attrs.evolve(new, owner=self._reach.owner, lease_ms=self._reach.lease_ms)

    async def take(self, results: Sequence[CreateResult]) -> None:
        """Adopt those that were created, and free the places of the others."""
        self.leave()
        for result in results:
            record = result.record
            if self._kept.closed or record.owner != self._reach.owner:
                continue
            claimed = ClaimedRun(run=record, entries=(), inbox=())
            if result.created:
                await self._host.adopt(claimed, self._since)
            elif record.epoch == 1 and not self._host.holds(record.run_id):
                self._host.give_back(claimed)

    def leave(self) -> None:
        """Nothing comes."""
        self._kept.free(self._count)
        self._host.places_are_free()
