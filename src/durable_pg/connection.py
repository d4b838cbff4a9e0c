"""Connections: a pool, and one verb on one connection of it.

Rules:

1. A verb is one statement in a transaction of its own (one round trip), or, where statements
   cannot be one, an explicit transaction. Nothing between its first and its last byte waits for
   anybody but the server.
2. Cancelling the task that waits for a verb cancels the waiting only: the verb goes on to its
   end in a task of its own, so no transaction is left open and no connection goes back to the
   pool in the middle of one. Of a cancelled statement nobody could tell whether it committed.
3. A connection whose state is in doubt is thrown away, never used again. The server gives a verb
   up before we do, so nothing goes on there, or waits for a lock, that nobody waits for here.
4. What Postgres undid because of others (deadlock, serialization) is tried again at once, a few
   times, with growing jittered pauses. What cannot be known is never sent again from here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar, cast

import asyncpg
import asyncpg.pool
import attrs

from durable_core.errors import DurableError, StoreUnavailableError

from . import array_types, queries
from . import dsn as dsns
from .translate import AGAIN, DRIVER_ERRORS, breaks_connection, code_of, translated
from .verb_pool import Connection, VerbPool

T = TypeVar("T")

Proxy: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
PgConn: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)
"""What ``conn=`` takes: an asyncpg connection, or one acquired from a pool."""

VERBS_AT_ONCE = 4
"""Connections for verbs: one commits, one claims, two serve clients. More do not help."""
TRANSACTIONS_AT_ONCE = 8
"""Connections that handlers may hold, apart from those of the verbs."""
TRIES = 6
PAUSE_S = 0.01
"""The longest pause before the second try; it doubles with each."""
LOCK_SHARE, STATEMENT_SHARE = 0.8, 0.9
"""Of the time that a verb may take: when the server gives it up."""
CLOSE_S = 5.0
"""How long closing waits for what is under way."""
UNDO_S = 1.0
"""How long the server gets to undo a transaction, then to cancel the statement under way, and then
to end the session."""
SETTINGS = {
    "application_name": "durable-core",
    "default_transaction_isolation": "read committed",
    # A worker whose machine vanished must not hold a fence for long.
    "idle_in_transaction_session_timeout": "60000",
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # Our statements are short look-ups.
    "jit": "off",
}
"""Of each of our sessions, where no pooler is in between."""


@attrs.frozen(slots=True, kw_only=True)
class Address:
    """Where the database is: a DSN, or a pool that somebody else made and closes."""

    dsn: str | None = attrs.field(repr=False)  # there may be a password in it
    pool: Pool | None = attrs.field(repr=False)
    pooler: bool
    timeout_s: float
    durability: str = "strict"

    @property
    def place(self) -> str:
        """For messages."""
        return "the database of the pool" if self.dsn is None else dsns.place_of(self.dsn)

    async def make_verb_pool(self) -> Pool | VerbPool:
        """A pool of our own. Where that can be said, its statements are given up by the server a
        little before we do, so that it is known that nothing was written."""
        if self.pool is not None:
            return await self._make_pool(VERBS_AT_ONCE, _nothing_to_reset)
        limits = {
            "lock_timeout": f"{self.timeout_s * LOCK_SHARE:.3f}s",
            "statement_timeout": f"{self.timeout_s * STATEMENT_SHARE:.3f}s",
        }
        connect, args, kwargs = self._connecting(limits)

        async def connected() -> Connection:
            conn = cast(Connection, await connect(*args, **kwargs))
            await array_types.tell(conn)
            return conn

        return VerbPool(connected, VERBS_AT_ONCE)

    async def make_transaction_pool(self) -> Pool:
        """One for connections that handlers get: they are told nothing of each other."""
        return await self._make_pool(
            TRANSACTIONS_AT_ONCE, _nothing_to_reset if self.pooler else _forget_session
        )

    async def _make_pool(self, size: int, reset: Callable[[Any], Awaitable[None]]) -> Pool:
        connect, args, kwargs = self._connecting({})
        if self.pool is not None:  # what its owner has every connection go through
            known = cast(Any, self.pool)
            kwargs["init"], kwargs["setup"] = known._init, known._setup
            kwargs["connection_class"] = known._connection_class
            kwargs["record_class"] = known._record_class
        else:
            kwargs["init"] = array_types.tell
        return await asyncpg.create_pool(
            *args, connect=connect, min_size=0, max_size=size, reset=reset, **kwargs
        )

    async def connect(self) -> Connection:
        """A connection of our own, in no pool."""
        connect, args, kwargs = self._connecting({})
        return cast(Connection, await connect(*args, **kwargs))

    def _connecting(
        self, limits: dict[str, str]
    ) -> tuple[Callable[..., Awaitable[Any]], Sequence[Any], dict[str, Any]]:
        """What to call to be connected, and how."""
        connect: Callable[..., Awaitable[Any]] = asyncpg.connect
        args: Sequence[Any] = (self.dsn,)
        kwargs: dict[str, Any] = {"timeout": self.timeout_s}
        if self.pool is not None:
            # The pool knows how to connect, and has no public way to say so.
            known = cast(Any, self.pool)
            connect, args, kwargs = known._connect, known._connect_args, {**known._connect_kwargs}
        elif not self.pooler:
            commits = {"synchronous_commit": queries.DURABILITY[self.durability]}
            kwargs["server_settings"] = SETTINGS | commits | limits
        if self.pooler:
            kwargs["statement_cache_size"] = 0
        return connect, args, kwargs


async def _nothing_to_reset(connection: Any) -> None:
    """Instead of asyncpg's round trip: a verb leaves nothing behind on its connection."""


async def _forget_session(connection: Any) -> None:
    """What a handler may have left behind: roles, settings, locks, tables, cursors."""
    await connection.execute(queries.FORGET_SESSION)


class Connections:
    """The connections of an open store."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.place = address.place
        self._pool: Pool | VerbPool | None = None
        self._transactions: Pool | None = None
        self._going: set[asyncio.Future[Any]] = set()
        self._closing = False

    async def open(self) -> None:
        """Make the pools; nothing is connected yet."""
        if self.address.dsn is not None:
            dsns.check(self.address.dsn)
        if self.address.pool is not None and not self._from_elsewhere(self.address.pool):
            self._pool = self._transactions = self.address.pool
            return
        try:
            self._pool = await self.address.make_verb_pool()
            self._transactions = await self.address.make_transaction_pool()
        except DRIVER_ERRORS as error:
            raise _translated_at_connect(error, self.place) from error

    async def close(self) -> None:
        """Close what is ours, when what is under way has ended, or after ``CLOSE_S``."""
        self._closing = True
        if self._going:
            await asyncio.wait(self._going, timeout=CLOSE_S)
        pools = {id(pool): pool for pool in (self._pool, self._transactions) if pool is not None}
        for pool in pools.values():
            if pool is not self.address.pool:
                await _close(pool)
        if self._going:  # their connections are gone
            await asyncio.wait(self._going, timeout=CLOSE_S)

    # --- verbs -------------------------------------------------------------------------------

    async def alone(self, work: Callable[[Any], Awaitable[T]], *, writes: bool) -> T:
        """One statement, which is committed when this returns."""
        return await self.to_the_end(self._tried(work, writes))

    async def fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        """One statement that changes no row."""

        async def work(conn: Any) -> list[asyncpg.Record]:
            return cast(list[asyncpg.Record], await conn.fetch(sql, *args))

        if self.address.pooler:
            return await self.in_transaction(work, writes=False)
        return await self.alone(work, writes=False)

    async def in_transaction(
        self, work: Callable[[Any], Awaitable[T]], *, writes: bool, begin: str = queries.BEGIN
    ) -> T:
        """Several statements in one transaction; ``work`` may be called again after a failure."""

        async def whole(conn: PgConn) -> T:
            await conn.execute(begin)
            try:
                result = await work(conn)
            except BaseException as error:
                if not breaks_connection(error):
                    await conn.execute(queries.ROLLBACK)
                raise
            await conn.execute(queries.COMMIT)
            return result

        return await self.to_the_end(self._tried(whole, writes))

    async def to_the_end(self, work: Awaitable[T]) -> T:
        """Wait for it; whoever is cancelled meanwhile leaves it to go on alone."""
        return await asyncio.shield(self.begin(work))

    def begin(self, work: Awaitable[T]) -> asyncio.Future[T]:
        """Have it done, with nobody waiting for it but ``close``."""
        task = asyncio.ensure_future(work)
        self._going.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Future[Any]) -> None:
        self._going.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it may be gone

    async def _tried(self, work: Callable[[PgConn], Awaitable[T]], writes: bool) -> T:
        loop = asyncio.get_running_loop()
        give_up_at, pause_s = loop.time() + self.address.timeout_s, PAUSE_S
        for left in reversed(range(TRIES)):
            try:
                return await self._once(work, self.address.timeout_s)
            except DRIVER_ERRORS as error:
                over = not left or loop.time() + pause_s > give_up_at
                if over or code_of(error) not in AGAIN:
                    raise translated(error, self.place, sent=writes) from error
            await asyncio.sleep(random.uniform(0, pause_s))
            pause_s *= 2
        raise AssertionError("the last try returns or raises")

    async def _once(self, work: Callable[[PgConn], Awaitable[T]], timeout_s: float | None) -> T:
        pool = self._pool
        conn = await self._acquire(pool)
        try:
            async with asyncio.timeout(timeout_s):
                return await work(conn)
        except BaseException as error:
            if breaks_connection(error) and real(conn) is not None:
                conn.terminate()
            raise
        finally:
            await _release(pool, conn)

    async def _acquire(self, pool: Pool | VerbPool | None) -> PgConn:
        if pool is None:
            raise DurableError("This store is not open: `await store.open()` first.")
        try:
            return await pool.acquire(timeout=self.address.timeout_s)
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"No connection to {self.place} was to be had within "
                f"{self.address.timeout_s:g} s: either it does not answer, or all connections of "
                "the pool are in use; give the store a pool of its own, or a larger one."
            ) from error
        except DRIVER_ERRORS as error:
            raise _translated_at_connect(error, self.place) from error
        except (ValueError, OverflowError):
            raise dsns.unusable(self.place) from None  # it quotes what it does not understand

    async def using(
        self, work: Callable[[Any], Awaitable[T]], *, timeout_s: float | None = None
    ) -> T:
        """Whatever ``work`` does on a connection, once; without ``timeout_s`` however long it
        takes."""

        async def once() -> T:
            try:
                return await self._once(work, timeout_s)
            except DRIVER_ERRORS as error:
                raise translated(error, self.place) from error

        return await self.to_the_end(once())

    async def connect(self) -> Connection:
        """A connection apart from the pools, for whoever needs it for long."""
        return await self.address.connect()

    # --- transactions ------------------------------------------------------------------------

    async def lend(self) -> Proxy:
        """A connection for a transaction that the user takes part in, to be taken back."""
        return await self._acquire(None if self._closing else self._transactions)

    async def take_back(self, conn: Proxy, undo: Callable[[], Awaitable[None]] | None) -> None:
        """Undo what is not committed, if there is a way to; what cannot be undone in time goes with
        the session. From now on its holder can do nothing with it."""
        known = real(conn)
        try:
            if known is not None and undo is not None:
                async with asyncio.timeout(UNDO_S):
                    await undo()
        except DRIVER_ERRORS:  # out of time, or a statement is under way
            await self._end_session(cast(Connection, known))
        finally:
            await _release(self._transactions, conn)

    async def _end_session(self, conn: Connection) -> None:
        """Close it, with the statement under way, which else would go on and keep its locks.

        The driver asks for that statement to be cancelled. A request that overtakes it is forgotten
        by the server, and an idle socket tells the server nothing: then the session is ended from
        another one. (Not behind a pooler: there, nobody knows which session it is.)
        """
        server_pid = conn.get_server_pid()
        closing = asyncio.ensure_future(conn.close())
        await asyncio.wait({closing}, timeout=UNDO_S)
        if not closing.done() and not self.address.pooler:
            with suppress(DurableError, *DRIVER_ERRORS):
                async with asyncio.timeout(UNDO_S):
                    await self._once(lambda other: _ended(other, server_pid), UNDO_S)
                    await asyncio.wait({closing})
        closing.cancel()  # which aborts it, if it has not ended
        await asyncio.gather(closing, return_exceptions=True)

    def _from_elsewhere(self, pool: Pool) -> bool:
        """Whether the pool belongs to another event loop: then one like it is made here."""
        return cast(Any, pool)._loop is not asyncio.get_running_loop()


async def _ended(conn: PgConn, server_pid: int) -> None:
    await conn.execute(queries.END_SESSION, server_pid)


async def _release(pool: Any, conn: PgConn) -> None:
    """Give it back; what was done on it is done, whatever becomes of it now."""
    with suppress(*DRIVER_ERRORS):
        await pool.release(conn)


def real(conn: Any) -> Connection | None:
    """The connection behind a pool's proxy; none, when it was given back to the pool."""
    return cast("Connection | None", getattr(conn, "_con", conn))


def _translated_at_connect(error: BaseException, place: str) -> DurableError:
    ours = translated(error, place)
    if isinstance(ours, StoreUnavailableError):
        return ours
    return StoreUnavailableError(f"{place} cannot be connected to: {error}")


async def _close(pool: Pool | VerbPool) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await pool.close()
    except Exception:
        pool.terminate()
