"""Eager starts: a run that is started where a worker has room for it is created with its lease.

That saves the claim: of a run of one step, one transaction of three and a round trip. Rules:

1. Nobody is overtaken: a worker keeps places for new runs only while it knows of nothing due that
   it has left behind, and for all that start in one call or for none of them.
2. The places are kept before the runs are created, so that no claim fills them meanwhile.
3. Only what this very call is known to have created is adopted. Without an answer it is not known
   how far the runs have got, so nothing is begun, and their leases are given up. The epoch they
   were leased under is this call's alone, so that no other lease can be meant.
4. A process that dies between the two lets the leases expire, as it would after a claim.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs

from ..errors import StoreUnavailableError
from ..kernel.run import RunStatus
from ..store import ClaimedRun, Commit, CreateResult, NewRun, Release
from .claiming import Reach
from .committer import Answer


class Adopter(Protocol):
    """A worker that may take new runs."""

    def now(self) -> float:
        """Monotonic seconds, by which its leases are kept."""
        ...

    async def adopt(self, claimed: ClaimedRun, since: float) -> None:
        """Take over a run that was asked for at ``since``; never raises."""
        ...

    def submit(self, commit: Commit, answer: Answer) -> None:
        """Have this written."""
        ...

    def wake(self) -> None:
        """Runs may be due."""
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

    def __init__(
        self, worker: Adopter, kept: Kept, news: Sequence[NewRun], reach: Reach, epoch: int
    ) -> None:
        kept.keep(len(news))
        self._worker = worker
        self._kept = kept
        self._ids = [new.run_id for new in news]
        self._reach = reach
        self._epoch = epoch
        self._since = worker.now()

    def leased(self, new: NewRun) -> NewRun:
        """The run, to be created with a lease of this worker."""
        reach = self._reach
        return attrs.evolve(new, owner=reach.owner, lease_ms=reach.lease_ms, epoch=self._epoch)

    async def take(self, results: Sequence[CreateResult]) -> None:
        """Adopt those that were created with a lease, and free the places of the others."""
        self._leave()
        for result in results:
            if result.created and result.record.epoch and not self._kept.closed:
                claimed = ClaimedRun(run=result.record, entries=(), inbox=())
                await self._worker.adopt(claimed, self._since)

    def give_up(self, error: BaseException, now_ms: int) -> None:
        """There is no answer; what was created all the same is due."""
        self._leave()
        refused = isinstance(error, StoreUnavailableError) and not error.outcome_unknown
        if refused or self._kept.closed:
            return
        for run_id in self._ids:
            commit = given_up(run_id, self._epoch, now_ms)
            self._worker.submit(commit, lambda verdict: self._worker.wake())

    def _leave(self) -> None:
        self._kept.free(len(self._ids))
        self._worker.places_are_free()


def new_epoch(entropy: Callable[[int], bytes]) -> int:
    """One that no claim and no other call comes to: 32 random bits, beyond any number of claims."""
    return 2**32 + int.from_bytes(entropy(4), "big")


def given_up(run_id: str, epoch: int, now_ms: int) -> Commit:
    """Ends this lease of a run on which nothing was done under it."""
    return Commit(
        run_id=run_id,
        epoch=epoch,
        after_seq=0,
        status=RunStatus.PENDING.value,
        generation=1,
        release=Release(due_at_ms=now_ms),
    )
