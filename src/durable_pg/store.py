"""PgStore: the protocol's verbs on one schema of a Postgres database.

Each verb is one call of a function in the database, committed by itself: one round trip. With
``plain`` it is several statements in one transaction. Methods stand in the protocol's order.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, TypeVar, cast

import asyncpg
import asyncpg.pool
import attrs

from durable_core.errors import DurableError
from durable_core.store import (
    ClaimBatch,
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

from . import leasing, opening, queries, reading, schema, verbs, writing
from .connection import Address, Connections, real
from .listen import Bell, poll
from .queries import in_schema
from .ring import Ring
from .rows import has_consequences
from .schema_name import SchemaName
from .steps import Steps, drive
from .transaction import PgTransaction, transaction
from .translate import DRIVER_ERRORS, translated

T = TypeVar("T")

TIMEOUT_S = 15.0
"""Half a lease of the usual length: a worker that talks to a dead line must learn of it in time."""


@attrs.frozen(slots=True)
class _Link:
    """What an open store holds, and where it may be used from."""

    connections: Connections
    bell: Bell | None
    home: Any  # which database this is
    loop: asyncio.AbstractEventLoop
    pid: int


class PgStore:
    """A ``Store`` in a Postgres schema, version 15 or newer.

    ``dsn_or_pool``: a DSN (``postgresql://user@host/database``), or an ``asyncpg.Pool`` that is
    open, which the store uses and does not close. ``schema``: where its tables are. ``listen``:
    hear of changes by LISTEN (one connection more), and let others hear by NOTIFY; else the
    database is asked a few times a second. ``pooler``: for a pooler in transaction mode: no
    prepared statements, no LISTEN, explicit transactions. ``plain``: no functions in the
    database, several round trips a verb, for engines that refuse PL/pgSQL. ``durability``: what
    is acknowledged survives a crash of the server (``strict``), or the last fraction of a second
    may be lost in one, whole and never torn (``relaxed``). ``timeout_s``: how long a verb may
    take. The clock is the database's, unless a test brings its own ``clock`` (ms since 1970 UTC).
    """

    def __init__(
        self,
        dsn_or_pool: Any,
        *,
        schema: str = "durable",
        listen: bool = True,
        pooler: bool = False,
        plain: bool = False,
        durability: Literal["strict", "relaxed"] = "strict",
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], int] | None = None,
    ) -> None:
        if not isinstance(dsn_or_pool, str | asyncpg.Pool):
            raise DurableError(
                "PgStore needs a DSN such as postgresql://user@host/database, or an asyncpg.Pool, "
                f"not {type(dsn_or_pool).__qualname__}."
            )
        if durability not in tuple(queries.DURABILITY):
            raise DurableError(f"durability={durability!r} is neither 'strict' nor 'relaxed'.")
        given = isinstance(dsn_or_pool, str)
        self._address = Address(
            dsn=cast(str, dsn_or_pool) if given else None,
            pool=None if given else cast(Any, dsn_or_pool),
            pooler=pooler,
            timeout_s=timeout_s,
            durability=durability,
        )
        self._schema = SchemaName(schema)
        self._listen = listen
        self._plain = plain
        self._clock = clock
        self._verbs = verbs.PLAIN if plain else verbs.FUNCTIONS
        self._link: _Link | None = None

    async def open(self, *, migrate: bool | None = None) -> None:
        """Connect, and verify the schema; migrate it first if ``migrate`` is True."""
        if self._link is not None:
            self._checked()
            return
        connections = Connections(self._address)
        try:
            await connections.open()
            home = await self._prepare(connections, migrate is True)
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(connections.close()))
            raise
        bell = Bell(connections, self._schema.channel) if self._listen else None
        link = _Link(connections, bell, home, asyncio.get_running_loop(), os.getpid())
        self._link = self._link or link
        if self._link is not link:  # another task was quicker
            await connections.close()

    async def close(self) -> None:
        """Close every connection, when what is under way has come to its end."""
        link = self._link
        if link is not None and link.pid == os.getpid() and not link.loop.is_closed():
            self._checked()
            self._link = None
            await asyncio.shield(asyncio.ensure_future(_close(link)))
        self._link = None  # of another process, or of a loop that is no more: nothing can be done

    def twin(self) -> PgStore:
        """An unopened store on the same database."""
        address = self._address
        return PgStore(
            address.pool if address.dsn is None else address.dsn,
            schema=self._schema.name,
            listen=self._listen,
            pooler=address.pooler,
            plain=self._plain,
            durability=cast(Any, address.durability),
            timeout_s=address.timeout_s,
            clock=self._clock,
        )

    async def now_ms(self) -> int:
        """The database's clock."""
        if self._clock is not None:
            self._checked()
            return self._clock()
        ((now_ms,),) = await self._checked().connections.fetch(queries.NOW)
        return int(now_ms)

    async def create(self, runs: Sequence[NewRun], *, conn: Any = None) -> tuple[CreateResult, ...]:
        """Create runs that do not exist yet."""
        if conn is not None:
            return await self._join(conn, lambda: self._verbs.create(runs, self._now(), None))
        is_work = any(new.owner is None for new in runs)
        results, has_rung = await self._write_ringing(
            lambda ring: self._verbs.create(runs, self._now(), ring if is_work else None)
        )
        created = [one.record for one in results if one.created]
        self._ring_if(not has_rung and any(record.owner is None for record in created))
        self._ring_seldom_if(any(record.owner is not None for record in created))
        return results

    async def deliver(
        self, messages: Sequence[Message], *, inbox_limit: int = 10_000, conn: Any = None
    ) -> tuple[DeliverVerdict, ...]:
        """Put messages into inboxes and make their runs due. With ``conn`` they are on their way
        once the caller has committed, and in the inbox when a worker next looks."""
        if conn is not None:
            return await self._join(
                conn, lambda: self._verbs.post(messages, self._now(), inbox_limit)
            )
        verdicts, has_rung = await self._write_ringing(
            lambda ring: self._verbs.deliver(messages, self._now(), inbox_limit, ring)
        )
        self._ring_if(not has_rung and DeliverVerdict.DELIVERED in verdicts)
        return verdicts

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        """Lease due runs."""
        return await self._write(lambda: self._verbs.claim(request, self._now()))

    async def deliver_and_claim(
        self,
        messages: Sequence[Message],
        request: ClaimRequest,
        *,
        inbox_limit: int = 10_000,
        foreseen: Foreseen | None = None,
    ) -> Delivery:
        """Put messages into inboxes, and lease those of their runs that nobody has. Others hear of
        runs that were not leased, as of any delivery: some of them may have these."""
        delivery = await self._write(
            lambda: self._verbs.deliver_and_claim(
                messages, request, self._now(), inbox_limit, foreseen
            ),
            explicit=foreseen is not None and has_consequences(foreseen.commit),
        )
        ours = {claimed.run.run_id for claimed in delivery.runs}
        if foreseen is not None and delivery.foreseen is CommitVerdict.APPLIED:
            ours.add(foreseen.run_id)
            self._ring_if(concerns_others(foreseen.commit, delivery.now_ms))
        self._ring_if(
            any(
                verdict is DeliverVerdict.DELIVERED and message.run_id not in ours
                for message, verdict in zip(messages, delivery.verdicts, strict=True)
            )
        )
        self._ring_seldom_if(bool(ours))
        return delivery

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        """Apply transitions, each fenced, each with its own verdict."""
        result = await self._write(
            lambda: self._verbs.commit(commits, self._now()),
            explicit=writing.names_a_run_twice(commits),
        )
        applied = writing.applied_of(commits, result.verdicts)
        self._ring_if(any(concerns_others(one, result.now_ms) for one in applied))
        return result

    async def settled(self, commits: Sequence[Commit]) -> tuple[CommitVerdict, ...]:
        """Which of these commits landed; waits for those that are still going on."""
        return await self._write(lambda: leasing.settled(commits), explicit=True, changes=False)

    async def renew(self, leases: Sequence[Lease], *, lease_ms: int) -> RenewResult:
        """Extend the leases whose epoch is current. Runs that are in other hands are waited for
        one by one: whoever waits must have no other in hand."""
        result = await self._renew(leases, lease_ms)
        if not result.lost or len(leases) == 1:
            return result
        again = [held for held in leases if held.run_id in result.lost]
        alone = await asyncio.gather(*(self._renew([held], lease_ms) for held in again))
        return RenewResult(
            lost=frozenset().union(*(each.lost for each in alone)),
            mail=result.mail.union(*(each.mail for each in alone)),
            now_ms=max(each.now_ms for each in alone),
        )

    async def _renew(self, leases: Sequence[Lease], lease_ms: int) -> RenewResult:
        return await self._write(lambda: self._verbs.renew(leases, lease_ms, self._now()))

    async def inbox(self, leases: Sequence[Lease]) -> Mapping[str, tuple[InboxRecord, ...]]:
        """Unseen messages of held runs; what was posted to them is put into their inboxes."""
        return await self._write(lambda: self._verbs.inbox(leases, self._now()))

    async def get(self, run_ids: Sequence[str]) -> Mapping[str, RunRecord]:
        """The records of the runs that exist."""
        return await self._read(lambda: reading.get(run_ids))

    async def find(self, query: RunFilter) -> tuple[RunRecord, ...]:
        """One page of runs, newest first."""
        return await self._read(lambda: reading.find(query), at_one_moment=True)

    async def journal(
        self, run_id: str, *, after_seq: int = 0, limit: int = 1_000
    ) -> tuple[EntryRecord, ...]:
        """Entries in commit order."""
        return await self._read(lambda: reading.journal(run_id, after_seq, limit))

    async def prune(
        self, *, before_ms: int, statuses: tuple[str, ...] | None = None, limit: int = 1_000
    ) -> int:
        """Remove ended runs, the oldest end first."""
        return await self._write(lambda: self._verbs.prune(before_ms, statuses, limit))

    async def wait_for_work(self, timeout_ms: int | None) -> bool:
        """Wait until another process lets us hear of a change; without LISTEN, for a moment.
        The first call listens; whoever waits while the store is closed is told so."""
        bell = self._checked().bell
        if bell is None or self._address.pooler:
            return await poll(timeout_ms, asyncio.sleep)
        return await bell.wait(timeout_ms)

    def transaction(self, lease: Lease) -> AbstractAsyncContextManager[PgTransaction]:
        """A transaction that holds the run's fence."""
        return transaction(
            self._checked().connections,
            lease,
            schema=self._schema,
            committing=lambda one: self._verbs.commit([one], self._now()),
            committed=lambda one, result: self._ring_if(concerns_others(one, result.now_ms)),
        )

    # --- connections -------------------------------------------------------------------------

    def _now(self) -> int | None:
        """What the verbs are told of the time: nothing, then they ask the database's clock."""
        return None if self._clock is None else self._clock()

    async def _prepare(self, connections: Connections, migrate: bool) -> Any:
        """See that server and schema are what the store needs; tells which database it is."""
        place, name = connections.place, self._schema
        known = schema.migrations(plain=self._plain)
        plain, any_isolation = self._plain, self._plain or self._address.pooler
        timeout_s, durability = self._address.timeout_s, self._address.durability
        await connections.using(
            lambda conn: opening.check_server(
                conn, place, plain=plain, any_isolation=any_isolation, durability=durability
            ),
            timeout_s=timeout_s,
        )
        if migrate:  # which may take long
            await connections.using(lambda conn: schema.migrate(conn, name, place, known))
        return await connections.using(
            lambda conn: opening.check_schema(conn, name, place, known), timeout_s=timeout_s
        )

    def _checked(self) -> _Link:
        """The connections, if the store is open and used from where it was opened."""
        link = self._link
        if link is None:
            raise DurableError("This store is not open: `await store.open()` first.")
        if link.pid != os.getpid():
            raise DurableError(
                f"This store was opened in process {link.pid} and cannot be used after a fork, in "
                f"process {os.getpid()}: both would talk on the same connections. Open a store of "
                "its own (`store.twin()`) in each process, after the fork."
            )
        if link.loop is not asyncio.get_running_loop():
            raise DurableError(
                "This store was opened in another event loop: open a store of its own "
                "(`store.twin()`) in each loop."
            )
        return link

    def _ring_if(self, news: bool) -> None:
        if news and self._link is not None and self._link.bell is not None:
            self._link.bell.ring()

    def _ring_seldom_if(self, leased: bool) -> None:
        """Who knows of no lease does not look when one expires."""
        if leased and self._link is not None and self._link.bell is not None:
            self._link.bell.ring_seldom()

    # --- running steps -----------------------------------------------------------------------

    async def _write(
        self, steps: Callable[[], Steps[T]], *, explicit: bool = False, changes: bool = True
    ) -> T:
        """``changes``: when the connection fails, nobody can tell whether something was changed."""
        connections = self._checked().connections

        async def work(conn: Any) -> T:
            return await drive(conn, steps(), self._schema)

        if explicit or self._plain or self._address.pooler:
            return await connections.in_transaction(work, writes=changes)
        return await connections.alone(work, writes=changes)

    async def _write_ringing(self, verb: Callable[[Ring | None], Steps[T]]) -> tuple[T, bool]:
        """The same, for a verb that may take its ring along; and whether it did."""
        bell = None if self._link is None else self._link.bell
        # A commit that need not wait for the disk is not to wait for one that does.
        if bell is None or self._address.durability == "relaxed":
            return await self._write(lambda: verb(None)), False
        return await bell.carried(lambda ring: self._write(lambda: verb(ring)))

    async def _read(self, steps: Callable[[], Steps[T]], *, at_one_moment: bool = False) -> T:
        connections = self._checked().connections

        async def work(conn: Any) -> T:
            return await drive(conn, steps(), self._schema)

        if at_one_moment or self._address.pooler:
            begin = queries.BEGIN_READ
            return await connections.in_transaction(work, writes=False, begin=begin)
        return await connections.alone(work, writes=False)

    async def _join(self, conn: Any, steps: Callable[[], Steps[T]]) -> T:
        """Run on the caller's connection, in the caller's transaction, which stays open."""
        link = self._checked()
        if not isinstance(conn, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy):
            raise DurableError(
                "conn= must be an asyncpg connection, or one acquired from an asyncpg pool, not "
                f"{type(conn).__qualname__}."
            )
        try:
            await self._check_joinable(conn, link)
            result = await drive(conn, steps(), self._schema)
            if link.bell is not None:
                # Heard when the caller commits, also by this process, which cannot know when.
                await conn.fetch(queries.NOTIFY, self._schema.channel, "")
            return result
        except asyncpg.InterfaceError as error:  # the driver itself refuses: nothing was sent
            raise DurableError(
                f"conn= cannot be used now: {error}. Keep it open, and give it while no statement "
                "of yours, nor another task, is using it."
            ) from error
        except DRIVER_ERRORS as error:
            raise translated(error, "the database of conn=") from error

    async def _check_joinable(self, conn: Any, link: _Link) -> None:
        """A transaction is open, and on the store's database."""
        if real(conn) is None or conn.is_closed():
            raise DurableError(
                "conn= is closed, or was given back to its pool: give an open connection."
            )
        if not conn.is_in_transaction():
            raise DurableError(
                "conn= is in autocommit mode and has no transaction open: use it inside "
                "`async with conn.transaction():`, together with your own statements."
            )
        home = await conn.fetchval(in_schema(queries.READ_HOME, self._schema))
        if home != link.home:
            raise DurableError(
                f"conn= is connected to another database than {self._address.place}, where the "
                "store keeps its runs: one transaction cannot span both."
            )


def concerns_others(one: Commit, now_ms: int) -> bool:
    """Whether a commit makes something that another process may wait for: work, mail, an end."""
    due = None if one.release is None else one.release.due_at_ms
    return bool(one.finished or one.children or one.messages or (due is not None and due <= now_ms))


async def _close(link: _Link) -> None:
    if link.bell is not None:
        await link.bell.close()
    await link.connections.close()
