"""Connections: a pool, and one verb on one connection of it.

Rules:

1. A verb is one statement in a transaction of its own (one round trip), or, where statements
   cannot be one, an explicit transaction. Nothing between its first and its last byte waits for
   anybody but the server.
2. Cancelling the task that waits for a verb cancels the waiting only: the verb goes on to its
   end in a task of its own, so no transaction is left open and no connection goes back to the
   pool in the middle of one. Of a cancelled statement nobody could tell whether it committed.
3. A connection whose state is in doubt is thrown away, never used again.
4. What Postgres undid because of others (deadlock, serialization) is tried again at once, a few
   times, with growing jittered pauses. What cannot be known is never sent again from here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

import asyncpg
import asyncpg.pool
import attrs

from durable_core.errors import DurableError, StoreUnavailableError

from . import queries
from .translate import AGAIN, DRIVER_ERRORS, breaks_connection, code_of, translated

T = TypeVar("T")

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
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
CONNECT_S = 10.0
TRIES = 6
PAUSE_S = 0.01
"""The longest pause before the second try; it doubles with each."""
CLOSE_S = 5.0
"""How long closing waits for what is under way."""
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

    dsn: str | None
    pool: Pool | None
    pooler: bool
    timeout_s: float

    @property
    def place(self) -> str:
        """For messages; never with a password."""
        if self.dsn is None:
            return "the database of the pool"
        with suppress(ValueError):
            parts = urlsplit(self.dsn)
            host = parts.hostname or "localhost"
            port = f":{parts.port}" if parts.port else ""
            return f"the Postgres database {parts.path.lstrip('/')!r} on {host}{port}"
        return "the Postgres database"

    def make_pool(self, size: int) -> Pool:
        """A pool of our own, yet to be awaited."""
        connect, args, kwargs = self._connecting()
        return asyncpg.create_pool(
            *args, connect=connect, min_size=0, max_size=size, reset=_nothing_to_reset, **kwargs
        )

    async def connect(self) -> Connection:
        """A connection of our own, in no pool."""
        connect, args, kwargs = self._connecting()
        return cast(Connection, await connect(*args, **kwargs))

    def _connecting(self) -> tuple[Callable[..., Awaitable[Any]], Sequence[Any], dict[str, Any]]:
        """What to call to be connected, and how."""
        connect: Callable[..., Awaitable[Any]] = asyncpg.connect
        args: Sequence[Any] = (self.dsn,)
        kwargs: dict[str, Any] = {"timeout": CONNECT_S}
        if self.pool is not None:
            # The pool knows how to connect, and has no public way to say so.
            known = cast(Any, self.pool)
            connect, args, kwargs = known._connect, known._connect_args, {**known._connect_kwargs}
        elif not self.pooler:
            kwargs["server_settings"] = SETTINGS
        if self.pooler:
            kwargs["statement_cache_size"] = 0
        return connect, args, kwargs


async def _nothing_to_reset(connection: Any) -> None:
    """Instead of asyncpg's round trip: a verb leaves nothing behind on its connection."""


class Connections:
    """The connections of an open store."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.place = address.place
        self._pool: Pool | None = None
        self._transactions: Pool | None = None
        self._going: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Make the pools; nothing is connected yet."""
        if self.address.pool is not None and not self._from_elsewhere(self.address.pool):
            self._pool = self._transactions = self.address.pool
            return
        try:
            self._pool = await self.address.make_pool(VERBS_AT_ONCE)
            self._transactions = await self.address.make_pool(TRANSACTIONS_AT_ONCE)
        except (*DRIVER_ERRORS, ValueError) as error:
            raise _translated_at_connect(error, self.place) from error

    async def close(self) -> None:
        """Close what is ours, when what is under way has ended."""
        if self._going:
            await asyncio.wait(self._going, timeout=CLOSE_S)
        pools = {id(pool): pool for pool in (self._pool, self._transactions) if pool is not None}
        self._pool = self._transactions = None
        for pool in pools.values():
            if pool is not self.address.pool:
                await _close(pool)

    # --- verbs -------------------------------------------------------------------------------

    async def alone(self, work: Callable[[Any], Awaitable[T]], *, writes: bool) -> T:
        """One statement, which is committed when this returns."""
        return await self._to_the_end(self._tried(work, writes))

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

        async def whole(conn: Proxy) -> T:
            await conn.execute(begin)
            try:
                result = await work(conn)
            except BaseException as error:
                if not breaks_connection(error):
                    await conn.execute(queries.ROLLBACK)
                raise
            await conn.execute(queries.COMMIT)
            return result

        return await self._to_the_end(self._tried(whole, writes))

    async def _to_the_end(self, verb: Awaitable[T]) -> T:
        task = asyncio.ensure_future(verb)
        self._going.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._going.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it may be gone

    async def _tried(self, work: Callable[[Proxy], Awaitable[T]], writes: bool) -> T:
        pause_s = PAUSE_S
        for left in reversed(range(TRIES)):
            try:
                return await self._once(work, self.address.timeout_s)
            except DRIVER_ERRORS as error:
                if not left or code_of(error) not in AGAIN:
                    raise translated(error, self.place, sent=writes) from error
            await asyncio.sleep(random.uniform(0, pause_s))
            pause_s *= 2
        raise AssertionError("the last try returns or raises")

    async def _once(
        self, work: Callable[[Proxy], Awaitable[T]], timeout_s: float | None = None
    ) -> T:
        async with self._acquired(self._pool) as conn:
            try:
                async with asyncio.timeout(timeout_s):
                    return await work(conn)
            except BaseException as error:
                if breaks_connection(error):
                    conn.terminate()
                raise

    @asynccontextmanager
    async def _acquired(self, pool: Pool | None) -> AsyncIterator[Proxy]:
        if pool is None:
            raise DurableError("This store is not open: `await store.open()` first.")
        try:
            conn = await pool.acquire(timeout=self.address.timeout_s)
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"No connection to {self.place} was to be had within "
                f"{self.address.timeout_s:g} s: either it does not answer, or all connections of "
                "the pool are in use; give the store a pool of its own, or a larger one."
            ) from error
        except DRIVER_ERRORS as error:
            raise _translated_at_connect(error, self.place) from error
        try:
            yield conn
        finally:
            await pool.release(conn)

    async def using(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Whatever ``work`` does on a connection, once, however long it takes."""

        async def once() -> T:
            try:
                return await self._once(work)
            except DRIVER_ERRORS as error:
                raise translated(error, self.place) from error

        return await self._to_the_end(once())

    async def connect(self) -> Connection:
        """A connection apart from the pools, for whoever needs it for long."""
        return await self.address.connect()

    # --- transactions ------------------------------------------------------------------------

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Connection]:
        """A connection for a transaction that the user takes part in; what is left open on it
        when the block is left goes with the connection."""
        async with self._acquired(self._transactions) as proxy:
            conn = cast(Connection, real(proxy))
            try:
                yield conn
            finally:
                if not conn.is_closed() and conn.is_in_transaction():
                    conn.terminate()

    def _from_elsewhere(self, pool: Pool) -> bool:
        """Whether the pool belongs to another event loop: then one like it is made here."""
        return cast(Any, pool)._loop is not asyncio.get_running_loop()


def real(conn: Any) -> Connection | None:
    """The connection behind a pool's proxy; none, when it was given back to the pool."""
    return cast("Connection | None", getattr(conn, "_con", conn))


def _translated_at_connect(error: BaseException, place: str) -> DurableError:
    if isinstance(error, ValueError) and not isinstance(error, asyncpg.InterfaceError):
        return StoreUnavailableError(f"The DSN of {place} cannot be used: {error}.")
    ours = translated(error, place)
    if isinstance(ours, StoreUnavailableError):
        return ours
    return StoreUnavailableError(f"{place} cannot be connected to: {error}")


async def _close(pool: Pool) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await pool.close()
    except Exception:
        pool.terminate()
