"""Worker: claims runs and advances them until it is drained.

One loop claims, sleeping until something may be due; one watcher listens for changes made
elsewhere; runs are advanced by their runners. Rules:

1. A worker claims as many runs as it has free slots for attempts, and at most one suspect (a
   run that may be killing its workers) at a time.
2. After a claim that came back short it asks again only when told to: something was started
   or delivered here, something changed elsewhere, or something falls due.
3. Draining stops claiming, lets handlers end within the grace, then cancels them, and hands
   every run back, due at once. It never counts as a worker's death.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from ..codec.payload import Codec
from ..codec.records import entry_from_record, waits_from_text
from ..errors import DurableError, StoreUnavailableError
from ..kernel.failure import Failure
from ..kernel.journal import Journal
from ..kernel.limits import Limits
from ..kernel.outcome import Attempt, AttemptKey, Transition
from ..kernel.program import ProgramFactory
from ..kernel.transition import Held, park
from ..store import (
    ClaimedRun,
    ClaimRequest,
    Commit,
    CommitVerdict,
    EntryRecord,
    InboxRecord,
    Kind,
    RenewResult,
    Store,
)
from ..workflow.registry import Registry
from .attempts import Reporter, Slots, Surroundings
from .clock import Host, StoreClock
from .committer import Answer, Committer
from .lease import LeaseKeeper
from .mapping import commit_of, newest, run_context
from .observer import LeaseLost, Observers, RunClaimed, RunFinished, RunSuspended
from .runner import Runner
from .transact import Transactions

log = logging.getLogger("durable.worker")

CLAIM = 100
"""Runs in one claim, at most."""
FALLBACK_S = 5.0
"""How long a worker sleeps at most without asking, whatever it was told."""
MAIL_PAUSE_S = 0.02
"""Between two looks into the inboxes of held runs, while others change the store."""


class Worker:
    """Advances runs of the workflows in ``programs``; made, started and drained by the engine."""

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        programs: Mapping[tuple[str, str], ProgramFactory],
        codec: Codec,
        limits: Limits,
        host: Host,
        clock: StoreClock,
        observers: Observers,
        deps: Any,
        name: str,
        concurrency: int,
        queues: tuple[str, ...],
        lease: timedelta,
        grace: timedelta,
        on_ended: Callable[[str], None],
    ) -> None:
        self.name = name
        self.clock = clock
        self.draining = False
        self._store = store
        self._registry = registry
        self._programs = programs
        self._limits = limits
        self._observers = observers
        self._queues = queues
        self._lease_ms = round(lease / timedelta(milliseconds=1))
        self._grace_s = grace.total_seconds()
        self._on_ended = on_ended
        self._held: dict[str, Runner] = {}
        self._suspects: set[str] = set()
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._hungry = False  # the last claim may have left something due behind
        self._mail_wanted: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._mail_task: asyncio.Task[None] | None = None
        # Abandoned threads keep theirs, so there are more threads than slots.
        self._executor = host.executor(concurrency + 4)
        around = Surroundings(
            codec=codec,
            limits=limits,
            clock=clock,
            deps=deps,
            executor=self._executor,
            entropy=host.entropy,
            observers=observers,
        )
        self._slots = Slots(concurrency, around)
        self._slots.on_free = self._slot_freed
        self._committer = Committer(
            store, clock, patience_s=lease.total_seconds(), on_mail=self._mail_came
        )
        self._transactions = Transactions(store, around, limit_ms=self._lease_ms // 3)
        self._keeper = LeaseKeeper(
            store,
            lease_ms=self._lease_ms,
            stall_limit_s=limits.loop_stall_limit.total_seconds(),
            on_result=self._renewed,
            in_thread=host.renew_in_thread,
        )

    # --- its life ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to claim."""
        self.clock.set(await self._store.now_ms())
        self._keeper.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._claim_runs()), loop.create_task(self._watch())]

    async def drain(self) -> None:
        """Stop: nothing new is begun, and every run is handed back. Idempotent."""
        if self.draining:
            return
        self.draining = True
        self._wake.set()
        claiming, watching = self._tasks
        await asyncio.gather(claiming, return_exceptions=True)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        for runner in list(self._held.values()):
            runner.drain()
        await self._until_empty(self._grace_s)
        await self._cancel_the_rest()
        await self._committer.idle()
        await self._keeper.stop()
        if self._mail_task is not None:
            await asyncio.gather(self._mail_task, return_exceptions=True)
        await self._transactions.ended()
        grace_s = self._limits.cancel_grace.total_seconds()
        try:
            await asyncio.wait_for(self._slots.ended(), grace_s)
        except TimeoutError:
            log.warning("worker %s leaves handlers behind that do not end", self.name)
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _until_empty(self, patience_s: float) -> None:
        if not self._held:
            return
        self._empty.clear()
        try:
            await asyncio.wait_for(self._empty.wait(), patience_s)
        except TimeoutError:
            log.info("worker %s: grace is over, %d runs left", self.name, len(self._held))

    async def _cancel_the_rest(self) -> None:
        """Hand back what is left; a run whose commit is in flight a moment later."""
        for runner in list(self._held.values()):
            self._transactions.drop(runner)
        for _ in range(3):
            for runner in list(self._held.values()):
                runner.give_back()
            await self._committer.idle()
        for runner in list(self._held.values()):
            runner.drop()

    # --- told from outside -----------------------------------------------------------------------

    def wake(self) -> None:
        """Something may be due now."""
        self._wake.set()

    def holds(self, run_id: str) -> bool:
        """Whether this worker holds the run now."""
        return run_id in self._held

    def mail(self, run_ids: Iterable[str]) -> None:
        """Messages were delivered to these runs: look, for those held here."""
        self._mail_wanted.update(run_id for run_id in run_ids if run_id in self._held)
        if self._mail_wanted and self._mail_task is None:
            self._mail_task = asyncio.get_running_loop().create_task(self._fetch_mail())

    async def _fetch_mail(self) -> None:
        try:
            while self._mail_wanted:
                wanted, self._mail_wanted = self._mail_wanted, set()
                leases = [self._held[run_id].lease for run_id in wanted if run_id in self._held]
                if leases:
                    self._mail_came(await self._store.inbox(leases))
        except StoreUnavailableError as error:
            log.warning(
                "mail could not be fetched; the next commit or renewal brings it: %s", error
            )
        finally:
            self._mail_task = None

    def _mail_came(self, mail: Mapping[str, tuple[InboxRecord, ...]]) -> None:
        for run_id, records in mail.items():
            runner = self._held.get(run_id)
            if runner is not None:
                runner.mail(records)

    def _renewed(self, result: RenewResult) -> None:
        for run_id in result.lost:
            runner = self._held.get(run_id)
            if runner is not None and runner.quiet:  # else its commit's verdict tells
                runner.lose(CommitVerdict.FENCED)
        self.mail(result.mail)

    # --- claiming ------------------------------------------------------------------------------

    async def _claim_runs(self) -> None:
        pause_s = 0.0
        while not self.draining:
            self._wake.clear()
            sleep_s = FALLBACK_S
            try:
                again_at_ms = await self._claim()
                pause_s = 0.0
            except StoreUnavailableError as error:
                pause_s = min(max(pause_s * 2, 0.05), FALLBACK_S)
                if pause_s in (0.05, FALLBACK_S):
                    log.warning("worker %s cannot claim, trying on: %s", self.name, error)
                await self._sleep(pause_s)
                continue
            except Exception as error:
                log.error("worker %s could not claim", self.name, exc_info=error)
                await self._sleep(1.0)
                continue
            if again_at_ms is not None:
                sleep_s = min(sleep_s, max(0.0, (again_at_ms - self.clock.now_ms()) / 1000))
            if sleep_s > 0:
                await self._sleep(sleep_s)
            else:
                await asyncio.sleep(0)

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return

    async def _claim(self) -> int | None:
        """Claim once; when to ask again (store ms), None if only when told to."""
        limit = min(self._slots.free, CLAIM)
        self._hungry = True
        if limit == 0:
            return None
        batch = await self._store.claim(
            ClaimRequest(
                worker=self.name,
                lease_ms=self._lease_ms,
                limit=limit,
                queues=self._queues,
                kinds=self._kinds(),
                suspect_deaths=max(1, self._limits.worker_deaths - 2),
                suspects=0 if self._suspects else 1,
            )
        )
        self.clock.set(batch.now_ms)
        for claimed in batch.runs:
            await self._adopt(claimed)
        if len(batch.runs) == limit:
            return batch.now_ms
        self._hungry = False
        return batch.next_due_ms

    def _kinds(self) -> tuple[Kind, ...]:
        return tuple(
            Kind(workflow=d.name, version=d.version, fingerprint=d.fingerprint)
            for d in self._registry
        )

    def _slot_freed(self) -> None:
        if self._hungry:
            self._wake.set()

    async def _watch(self) -> None:
        """Wake when anything changed through another connection."""
        while True:
            try:
                changed = await self._store.wait_for_work(None)
            except StoreUnavailableError:
                await asyncio.sleep(1.0)
                continue
            if changed:
                self._wake.set()
                self.mail(list(self._held))
                await asyncio.sleep(MAIL_PAUSE_S)

    # --- adopting a claimed run ------------------------------------------------------------------

    async def _adopt(self, claimed: ClaimedRun) -> None:
        record = claimed.run
        before = self._held.get(record.run_id)
        if before is not None:
            before.lose(CommitVerdict.FENCED)  # our own lease had expired
        definition = self._registry.find(record.workflow, record.version)
        try:
            entries = await self._whole_journal(claimed)
            held = Held(
                run_context(record, self._limits),
                self._programs.get((record.workflow, record.version)),
                Journal([entry_from_record(entry) for entry in entries]),
                fingerprint=None if definition is None else definition.fingerprint,
            )
        except StoreUnavailableError:
            raise
        except DurableError as error:
            self._park(claimed, error)
            return
        if self._observers:
            self._observers.tell(
                RunClaimed(
                    run_id=record.run_id,
                    workflow=record.workflow,
                    worker=self.name,
                    deaths=record.deaths,
                )
            )
        runner = Runner(self, record, held)
        self._held[record.run_id] = runner
        if record.deaths >= max(1, self._limits.worker_deaths - 2):
            self._suspects.add(record.run_id)
        self._keeper.hold(record.run_id, runner)
        try:
            runner.begin(claimed.inbox)
        except DurableError as error:
            runner.drop()
            self._park(claimed, error)

    async def _whole_journal(self, claimed: ClaimedRun) -> list[EntryRecord]:
        entries = list(claimed.entries)
        while len(entries) < claimed.run.entry_count:
            page = await self._store.journal(claimed.run.run_id, after_seq=len(entries))
            if not page:
                break  # the fold says what is missing
            entries += page
        return entries

    def _park(self, claimed: ClaimedRun, error: DurableError) -> None:
        """What is stored of it cannot be read: hold it, and go on with the others."""
        record = claimed.run
        log.error("run %s is parked as undecodable: %s", record.run_id, error)
        known = any(wait.reason == "undecodable" for wait in waits_from_text(record.waiting))
        transition = park(
            run_context(record, self._limits),
            after_seq=record.entry_count,
            generation=record.generation,
            reason="undecodable",
            failure=Failure(type=type(error).__name__, message=str(error)),
            now_ms=self.clock.now_ms(),
            again=not known,
        )
        seen = newest(claimed.inbox, 0)
        self.submit(commit_of(transition, record, record.epoch, seen), lambda verdict: None)

    # --- what runners need (runner.Surface) ------------------------------------------------------

    def submit(self, commit: Commit, answer: Answer) -> None:
        """Have this written."""
        self._committer.submit(commit, answer)

    def start_attempt(self, attempt: Attempt, runner: Reporter) -> None:
        """Call a handler, when there is a slot."""
        self._slots.run(attempt, runner)

    def stop_attempt(self, key: AttemptKey, runner: Reporter) -> None:
        """Cancel a handler; it will be reported on."""
        if not self._transactions.stop(key, runner):
            self._slots.stop(key, runner)

    def drop_attempts(self, runner: Reporter) -> None:
        """Cancel all handlers of the run, unreported."""
        self._transactions.drop(runner)
        self._slots.drop(runner)

    def transact(self, attempt: Attempt, runner: Runner) -> None:
        """Call a handler inside the transaction that commits its entry."""
        self._transactions.run(attempt, runner)

    def committed(self, runner: Runner, transition: Transition) -> None:
        """A transition is durable: wake whom it concerns."""
        if transition.children or transition.messages or transition.release:
            self._wake.set()
        if transition.messages:
            self.mail(message.run_id for message in transition.messages)
        if transition.ended:
            self._on_ended(runner.run_id)
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

    def let_go(self, runner: Runner) -> None:
        """The run is not held any more."""
        if self._held.get(runner.run_id) is runner:
            del self._held[runner.run_id]
            self._suspects.discard(runner.run_id)
        self._keeper.let_go(runner.run_id, runner)
        if not self._held:
            self._empty.set()

    def lost(self, runner: Runner, verdict: CommitVerdict | None) -> None:
        """The run turned out not to be ours."""
        why = "its commit could not be written" if verdict is None else "another worker holds it"
        log.warning(
            "worker %s lost the lease of run %s (%s); its handlers are cancelled",
            self.name,
            runner.run_id,
            why,
        )
        if self._observers:
            self._observers.tell(
                LeaseLost(run_id=runner.run_id, workflow=runner.workflow, worker=self.name)
            )
