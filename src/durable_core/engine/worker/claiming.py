"""Claiming: the loop that asks the store for due runs, and when it asks again.

Rules:

1. It asks for as many runs as there is room, and for at most one suspect (a run that may be
   killing its workers) at a time.
2. After a claim that left nothing due behind it asks again only when woken, or when something
   falls due.
3. A store that cannot be asked is asked again after growing pauses; the loop never ends by itself.
4. A claim is not cancelled: what it leased would be lost for a lease. ``stop`` lets it end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from ...store import ClaimBatch, ClaimedRun, ClaimRequest, Store
from ..clock import Backoff, StoreClock
from ..complaints import Complaints
from .asking import Asked
from .crowding import Crowding
from .reach import Reach, new_mark

CLAIM = 100
"""Runs in one claim, at most."""
LONGEST_PAUSE_S = 5.0
"""Between two tries to claim, while the store is out of reach."""
SHORTEST_SLEEP_S = 0.01
"""Between a claim that left nothing due behind and the next."""


class Claimant(Protocol):
    """For whom runs are claimed: a worker."""

    def room(self) -> int:
        """How many runs more it can take."""
        ...

    def may_take_a_suspect(self) -> bool:
        """Whether it holds none."""
        ...

    def ask(self) -> Asked:
        """A call that may lease runs is made now."""
        ...

    async def adopt(self, claimed: ClaimedRun, asked: Asked) -> None:
        """Take over a run that this call leased; never raises."""
        ...

    def answered(self, asked: Asked) -> None:
        """All that it leased was taken over."""
        ...


class Claims:
    """The claims of one worker, from ``start`` to ``stop``."""

    def __init__(
        self,
        store: Store,
        clock: StoreClock,
        reach: Reach,
        claimant: Claimant,
        *,
        entropy: Callable[[int], bytes],
        log: logging.Logger,
    ) -> None:
        self._store = store
        self._clock = clock
        self._reach = reach
        self._claimant = claimant
        self._entropy = entropy
        self._complaints = Complaints(log)
        self._crowding = Crowding(entropy)
        self._wake = asyncio.Event()
        self._stopping = False
        self._hungry = True  # the last claim may have left something due behind
        self._full = False  # it surely has
        self._due_ms: int | None = None  # when, as the last claim said, something falls due
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self.task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Claim no more; ``task`` ends when the claim under way has."""
        self._stopping = True
        self._wake.set()

    def wake(self) -> None:
        """Something may be due now."""
        self._wake.set()

    @property
    def caught_up(self) -> bool:
        """Whether nothing is known to be due that a claim has left behind."""
        return not self._hungry and not self._stopping

    def let_others(self) -> None:
        """A run was parked here that another worker may fit: it should be first next time."""
        self._crowding.let_others()

    def made_room(self) -> None:
        """There is room for one more."""
        if self._hungry:
            self._wake.set()

    async def _run(self) -> None:
        backoff = Backoff(self._entropy, longest_s=LONGEST_PAUSE_S)
        while not self._stopping:
            self._wake.clear()
            try:
                again_at_ms = await self._claim()
                backoff.reset()
            except Exception as error:
                name = self._reach.worker
                self._complaints.say(f"worker {name} cannot claim, and tries on", error)
                await self._sleep(backoff.next_s())
                continue
            if self._full:
                await asyncio.sleep(0)
            elif again_at_ms is None:
                await self._wake.wait()
            else:
                pause_s = max(self._clock.seconds_until(again_at_ms), SHORTEST_SLEEP_S)
                await self._sleep(pause_s + self._crowding.pause_s())

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    async def _claim(self) -> int | None:
        """Claim once; when to ask again (store ms), None if only when told to."""
        claimant = self._claimant
        limit = min(claimant.room(), CLAIM)
        self._hungry = True
        self._full = False
        if limit <= 0:
            return None
        suspects = 1 if claimant.may_take_a_suspect() else 0
        request = self._reach.request(limit, suspects=suspects, mark=new_mark(self._entropy))
        asked = claimant.ask()
        try:
            batch = await self._asked(request, asked)
        finally:
            claimant.answered(asked)
        left_due = batch.next_due_ms is not None and batch.next_due_ms <= batch.now_ms
        self._full = self._hungry = left_due and len(batch.runs) == limit
        return batch.next_due_ms

    async def _asked(self, request: ClaimRequest, asked: Asked) -> ClaimBatch:
        """The answer, whose runs have been taken over."""
        stamp = self._clock.stamp()
        batch = await self._store.claim(request)
        self._clock.set(batch.now_ms, stamp)
        was_due = self._due_ms is not None and self._due_ms <= batch.now_ms
        self._crowding.found(len(batch.runs), was_due=was_due)
        self._due_ms = batch.next_due_ms
        for claimed in batch.runs:
            await self._claimant.adopt(claimed, asked)
        return batch
