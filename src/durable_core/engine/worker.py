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

from ..errors import DurableError, StoreUnavailableError
from ..kernel.outcome import Transition
from ..kernel.program import ProgramFactory
from ..kernel.reports import Report
from ..kernel.run import RunStatus
from ..store import (
    MARKS,
    ClaimedRun,
    Commit,
    CommitVerdict,
    Message,
    NewRun,
    RenewResult,
)
from .adopting import given_back, opened
from .asking import Asked, Asking
from .attempts import Call, Surroundings
from .claiming import Claims
from .clock import Backoff
from .committer import Answer, Committer
from .complaints import Complaints
from .eager import Kept, Places, Seats, new_epoch
from .foreseeing import Foresight, WarmRuns, foresight
from .inboxes import Inboxes
from .lease import Holder, LeaseKeeper
from .observer import LeaseLost, RunClaimed, RunFinished, RunSuspended
from .reach import Reach, new_mark
from .resting import Resting
from .retention import Pruner
from .runner import Runner
from .shared import Shared, WorkerOptions
from .shielded import ended, to_the_end
from .slots import Slots
from .transact import transact
from .unreadable import held_or_terminated
from .waiting import Completed

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
        self._shared = shared
        self._programs = programs
        self._limits = shared.limits
        self._observers = shared.observers
        self._host = shared.host
        self._concurrency = options.concurrency
        self._reach = Reach.of(options, shared.registry, shared.limits, shared.host.entropy)
        self._grace_s = options.grace.total_seconds()
        self._local = shared.local
        self._listener = shared.listener
        self._held: dict[str, Runner] = {}
        self._suspects: set[str] = set()
        self._told: set[str] = set()  # held runs that may have got mail
        self._kept = Kept()
        self._warm = WarmRuns()
        self._asking = Asking()
        self._empty = asyncio.Event()
        self._complaints = Complaints(log)
        self._hurried = False  # whoever drains it was cancelled: no more grace
        self._inboxes = Inboxes(shared.store, self._held, log)
        self.resting: Resting[Runner] = Resting()
        self._executor: Executor | None = None
        self._around = Surroundings(
            codec=shared.codec,
            limits=shared.limits,
            clock=shared.clock,
            deps=deps,
            executor=self._threads,
            entropy=shared.host.entropy,
            observers=shared.observers,
            transaction_ms=max(1, self._reach.lease_ms // 3),
            calling=shared.host.calling,
        )
        self._turns: list[Runner] = []
        self._claims = Claims(
            shared.store, shared.clock, self._reach, self, entropy=shared.host.entropy, log=log
        )
        self.slots = Slots(options.concurrency, self._around, self._claims.made_room)
        self._committer = Committer(
            shared.store,
            shared.clock,
            entropy=shared.host.entropy,
            patience_s=self.patience_s,
            on_mail=self._inboxes.came,
        )
        self._keeper = LeaseKeeper(
            shared.store,
            lease_ms=self._reach.lease_ms,
            stall_limit_s=shared.limits.loop_stall_limit.total_seconds(),
            on_result=self._renewed,
            on_expired=self._expired,
            in_thread=shared.host.renew_in_thread,
        )
        self._pruner = Pruner(
            options.name, shared.store, options.retention, entropy=shared.host.entropy
        )

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
        for runner in list(self._held.values()):
            runner.drain()
        # A claim is not cancelled: what it leased would be lost for a lease.
        await ended([self._claims.task], self._grace_s + STORE_GRACE_S)
        await self._kept.until_none(STORE_GRACE_S)  # nor is what is being created
        for runner in list(self._held.values()):
            runner.drain()
        if not self._hurried:
            await self._until_empty(grace_ends_at - loop.time())
        for runner in list(self._held.values()):
            runner.drain(now=True)
        await self._until_empty(cancel_grace_s + STORE_GRACE_S)
        for runner in list(self._held.values()):
            log.warning(
                "run %s could not be handed back; it goes on when its lease has expired",
                runner.run_id,
            )
            runner.drop()
        self._kept.close()
        self._warm.clear()
        await self._committer.close(STORE_GRACE_S)
        await ended([self._inboxes.task, self._pruner.task], STORE_GRACE_S)
        await self._keeper.stop()
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
        run_ids = list(run_ids)
        self._asking.told(run_ids)
        self._look(run_ids)

    def _look(self, run_ids: Iterable[str]) -> None:
        held = [run_id for run_id in run_ids if run_id in self._held]
        self._told.update(held)
        self._inboxes.look(held)

    def _expired(self, holders: Iterable[Holder]) -> None:
        for holder in holders:
            runner = self._held.get(holder.lease.run_id)
            if runner is holder:
                runner.lose("it could not be renewed in time")

    def _renewed(self, result: RenewResult, lost: Iterable[Holder]) -> None:
        self.clock.set(result.now_ms)
        for holder in lost:
            runner = self._held.get(holder.lease.run_id)
            if runner is holder:
                runner.lease_is_gone()
        self.mail(result.mail)

    # --- what claims need (claiming.Claimant) ----------------------------------------------------

    def room(self) -> int:
        """How many runs more: each needs a slot, now or after its commit, unless it rests."""
        awake = len(self._held) - min(self.resting.count, self._concurrency)
        return self._concurrency - self._kept.count - max(awake, self.slots.wanted)

    def may_take_a_suspect(self) -> bool:
        """One at a time, so that a run which kills its workers takes no other suspect along."""
        return not self._suspects

    def ask(self) -> Asked:
        """A call that may lease runs is made now."""
        return self._asking.begin(self._keeper.now())

    def answered(self, asked: Asked) -> None:
        """All that it leased was taken over."""
        self._asking.end(asked)

    def _heard(self) -> None:
        """Something may have changed through another connection."""
        self.wake()
        self._asking.heard()
        self._look(self._held)

    # --- what places need (eager.Adopter) --------------------------------------------------------

    def places_are_free(self) -> None:
        """There may be room again."""
        self._claims.made_room()

    # --- adopting a claimed run ------------------------------------------------------------------

    async def adopt(self, claimed: ClaimedRun, asked: Asked) -> None:
        """One run's trouble must not keep the others of its batch from being adopted."""
        try:
            await self._adopt(claimed, asked.since)
            if asked.may_have_missed(claimed.run.run_id):
                self._look((claimed.run.run_id,))
        except Exception as error:
            self._complaints.say(f"worker {self.name} cannot adopt a run, and tries on", error)
            runner = self._held.get(claimed.run.run_id)
            if runner is not None and runner.epoch == claimed.run.epoch:
                runner.drop()
            self.submit(given_back(claimed, self.clock.now_ms()), lambda verdict: None)

    async def _adopt(self, claimed: ClaimedRun, since: float) -> None:
        record = claimed.run
        if not self._makes_way(record.run_id, record.epoch):
            return
        try:
            held = await opened(claimed, self._shared, self._programs)
        except StoreUnavailableError:
            raise
        except DurableError as error:
            self._park(claimed, error)
            return
        runner = Runner(self, record, held)
        if record.deaths >= self._reach.suspect_deaths:
            self._suspects.add(record.run_id)
        self._hold(runner, since)
        try:
            runner.begin(claimed.inbox, record.updated_at_ms)
        except DurableError as error:
            runner.drop()
            self._park(claimed, error)

    def _makes_way(self, run_id: str, epoch: int) -> bool:
        """False if the answer that gave this epoch took longer than its lease, and was overtaken by
        a claim's. Two epochs that differ by their marks alone found the run in the same state: the
        store has lost the former."""
        before = self._held.get(run_id)
        if before is not None and before.epoch // MARKS > epoch // MARKS:
            return False
        if before is not None:
            before.lose("it had expired, and was claimed again")
        return True

    def _hold(self, runner: Runner, since: float) -> None:
        self._warm.forget(runner.run_id)
        self._held[runner.run_id] = runner
        self._keeper.hold(runner.run_id, runner, since)
        if self._observers:
            self._observers.tell(
                RunClaimed(
                    run_id=runner.run_id,
                    workflow=runner.workflow,
                    worker=self.name,
                    deaths=runner.held.run.deaths,
                )
            )

    def foresee(self, message: Message, mark: int, asked: Asked) -> Foresight | None:
        """What a warm run makes of this message, under the lease that this call asks for."""
        kept, now_ms = self._warm.take(message.run_id), self.clock.now_ms()
        if kept is None:
            return None
        last, before_ms = kept

        def hold(runner: Runner) -> bool:
            if self._kept.closed or not self._makes_way(runner.run_id, runner.epoch):
                return False
            self._hold(runner, asked.since)
            if asked.may_have_missed(runner.run_id):
                self._look((runner.run_id,))
            return True

        return foresight(last, message, mark, now_ms, before_ms, hold)

    def _park(self, claimed: ClaimedRun, error: DurableError) -> None:
        """What is stored of it cannot be read: hold it, and go on with the others."""
        record = claimed.run
        log.error("run %s cannot be decoded, and is held: %s", record.run_id, error)
        commit = held_or_terminated(claimed, error, limits=self._limits, now_ms=self.clock.now_ms())

        def answer(verdict: CommitVerdict | None) -> None:
            if commit.finished and verdict is CommitVerdict.APPLIED:
                self._local.run_ended(record.run_id)
                for message in commit.messages:
                    self._local.delivered(message.run_id)

        self.submit(commit, answer)

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
            if runner.run_id in self._told:
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
        return self._keeper.lasts(runner.run_id, runner)

    def _threads(self) -> Executor:
        # An abandoned handler keeps both, its thread and its slot.
        if self._executor is None:
            self._executor = self._host.executor(self._concurrency)
        return self._executor

    def committed(self, runner: Runner, transition: Transition) -> None:
        """A transition is durable: wake whom it concerns."""
        # Mail that came while the run was being given up left it due (rule 3 of the protocol).
        due = transition.resume_at_ms is not None or runner.run_id in self._told
        if transition.children or (transition.release and due):
            self._local.runs_are_due()
        for message in transition.messages:
            self._local.delivered(message.run_id)
        if transition.ended:
            completed = None
            if transition.status is RunStatus.COMPLETED:
                completed = Completed(runner.held.run, runner.held.journal)
            self._local.run_ended(runner.run_id, completed)
        if not self._observers:
            return
        if transition.ended:
            self._observers.tell(
                RunFinished(
                    run_id=runner.run_id,
                    workflow=runner.workflow,
                    status=transition.status.value,
                )
            )
        elif transition.release:
            self._observers.tell(
                RunSuspended(
                    run_id=runner.run_id,
                    workflow=runner.workflow,
                    until_ms=transition.resume_at_ms,
                )
            )

    def given_up(self, runner: Runner, transition: Transition) -> None:
        """The run was let go, whole: a message may come for it soon."""
        if self.draining:
            runner.held.close()
        else:
            self._warm.keep(runner, transition)

    def let_go(self, runner: Runner) -> None:
        """The run is not held any more."""
        if self._held.get(runner.run_id) is runner:
            del self._held[runner.run_id]
            self._suspects.discard(runner.run_id)
            self._told.discard(runner.run_id)
        self._keeper.let_go(runner.run_id, runner)
        if self.draining:
            self._local.runs_are_due()
            if not self._held:
                self._empty.set()
        else:
            self._claims.made_room()

    def lost(self, runner: Runner, why: str) -> None:
        """The run turned out not to be ours."""
        log.warning(
            "worker %s lost the lease of run %s: %s; its handlers are cancelled",
            self.name,
            runner.run_id,
            why,
        )
        if self._observers:
            self._observers.tell(
                LeaseLost(run_id=runner.run_id, workflow=runner.workflow, worker=self.name)
            )
