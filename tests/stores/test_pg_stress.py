"""Four sessions in each other's way: no deadlock, no message lost, none twice, all in order.

Each session claims runs of one small set, and commits all it holds in one batch of random order,
with messages to runs that mostly are in other hands. Beside that it sends as a client does, calls
from transactions of its own, renews and fetches mail. The clock stands still, so no lease expires:
every commit must apply.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import attrs
import pytest
from tests.postgres_kit import MAJORS
from tests.stores import two_sessions
from tests.stores.two_sessions import PLACES, Arena

from durable_core.store import (
    ClaimedRun,
    Commit,
    CommitVerdict,
    DeliverVerdict,
    InboxRecord,
    Lease,
    Message,
    Store,
)
from durable_core.testing.contract_kit import (
    LEASE_MS,
    claim,
    entry,
    let_go,
    new_run,
    signal,
    step,
)
from durable_core.testing.postgres import NO_POSTGRES
from durable_pg import PgStore

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES),
]

SESSIONS = 4
TURNS = 100
RUNS = [f"r{number}" for number in range(8)]


@attrs.define
class Held:
    """A run that a session has, and what it knows of it."""

    run_id: str
    epoch: int
    entries: int
    seen: int = 0
    unread: list[InboxRecord] = attrs.field(factory=list)

    @classmethod
    def claimed(cls, claimed: ClaimedRun) -> Held:
        """As it was claimed."""
        run = claimed.run
        held = cls(run.run_id, run.epoch, run.entry_count)
        held.take(claimed.inbox)
        return held

    @property
    def lease(self) -> Lease:
        """The lease as it stands."""
        return Lease(run_id=self.run_id, epoch=self.epoch, seen=self.seen)

    def take(self, mail: Sequence[InboxRecord]) -> None:
        """Messages came in."""
        fresh = [message for message in mail if message.seq > self.seen]
        self.unread += fresh
        self.seen = max([self.seen, *(message.seq for message in fresh)])

    def commit(self, messages: Sequence[Message], *, give_up: bool) -> Commit:
        """All that is unread becomes the journal's, an entry each."""
        read, self.unread = self.unread, []
        make = let_go if give_up else step
        after_seq, self.entries = self.entries, self.entries + len(read)
        return make(
            self.run_id,
            self.epoch,
            after_seq,
            entries=tuple(entry(after_seq + n, unit=m.name) for n, m in enumerate(read, 1)),
            consumed=tuple(message.seq for message in read),
            seen=self.seen,
            messages=tuple(messages),
        )


class Session:
    """One of those that are in each other's way. ``sent``: what was acknowledged to it, in the
    order of its sending."""

    def __init__(self, number: int, store: PgStore, conn: Any) -> None:
        self.sent: list[str] = []
        self._name = f"s{number}"
        self._store = store
        self._conn = conn
        self._held: dict[str, Held] = {}
        self._random = random.Random(number)
        self._written = 0

    async def work(self) -> None:
        """Do this and that, and give everything up."""
        verbs = [self.claim, self.advance, self.advance, self.send, self.call, self.look]
        for _ in range(TURNS):
            await self._random.choice(verbs)()
        await self.advance(to_the_end=True)

    async def claim(self) -> None:
        batch = await claim(self._store, worker=self._name, limit=3)
        for claimed in batch.runs:
            assert claimed.run.run_id not in self._held
            self._held[claimed.run.run_id] = Held.claimed(claimed)

    async def advance(self, *, to_the_end: bool = False) -> None:
        """Commit all that is held."""
        written: list[Message] = []
        commits = []
        for run_id in self._random.sample(list(self._held), len(self._held)):
            messages = [] if to_the_end else self._letters(2)
            written += messages
            give_up = to_the_end or self._random.random() < 0.3
            commits.append(self._held[run_id].commit(messages, give_up=give_up))
        result = await self._store.commit(commits)
        assert set(result.verdicts) <= {CommitVerdict.APPLIED}
        self.sent += [message.name for message in written]
        for commit in commits:
            if commit.release is not None:
                del self._held[commit.run_id]
            else:
                self._held[commit.run_id].take(result.mail.get(commit.run_id, ()))

    async def send(self) -> None:
        """As a client; now and then what arrived once is sent once more."""
        messages = self._letters(3)
        verdicts = await self._store.deliver(messages)
        assert set(verdicts) == {DeliverVerdict.DELIVERED}
        self.sent += [message.name for message in messages]
        if self._random.random() < 0.3:
            again = await self._store.deliver(messages)
            assert set(again) == {DeliverVerdict.DUPLICATE}

    async def call(self) -> None:
        """In a transaction that does other things too, and may come to nothing."""
        messages = self._letters(2)
        transaction = self._conn.transaction()
        await transaction.start()
        verdicts = await self._store.deliver(messages, conn=self._conn)
        assert set(verdicts) == {DeliverVerdict.DELIVERED}
        await self.look()
        if self._random.random() < 0.3:
            await transaction.rollback()
        else:
            await transaction.commit()
            self.sent += [message.name for message in messages]

    async def look(self) -> None:
        """Renew, and fetch the mail."""
        leases = [held.lease for held in self._held.values()]
        self._random.shuffle(leases)
        assert not (await self._store.renew(leases, lease_ms=LEASE_MS)).lost
        for run_id, mail in (await self._store.inbox(leases)).items():
            self._held[run_id].take(mail)

    def _letters(self, count: int) -> list[Message]:
        """Messages to different runs, each with a name of its own."""
        letters = []
        for run_id in self._random.sample(RUNS, count):
            self._written += 1
            name = f"{self._name}-{self._written}"
            letters.append(signal(run_id, name=name, dedupe=name))
        return letters


@pytest.mark.parametrize("where", PLACES)
async def test_sessions_in_each_others_way(where: dict[str, Any]) -> None:
    async with two_sessions.arena(**where) as arena:
        await arena.store.create([new_run(run_id) for run_id in RUNS])
        async with no_deadlock(arena), AsyncExitStack() as stack:
            sessions = [await stack.enter_async_context(session(arena, n)) for n in range(SESSIONS)]
            await asyncio.gather(*(each.work() for each in sessions))
        await read_all(arena.store)
        await arena.check()
        journals = [[e.unit for e in await arena.store.journal(run_id)] for run_id in RUNS]
    received = Counter(name for journal in journals for name in journal)
    assert received == Counter(name for each in sessions for name in each.sent)
    for journal in journals:
        for each in sessions:
            order = [each.sent.index(name) for name in journal if name in each.sent]
            assert order == sorted(order)


@asynccontextmanager
async def session(arena: Arena, number: int) -> AsyncIterator[Session]:
    """A session with connections of its own."""
    store = PgStore(arena.dsn, **arena.options)
    await store.open()
    try:
        async with arena.connection() as conn:
            yield Session(number, store, conn)
    finally:
        await store.close()


async def read_all(store: Store) -> None:
    """Read what is left, and give the runs up again, until nobody has mail."""
    while batch := (await claim(store, limit=len(RUNS))).runs:
        held = [Held.claimed(claimed) for claimed in batch]
        result = await store.commit([each.commit((), give_up=True) for each in held])
        assert set(result.verdicts) == {CommitVerdict.APPLIED}


# --- deadlocks -------------------------------------------------------------------------------

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'
"""
LOCK = "SELECT pg_advisory_xact_lock($1)"


@asynccontextmanager
async def no_deadlock(arena: Arena) -> AsyncIterator[None]:
    """Nobody runs into one in this block. The server counts them, and tells once the sessions in
    question have ended; that it does, one of our own at the end shows."""
    others = await arena.watcher.fetchval(OTHERS)
    before = await arena.watcher.fetchval(DEADLOCKS)
    yield
    async with asyncio.timeout(two_sessions.PATIENCE_S):
        while await arena.watcher.fetchval(OTHERS) > others:
            pass
        await run_into_one(arena)
        while await arena.watcher.fetchval(DEADLOCKS) == before:
            pass
    assert await arena.watcher.fetchval(DEADLOCKS) == before + 1


async def run_into_one(arena: Arena) -> None:
    async with arena.connection() as one, arena.connection() as two:
        for conn, first in ((one, 1), (two, 2)):
            await conn.execute("SET deadlock_timeout = 10; BEGIN")
            await conn.fetch(LOCK, first)
        crosswise = (one.fetch(LOCK, 2), two.fetch(LOCK, 1))
        ends = await asyncio.gather(*crosswise, return_exceptions=True)
        assert asyncpg.DeadlockDetectedError in map(type, ends)
