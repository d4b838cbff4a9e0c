"""Ground: a Postgres server to measure on, as it is installed, and what it counts meanwhile."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
import attrs

from benchmarks.finished_pg import add_finished
from benchmarks.floor import Floor
from benchmarks.floor_pg import pg_floor
from durable_core.errors import DurableError
from durable_core.testing.postgres import NO_POSTGRES, PostgresServer
from durable_core.testing.postgres_binaries import find_binaries
from durable_core.testing.postgres_schema import own_schema
from durable_pg import PgStore

COUNTS = """
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS commits,
    (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS wal_bytes
"""


class Counted(asyncpg.Connection):  # type: ignore[misc]  # asyncpg ships no types
    """A connection that counts its round trips, together with all others of this class."""

    trips = 0

    async def fetch(self, *args: Any, **kwargs: Any) -> Any:
        Counted.trips += 1
        return await super().fetch(*args, **kwargs)

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        Counted.trips += 1
        return await super().execute(*args, **kwargs)


@attrs.frozen(slots=True)
class PgPlace:
    """A ``Place``."""

    dsn: str
    schema: str

    def store(self) -> PgStore:
        return PgStore(self.dsn, schema=self.schema)

    async def add_finished(self, count: int) -> None:
        await add_finished(self.dsn, self.schema, count, steps=1)


class PgGround:
    """New schemas on one server.

    What it counts: ``commits`` are transactions that wrote, by the numbers they were given
    (``pg_stat_database.xact_commit`` comes up to a second late, and has the reads too);
    ``round_trips`` are those of the stores; ``server_cpu_us`` is of all processes of the server.
    """

    def __init__(self, server: PostgresServer, conn: Any) -> None:
        self.dsn = server.dsn()
        self.conn = conn
        self._server = server

    @asynccontextmanager
    async def store(self, **options: Any) -> AsyncIterator[PgStore]:
        async with own_schema(self.dsn) as schema:
            yield PgStore(self.dsn, schema=schema, **options)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[PgPlace]:
        async with own_schema(self.dsn) as schema:
            yield PgPlace(self.dsn, schema)

    def floor(self) -> AbstractAsyncContextManager[Floor]:
        return pg_floor(self.dsn)

    def dsn_of(self, database: str) -> str:
        """Where this database of the server is."""
        return self._server.dsn(database)

    async def version(self) -> str:
        return str(await self.conn.fetchval("SHOW server_version"))

    async def counts(self) -> Mapping[str, float]:
        return {
            **await self.conn.fetchrow(COUNTS),
            "round_trips": Counted.trips,
            "server_cpu_us": processor_us(self._server.pid),
        }


@asynccontextmanager
async def pg_ground(settings: Mapping[str, str] | None = None) -> AsyncIterator[PgGround]:
    """On a server of its own, with the settings it is installed with, but for these: it waits for
    the disk."""
    binaries = find_binaries()
    if binaries is None:
        raise DurableError(NO_POSTGRES)
    with PostgresServer(binaries, settings=settings or {}) as server, _counted_connections():
        conn = await asyncpg.connect(server.dsn())
        try:
            yield PgGround(server, conn)
        finally:
            await conn.close()


@contextmanager
def _counted_connections() -> Iterator[None]:
    """All connections that are made meanwhile count their round trips."""
    plain = asyncpg.connect

    def connect(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **{**kwargs, "connection_class": Counted})

    with patch.object(asyncpg, "connect", connect):
        yield


def processor_us(pid: int) -> float:
    """Processor time of a process, of its children, and of those that have ended; 0 where the
    system does not tell (it does on Linux)."""
    ticks = 0
    with suppress(FileNotFoundError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *children):
            with suppress(FileNotFoundError):  # it has ended, and is counted by its parent
                after_name = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, after_name[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK") * 1e6
