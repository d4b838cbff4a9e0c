"""MemoryStore: the plainest meaning of the store protocol, in dicts under one lock.

It is what the other adapters are compared with, so it is written to be read, not to be fast:
every verb looks at everything. What it owns is gone with the process. It may be used from
several threads and event loops; ``twin()`` is a second store on the same state.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from threading import Lock
from typing import Any

from ..errors import DurableError, LeaseLostError
from ..store import (
    ClaimBatch,
    ClaimedRun,
    ClaimRequest,
    Commit,
    CommitResult,
    CommitVerdict,
    CreateResult,
    DeliverVerdict,
    Delivery,
    EntryRecord,
    Foreseen,
    InboxRecord,
    Lease,
    Message,
    NewRun,
    RenewResult,
    RunFilter,
    RunRecord,
)
from .memory_state import State, StoredRun

Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class _Shared:
    """What twins have in common: the state, the lock around it, and who waits for a change."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.clock = clock
        self.lock = Lock()
        self.state = State()
        self.changes = 0
        self.waiters: list[Waiter] = []

    def changed(self) -> None:
        """Wake everybody who waits; called with the lock held."""
        self.changes += 1
        waiters, self.waiters = self.waiters, []
        for loop, future in waiters:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class MemoryTransaction:
    """A commit that waits for its block's end; ``conn`` is a mere token, nothing joins it."""

    def __init__(self, store: MemoryStore, lease: Lease) -> None:
        self.conn: Any = object()
        self._store = store
        self._lease = lease
        self._over = False

    async def check(self) -> None:
        """Nothing can stand in its way."""

    async def commit(self, commit: Commit) -> CommitVerdict:
        """Apply the transition, if the fence still holds."""
        if self._over:
            raise DurableError("This transaction is over already: one commit ends it.")
        if commit.run_id != self._lease.run_id:
            raise DurableError(
                f"This transaction holds run {self._lease.run_id!r}, not {commit.run_id!r}."
            )
        self._over = True
        (verdict,) = (await self._store.commit([commit])).verdicts
        return verdict

    def end(self) -> None:
        """The block was left."""
        self._over = True


class MemoryStore:
    """A ``Store`` in memory. ``clock`` returns ms since 1970 UTC; default is the wall clock."""

    def __init__(self, *, clock: Callable[[], int] | None = None) -> None:
        self._shared = _Shared(clock or _wall_clock_ms)
        self._open = False
        # The change each loop was last told of, so that none between two waits is missed.
        self._told: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, int] = (
            weakref.WeakKeyDictionary()
        )

    async def open(self, *, migrate: bool | None = None) -> None:
        """Nothing to connect to."""
        self._open = True

    async def close(self) -> None:
        """Refuse further verbs; the state lives on in twins."""
        self._open = False

    def twin(self) -> MemoryStore:
        """An unopened store on the same state."""
        twin = MemoryStore()
        twin._shared = self._shared
        return twin

    async def now_ms(self) -> int:
        """The clock's time."""
        return self._checked().clock()

    async def create(self, runs: Sequence[NewRun], *, conn: Any = None) -> tuple[CreateResult, ...]:
        """Create runs that do not exist yet."""
        shared = self._checked(conn)
        with shared.lock:
            now = shared.clock()
            results = []
            for new in runs:
                created = shared.state.create(new, now)
                results.append(
                    CreateResult(created=created, record=shared.state.runs[new.run_id].record())
                )
            shared.changed()
        return tuple(results)

    async def deliver(
        self, messages: Sequence[Message], *, inbox_limit: int = 10_000, conn: Any = None
    ) -> tuple[DeliverVerdict, ...]:
        """Put messages into inboxes and make their runs due."""
        shared = self._checked(conn)
        with shared.lock:
            now = shared.clock()
            verdicts = tuple(shared.state.deliver(m, now, inbox_limit) for m in messages)
            if DeliverVerdict.DELIVERED in verdicts:
                shared.changed()
        return verdicts

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        """Lease due runs."""
        shared = self._checked()
        with shared.lock:
            now = shared.clock()
            claimed = _claimed(shared.state.claim(request, now), request)
            next_due = shared.state.next_due_ms(request)
        return ClaimBatch(runs=claimed, now_ms=now, next_due_ms=next_due)

    async def deliver_and_claim(
        self,
        messages: Sequence[Message],
        request: ClaimRequest,
        *,
        inbox_limit: int = 10_000,
        foreseen: Foreseen | None = None,
    ) -> Delivery:
        """Put messages into inboxes, and lease those of their runs that nobody has."""
        shared = self._checked()
        with shared.lock:
            now, state = shared.clock(), shared.state
            verdicts = tuple(state.deliver(m, now, inbox_limit) for m in messages)
            receivers = {
                message.run_id
                for message, verdict in zip(messages, verdicts, strict=True)
                if verdict is DeliverVerdict.DELIVERED
            }
            last = state.runs.get(foreseen.run_id) if foreseen is not None else None
            fits = foreseen is not None and last is not None and foreseen.fits(last.epoch, now)
            runs = state.claim_receivers(receivers, request, now)
            landed = None
            if foreseen is not None:
                landed = CommitVerdict.FENCED
                if fits and last in runs:
                    (landed,) = state.commit([foreseen.commit], now)
                if landed is CommitVerdict.APPLIED:
                    runs = [run for run in runs if run is not last]
            claimed = _claimed(runs, request)
            if receivers:
                shared.changed()
        return Delivery(verdicts=verdicts, runs=claimed, now_ms=now, foreseen=landed)

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        """Apply transitions, each fenced, each with its own verdict."""
        shared = self._checked()
        mail: dict[str, tuple[InboxRecord, ...]] = {}
        with shared.lock:
            now = shared.clock()
            verdicts = shared.state.commit(commits, now)
            seen: dict[str, int] = {}
            for commit, verdict in zip(commits, verdicts, strict=True):
                if verdict is CommitVerdict.APPLIED:
                    seen[commit.run_id] = max(commit.seen, seen.get(commit.run_id, 0))
            for run_id, known in seen.items():
                run = shared.state.runs[run_id]
                if run.owner is not None and run.mail(known):
                    mail[run_id] = run.mail(known)
            if seen:
                shared.changed()
        return CommitResult(verdicts=verdicts, now_ms=now, mail=mail)

    async def settled(self, commits: Sequence[Commit]) -> tuple[CommitVerdict, ...]:
        """Which of these commits landed."""
        shared = self._checked()
        with shared.lock:
            return tuple(shared.state.settled(commit) for commit in commits)

    async def renew(self, leases: Sequence[Lease], *, lease_ms: int) -> RenewResult:
        """Extend the leases whose epoch is current."""
        shared = self._checked()
        lost, mail = set(), set()
        with shared.lock:
            now = shared.clock()
            for lease in leases:
                run = shared.state.held(lease.run_id, lease.epoch)
                if run is None:
                    lost.add(lease.run_id)
                    continue
                run.due_at_ms = now + lease_ms
                if run.mail(lease.seen):
                    mail.add(lease.run_id)
        return RenewResult(lost=frozenset(lost), mail=frozenset(mail), now_ms=now)

    async def inbox(self, leases: Sequence[Lease]) -> Mapping[str, tuple[InboxRecord, ...]]:
        """Unseen messages of held runs."""
        shared = self._checked()
        found: dict[str, tuple[InboxRecord, ...]] = {}
        with shared.lock:
            for lease in leases:
                run = shared.state.held(lease.run_id, lease.epoch)
                if run is not None and run.mail(lease.seen):
                    found[lease.run_id] = run.mail(lease.seen)
        return found

    async def get(self, run_ids: Sequence[str]) -> Mapping[str, RunRecord]:
        """The records of the runs that exist."""
        shared = self._checked()
        with shared.lock:
            runs = shared.state.runs
            return {run_id: runs[run_id].record() for run_id in run_ids if run_id in runs}

    async def find(self, query: RunFilter) -> tuple[RunRecord, ...]:
        """One page of runs, newest first."""
        shared = self._checked()
        with shared.lock:
            found = [run.record() for run in shared.state.runs.values()]
        found = [record for record in found if _matches(record, query)]
        found.sort(key=_page_key, reverse=True)
        return tuple(found[: query.limit])

    async def journal(
        self, run_id: str, *, after_seq: int = 0, limit: int = 1_000
    ) -> tuple[EntryRecord, ...]:
        """Entries in commit order."""
        shared = self._checked()
        with shared.lock:
            run: StoredRun | None = shared.state.runs.get(run_id)
            entries = [] if run is None else [entry for _, entry in run.entries]
        return tuple(entry for entry in entries if entry.seq > after_seq)[:limit]

    async def prune(
        self, *, before_ms: int, statuses: tuple[str, ...] | None = None, limit: int = 1_000
    ) -> int:
        """Remove ended runs, the oldest end first."""
        shared = self._checked()
        with shared.lock:
            removed = shared.state.prune(before_ms, statuses, limit)
            if removed:
                shared.changed()
        return removed

    async def wait_for_work(self, timeout_ms: int | None) -> bool:
        """Wait for any change, whoever made it; of claims and renewals nobody is told."""
        shared = self._checked()
        loop = asyncio.get_running_loop()
        with shared.lock:
            if self._told.setdefault(loop, 0) != shared.changes:
                self._told[loop] = shared.changes
                return True
            waiter: Waiter = (loop, loop.create_future())
            shared.waiters.append(waiter)
        try:
            timeout = None if timeout_ms is None else timeout_ms / 1_000
            await asyncio.wait({waiter[1]}, timeout=timeout)
        finally:
            with shared.lock:
                if waiter in shared.waiters:
                    shared.waiters.remove(waiter)
        if not waiter[1].done():
            return False
        self._told[loop] = shared.changes
        return True

    def transaction(self, lease: Lease) -> AbstractAsyncContextManager[MemoryTransaction]:
        """A transaction that holds nothing: the fence is looked at now and at the commit."""
        return self._transaction(lease)

    @asynccontextmanager
    async def _transaction(self, lease: Lease) -> AsyncIterator[MemoryTransaction]:
        shared = self._checked()
        with shared.lock:
            held = shared.state.held(lease.run_id, lease.epoch)
        if held is None:
            raise LeaseLostError(
                f"The lease on run {lease.run_id!r} (epoch {lease.epoch}) is no longer held."
            )
        transaction = MemoryTransaction(self, lease)
        try:
            yield transaction
        finally:
            transaction.end()

    def _checked(self, conn: Any = None) -> _Shared:
        if not self._open:
            raise DurableError("This store is not open: `await store.open()` first.")
        if conn is not None:
            raise DurableError("A MemoryStore has no transactions to join: leave conn= out.")
        return self._shared


def _claimed(runs: Sequence[StoredRun], request: ClaimRequest) -> tuple[ClaimedRun, ...]:
    return tuple(
        ClaimedRun(
            run=run.record(),
            entries=tuple(entry for _, entry in run.entries[: request.journal_limit]),
            inbox=run.mail(0),
        )
        for run in runs
    )


def _page_key(record: RunRecord) -> tuple[int, str]:
    return record.created_at_ms, record.run_id


def _matches(record: RunRecord, query: RunFilter) -> bool:
    return (
        (query.statuses is None or record.status in query.statuses)
        and (query.workflow is None or record.workflow == query.workflow)
        and (query.parent_id is None or record.parent_id == query.parent_id)
        and query.attributes.items() <= record.attributes.items()
        and (query.since_ms is None or record.created_at_ms >= query.since_ms)
        and (query.after is None or _page_key(record) < query.after)
    )
