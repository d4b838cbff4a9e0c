"""Eager starts: a run that is started where a worker has room for it is created with its lease.

And eager deliveries: a run that a message wakes is leased to such a worker by the transaction that
delivers it. That saves the claim: of a run of one step, or of a signal up to its handler, one
transaction of three and a round trip. Rules:

1. Nobody is overtaken: a worker keeps places only while it knows of nothing due that it has left
   behind, and for all runs of one call or for none of them.
2. The places are kept before the store is called, so that no claim fills them meanwhile.
3. Only what this very call is known to have leased is adopted. Without an answer it is not known
   how far the runs have got, so nothing is begun, and their leases are given up. The epochs they
   were leased under bear this call's mark, so that no other lease can be meant.
4. A process that dies between the two lets the leases expire, as it would after a claim.

What the runs of a lost delivery have come to must be read before their leases can be given up.
A delivery that lands only after that look leaves its leases to expire.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import attrs

from ...errors import StoreUnavailableError
from ...kernel.run import RunStatus
from ...store import (
    MARKS,
    ClaimedRun,
    ClaimRequest,
    Commit,
    CreateResult,
    Message,
    NewRun,
    Release,
    RunRecord,
    next_epoch,
)
from ..mapping import hand_back_unused
from .asking import Asked
from .committer import Answer
from .foreseeing import Foresight, may_foresee
from .reach import Reach, new_mark


class Adopter(Protocol):
    """A worker that may take new runs."""

    def ask(self) -> Asked:
        """A call that may lease runs is made now."""
        ...

    async def adopt(self, claimed: ClaimedRun, asked: Asked) -> None:
        """Take over a run that this call leased; never raises."""
        ...

    def answered(self, asked: Asked) -> None:
        """All that it leased was taken over."""
        ...

    def foresee(self, message: Message, mark: int, asked: Asked) -> Foresight | None:
        """What comes of it, under the lease with this mark that this call asks for."""
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
    """How many places a worker keeps for runs that a call under way may lease."""

    def __init__(self) -> None:
        self.count = 0
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
        self._asked = worker.ask()

    def leased(self, new: NewRun) -> NewRun:
        """The run, to be created with a lease of this worker."""
        reach = self._reach
        return attrs.evolve(new, owner=reach.owner, lease_ms=reach.lease_ms, epoch=self._epoch)

    async def take(self, results: Sequence[CreateResult]) -> None:
        """Adopt those that were created with a lease, and free the places of the others."""
        self._leave()
        try:
            for result in results:
                if result.created and result.record.epoch:
                    claimed = ClaimedRun(run=result.record, entries=(), inbox=())
                    await self._worker.adopt(claimed, self._asked)
        finally:
            self._worker.answered(self._asked)

    def give_up(self, error: BaseException, now_ms: int) -> None:
        """There is no answer; what was created all the same is due."""
        self._leave()
        self._worker.answered(self._asked)
        if refused(error):
            return
        for run_id in self._ids:
            commit = given_up(run_id, self._epoch, now_ms)
            self._worker.submit(commit, lambda verdict: self._worker.wake())

    def _leave(self) -> None:
        self._kept.free(len(self._ids))
        self._worker.places_are_free()


class Seats:
    """Places that a worker keeps for runs that the messages of one call may wake."""

    def __init__(self, worker: Adopter, kept: Kept, count: int, reach: Reach, mark: int) -> None:
        kept.keep(count)
        self._worker = worker
        self._kept = kept
        self._count = count
        self._reach = reach
        self._mark = mark
        self._asked = worker.ask()

    @property
    def request(self) -> ClaimRequest:
        """Runs for all places."""
        return self._reach.request(self._count, suspects=0, mark=self._mark)

    def foresee(self, messages: Sequence[Message]) -> Foresight | None:
        """What comes of them, if that can be said."""
        if not may_foresee(messages):
            return None
        return self._worker.foresee(messages[0], self._mark, self._asked)

    async def take(self, runs: Iterable[ClaimedRun]) -> None:
        """Adopt these, and free all places: a run that was adopted takes one of its own."""
        try:
            for claimed in runs:
                await self._worker.adopt(claimed, self._asked)
        finally:
            self.leave()

    def give_up(self, records: Iterable[RunRecord], now_ms: int) -> None:
        """There was no answer; these are the runs as they are now."""
        owner = self._reach.owner
        for record in records:
            ours = (record.owner, record.epoch % MARKS) == (owner, self._mark)
            if ours:
                commit = hand_back_unused(record, seen=0, now_ms=now_ms)
                self._worker.submit(commit, lambda verdict: self._worker.wake())
        self.leave()

    def leave(self) -> None:
        """The places are needed no more."""
        self._worker.answered(self._asked)
        self._kept.free(self._count)
        self._worker.places_are_free()


def refused(error: BaseException) -> bool:
    """Whether the store has certainly written nothing."""
    return isinstance(error, StoreUnavailableError) and not error.outcome_unknown


def new_epoch(entropy: Callable[[int], bytes]) -> int:
    """Of a run that is created with its lease."""
    return next_epoch(0, new_mark(entropy))


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
