"""Worker: holds runs and has them advanced until it is drained.

One loop claims them (``claiming``); one watcher listens for changes made elsewhere; runs are
advanced by their runners. Rules:

1. A worker has as many runs as it has slots for attempts, and at most as many more that rest.
2. It is woken when something was delivered here, or changed elsewhere; what was started or woken
   here it takes at once where it has room (``eager``), else it is woken too.
3. Draining stops claiming, lets handlers end within the grace, then cancels them, and hands
   every run back, due at once. It never counts as a worker's death.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from ...kernel.journal import RunParked
from ...kernel.outcome import Transition
from ...kernel.parking import LIFTED
from ...kernel.program import ProgramFactory
from ...kernel.reports import Report
from ...store import ClaimedRun, Commit, Message, NewRun
from ..clock import Backoff
from ..retention import Pruner
from ..shared import Shared, WorkerOptions
from ..shielded import ended, to_the_end
from .adopting import Adopting
from .asking import Asked
from .attempts import Call, Surroundings
from .claiming import Claims
from .committer import Answer, Committer
from .eager import Kept, Places, Seats, new_epoch
from .foreseeing import Foresight, WarmRuns
from .held_runs import HeldRuns
from .news import News
from .reach import Reach, new_mark
from .resting import Resting
from .runner import Runner
from .slots import Slots
from .transact import transact

log = logging.getLogger("durable.worker")

CROWD = 4
"""So many runs that rest keep everything awake that a commit needs."""
STORE_GRACE_S = 4.0
"""How long a draining worker waits for a store that does not answer."""


class Worker:
    """Advances runs of the workflows in ``programs``; made, started and drained by the engine."""

    def __init__(
        self,
        shared: Shared,
        options: WorkerOptions,
        *,
        programs: Mapping[tuple[str, str], ProgramFactory],
        deps: Any,
    ) -> None:
        self.name = options.name
        self.clock = shared.clock
        self.draining = False
        self.store = shared.store
        self.resting: Resting[Runner] = Resting()
        self._programs = programs
        self._limits = shared.limits
        self._host = shared.host
        self._concurrency = options.concurrency
        self._grace_s = options.grace.total_seconds()
        self._local = shared.local
        self._listener = shared.listener
        self._turns: list[Runner] = []
        self._empty = asyncio.Event()
        self._hurried = False  # whoever drains it was cancelled: no more grace
        self._executor: Executor | None = None
        entropy = shared.host.entropy
        self._reach = Reach.of(options, shared.registry, shared.limits, entropy)
        self._news = News(self.name, shared.local, shared.observers)
        self._held = HeldRuns(shared, self._reach, self._news)
        self._warm = WarmRuns()
        self._kept = Kept()
        self._adopting = Adopting(
            self.name, self, shared, programs, self._held, self._warm, self._news
        )
        self._around = Surroundings(
            codec=shared.codec,
            limits=shared.limits,
            clock=shared.clock,
            deps=deps,
            executor=self._threads,
            entropy=entropy,
            observers=shared.observers,
            transaction_ms=max(1, self._reach.lease_ms // 3),
            calling=shared.host.calling,
        )
        self._claims = Claims(
            shared.store, shared.clock, self._reach, self, entropy=entropy, log=log
        )
        self.slots = Slots(options.concurrency, self._around, self._claims.made_room)
        self._committer = Committer(
            shared.store,
            shared.clock,
            entropy=entropy,
            patience_s=self.patience_s,
            on_mail=self._held.inboxes.came,
        )
        self._pruner = Pruner(options.name, shared.store, options.retention, entropy=entropy)

    # --- its life ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to claim."""
        stamp = self.clock.stamp()
        self.clock.set(await self.store.now_ms(), stamp)
        self._claims.start()
        self._pruner.start()
        self._local.join(self)
        self._listener.add(self._heard)

    async def drain(self) -> None:
        """Stop: nothing new is begun, and every run is handed back. Idempotent.

        Cancelling it cuts the grace short. Returns within the grace, the handlers' own
        ``cancel_grace``, and a few seconds for a store that does not answer.
        """
        if self.draining:
            return
        self._begin_to_leave()
        await to_the_end(self._drain(), self._hurry)

    def _hurry(self) -> None:
        """No more grace."""
        self._hurried = True
        self._empty.set()

    def _begin_to_leave(self) -> None:
        self.draining = True
        self._around.leaving = True
        self._pruner.stop()
        self._local.leave(self)
        self._listener.remove(self._heard)
        self._claims.stop()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        grace_ends_at = loop.time() + self._grace_s
        cancel_grace_s = self._limits.cancel_grace.total_seconds()
        for runner in self._held:
            runner.drain()
        # A claim is not cancelled: what it leased would be lost for a lease.
        await ended([self._claims.task], self._grace_s + STORE_GRACE_S)
        await self._kept.until_none(STORE_GRACE_S)  # nor is what is being created
        for runner in self._held:
            runner.drain()
        if not self._hurried:
            await self._until_empty(grace_ends_at - loop.time())
        for runner in self._held:
            runner.drain(now=True)
        await self._until_empty(cancel_grace_s + STORE_GRACE_S)
        for runner in self._held:
            log.warning(
                "run %s could not be handed back; it goes on when its lease has expired",
                runner.run_id,
            )
            runner.drop()
        self._held.close()
        self._warm.clear()
        await self._committer.close(STORE_GRACE_S)
        await ended([self._held.inboxes.task, self._pruner.task], STORE_GRACE_S)
        await self._held.keeper.stop()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _until_empty(self, patience_s: float) -> None:
        if self._held and patience_s > 0:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), patience_s)
            except TimeoutError:
                log.info("worker %s: %d runs are left", self.name, len(self._held))

    # --- told from outside -----------------------------------------------------------------------

    def wake(self) -> None:
        """Something may be due now."""
        self._claims.wake()

    def holds(self, run_id: str) -> bool:
        """Whether this worker holds the run now."""
        return run_id in self._held

    def keep_places(self, news: Sequence[NewRun]) -> Places | None:
        """Places for runs about to be created, if it may take all of them and has the room."""
        if not self._claims.caught_up or len(news) > self.room():
            return None
        for new in news:
            kind = new.workflow, new.version
            if new.queue not in self._reach.queues or kind not in self._programs:
                return None
        return Places(self, self._kept, news, self._reach, new_epoch(self._host.entropy))

    def keep_seats(self, count: int) -> Seats | None:
        """Places for runs that messages may wake, if it has the room for so many."""
        if not self._claims.caught_up or count > self.room():
            return None
        return Seats(self, self._kept, count, self._reach, new_mark(self._host.entropy))

    def mail(self, run_ids: Iterable[str]) -> None:
        """Messages were delivered to these runs: look, for those held here, or about to be."""
        self._held.mail(list(run_ids))

    def _heard(self) -> None:
        """Something may have changed through another connection."""
        self.wake()
        self._held.heard()

    # --- what claims need (claiming.Claimant) ----------------------------------------------------

    def room(self) -> int:
        """How many runs more: each needs a slot, now or after its commit, unless it rests."""
        awake = len(self._held) - min(self.resting.count, self._concurrency)
        return self._concurrency - self._kept.count - max(awake, self.slots.wanted)

    def may_take_a_suspect(self) -> bool:
        """One at a time, so that a run which kills its workers takes no other suspect along."""
        return not self._held.has_a_suspect

    def ask(self) -> Asked:
        """A call that may lease runs is made now."""
        return self._held.ask()

    def answered(self, asked: Asked) -> None:
        """All that it leased was taken over."""
        self._held.answered(asked)

    async def adopt(self, claimed: ClaimedRun, asked: Asked) -> None:
        """Take over a run that this call leased; never raises."""
        await self._adopting.adopt(claimed, asked)

    # --- what places need (eager.Adopter) --------------------------------------------------------

    def foresee(self, message: Message, mark: int, asked: Asked) -> Foresight | None:
        """What a warm run makes of this message, under the lease that this call asks for."""
        return self._adopting.foresee(message, mark, asked)

    def places_are_free(self) -> None:
        """There may be room again."""
        self._claims.made_room()

    # --- what runners need (runner.Surface) ------------------------------------------------------

    def soon(self, runner: Runner) -> None:
        """Have its ``turn`` called; all of one turn of the loop by one call."""
        if not self._turns:
            asyncio.get_running_loop().call_soon(self._take_turns)
        self._turns.append(runner)

    def _take_turns(self) -> None:
        turns, self._turns = self._turns, []
        for runner in turns:
            runner.turn()

    def submit(self, commit: Commit, answer: Answer) -> None:
        """Have this written."""
        self._committer.submit(commit, answer)

    async def transact(self, runner: Runner, call: Call) -> Report | None:
        """Make the call inside the transaction that commits its entry. What came meanwhile may
        have had to wait for it."""
        try:
            return await transact(runner, call)
        finally:
            if self._held.may_have_mail(runner):
                self.mail((runner.run_id,))

    def backoff(self) -> Backoff:
        """Pauses for a store that cannot be reached."""
        return Backoff(self._host.entropy)

    @property
    def lead_s(self) -> float:
        """How long before a moment a commit for it may be sent: in a crowd, less, because there all
        is awake, and what is refused has to be sent again."""
        return self._host.lead_s / min(CROWD, 1 + self.resting.count)

    @property
    def patience_s(self) -> float:
        """How long an unavailable store is asked again: a lease."""
        return self._reach.lease_ms / 1000

    def lasts(self, runner: Runner) -> bool:
        """Whether the run's lease has not ended yet."""
        return self._held.lasts(runner)

    def _threads(self) -> Executor:
        # An abandoned handler keeps both, its thread and its slot.
        if self._executor is None:
            self._executor = self._host.executor(self._concurrency)
        return self._executor

    def committed(self, runner: Runner, transition: Transition) -> None:
        """A transition is durable: tell whom it concerns."""
        # Mail that came while the run was being given up left it due (rule 3 of the protocol).
        due = transition.resume_at_ms is not None or self._held.may_have_mail(runner)
        self._news.committed(runner, transition, due=transition.release and due)
        if transition.entries and isinstance(transition.entries[-1], RunParked):
            self._news.parked(runner, transition.entries[-1])

    def given_up(self, runner: Runner, transition: Transition) -> None:
        """The run was let go, whole: a message may come for it soon."""
        if transition.waiting and transition.waiting[0].reason in LIFTED:
            self._claims.let_others()
        if self.draining:
            runner.held.close()
        else:
            self._warm.keep(runner, transition)

    def let_go(self, runner: Runner) -> None:
        """The run is not held any more."""
        self._held.let_go(runner)
        if self.draining:
            self._local.runs_are_due()
            if not self._held:
                self._empty.set()
        else:
            self._claims.made_room()

    def lost(self, runner: Runner, why: str) -> None:
        """The run turned out not to be ours."""
        self._news.lost(runner, why)
