"""What the tests of the Postgres adapter share: a place of their own, with the user's table."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import asyncpg
import attrs
import pytest
from tests.postgres_kit import MAJORS, dsn, own_schema
from tests.serving import serving

from durable_core.testing.postgres import NO_POSTGRES
from durable_pg import PgStore
from durable_pg.listen import Bell

PATIENCE_S = 20.0
"""How long a test waits for what must happen; never how long it takes."""

on_postgres = [
    pytest.mark.postgres,
    pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES),
]

MIDDLE_OF_A_TRANSACTION = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
    AND backend_type = 'client backend'
"""
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'durable-core'"
LOCKS = """
SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND l.pid <> pg_backend_pid()
"""


@attrs.frozen
class Place:
    """A schema of one test's own. Every connection to ``dsn`` finds its tables without naming it,
    ``mine (x)`` among them; ``eyes`` is a connection that looks on from outside."""

    dsn: str
    schema: str
    eyes: Any

    def store(self, **options: Any) -> PgStore:
        """An unopened store here."""
        return PgStore(options.pop("dsn", self.dsn), schema=self.schema, **options)

    @asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[PgStore]:
        """An open store here; the schema is made if need be."""
        store = self.store(**options)
        await store.open(migrate=True)
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def connected(self, **options: Any) -> AsyncIterator[Any]:
        """Somebody's own connection."""
        connection = await asyncpg.connect(options.pop("dsn", self.dsn), **options)
        try:
            yield connection
        finally:
            await connection.close()

    async def mine(self) -> list[int]:
        """What is committed of the user's rows."""
        return [x for (x,) in await self.eyes.fetch("SELECT x FROM mine ORDER BY x")]

    async def at_rest(self) -> bool:
        """Whether nobody else is in a transaction, or holds a lock on a table here."""
        busy = await self.eyes.fetchval(MIDDLE_OF_A_TRANSACTION)
        return bool(busy == 0 == await self.eyes.fetchval(LOCKS, self.schema))

    async def sessions(self) -> int:
        """How many sessions of stores there are on the server."""
        return int(await self.eyes.fetchval(SESSIONS))

    async def nobody_is_connected(self) -> bool:
        """Whether no store has a connection to the server."""
        return not await self.sessions()

    async def comes_to_rest(self) -> None:
        """Return once all transactions are over; a server may hear of it after the client."""
        await until(self.at_rest)


@asynccontextmanager
async def own_place(url: str | None = None) -> AsyncIterator[Place]:
    """A place that is dropped at the end, on the newest server or where ``url`` says."""
    major = MAJORS[0]
    async with own_schema(major) as schema:
        eyes = await asyncpg.connect(f"{url or dsn(major)}?search_path={schema}")
        try:
            await eyes.execute(f"CREATE SCHEMA {schema}; CREATE TABLE mine (x bigint UNIQUE)")
            yield Place(f"{url or dsn(major)}?search_path={schema}", schema, eyes)
        finally:
            await eyes.close()


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Ask again and again, until it is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            pass


@contextmanager
def impatient(store: PgStore, timeout_s: float) -> Iterator[None]:
    """Its verbs may take no longer than this, for a while."""
    connections = store._checked().connections
    before = connections.address
    connections.address = attrs.evolve(before, timeout_s=timeout_s)
    yield
    connections.address = before


async def all_done(store: PgStore) -> None:
    """Return when nothing is under way, not even what nobody waits for any more."""
    while going := store._checked().connections._going:
        await asyncio.wait(going)


async def at_peace(*stores: PgStore) -> None:
    """They have let others hear of what they did, and have heard of everything so far."""
    for store in stores:
        await until(partial(_has_rung, store))
    for store in stores:
        await store.wait_for_work(0)
        listening = _bell(store)._listening
        assert listening is not None
        await listening.fetch("LISTEN nothing")  # what was sent before has now arrived
        while await store.wait_for_work(0):
            pass


async def _has_rung(store: PgStore) -> bool:
    await store.get([])
    return _bell(store)._ringing is None


def _bell(store: PgStore) -> Bell:
    bell = store._checked().bell
    assert bell is not None
    return bell


@asynccontextmanager
async def silence() -> AsyncIterator[str]:
    """The DSN of somebody who takes every connection, and never says anything."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1_000):
            pass

    async with serving(listen) as port:
        yield f"postgresql://ada@127.0.0.1:{port}/shop"


async def somebody_waits(place: Place) -> bool:
    """Whether a session waits for a lock."""
    return bool(await place.eyes.fetch("SELECT FROM pg_locks WHERE NOT granted"))


async def cancelled(verb: Any, moments: int) -> None:
    """Begin, and be cancelled a little later, or a little later still."""
    task = asyncio.ensure_future(verb)
    for moment in range(moments):
        if moment < 4:
            await asyncio.sleep(0)
        else:
            await asyncio.wait({task}, timeout=0.0002)
    task.cancel()
    await asyncio.wait({task})
