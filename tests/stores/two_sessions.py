"""Two sessions on one Postgres: what one holds open, what another does meanwhile, what must hold.

``Arena`` is a schema with a store on it, a hand clock and a connection that watches the server.
``Arena.held_open`` gives a second store, whose verbs have happened but are not committed until
the test says so. ``waits`` proves from the server's own lock table that a verb is waiting;
``check`` asks the tables themselves for what no protocol verb would show. Nothing sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg
import attrs
import pytest
from tests.postgres_kit import MAJORS, dsn, own_schema

from durable_core.testing.virtual_clock import START_MS, VirtualClock
from durable_pg import PgStore
from durable_pg.queries import in_schema
from durable_pg.schema_name import SchemaName
from durable_pg.steps import Steps, drive

T = TypeVar("T")

PATIENCE_S = 10.0
"""For what happens at once, unless it hangs."""

BLOCKED = """
SELECT EXISTS (
    SELECT 1 FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND $1::int = ANY (pg_blocking_pids(pid))
)
"""

PLACES = [
    *(pytest.param({"major": major}, id=str(major)) for major in MAJORS),
    *(pytest.param({"major": major, "plain": True}, id=f"{major}-plain") for major in MAJORS[:1]),
]
"""Where sessions meet, as arguments of ``arena``."""

TABLES = ("lease", "outcome", "entry", "inbox", "posted", "dedupe", "token", "attribute")
"""All that a run has, apart from its row in "run"."""

EMPTY = "".join(f'DELETE FROM "durable".{table};' for table in ("run", *TABLES))

VIOLATIONS = {
    "a journal is numbered from 1 without gap, and the run knows its length": """
        SELECT r.run_id FROM "durable".record r
        LEFT JOIN "durable".entry e ON e.run_id = r.run_id
        GROUP BY r.run_id, r.entry_count
        HAVING (count(e.seq), coalesce(min(e.seq), 1), coalesce(max(e.seq), 0))
            <> (r.entry_count, 1, r.entry_count)
    """,
    "entries come from ever newer owners, the last one at most from the newest": """
        SELECT e.run_id FROM (
            SELECT run_id, epoch, lag(epoch) OVER (PARTITION BY run_id ORDER BY seq) AS earlier
            FROM "durable".entry
        ) e
        JOIN "durable".record r ON r.run_id = e.run_id
        WHERE e.epoch < e.earlier OR e.epoch > r.epoch
    """,
    "a run either lives or has ended": """
        SELECT r.run_id FROM "durable".run r
        LEFT JOIN "durable".lease l ON l.run_id = r.run_id
        LEFT JOIN "durable".outcome o ON o.run_id = r.run_id
        WHERE (l.run_id IS NULL) = (o.run_id IS NULL)
    """,
    "whoever owns a run owns it for a time": """
        SELECT run_id FROM "durable".lease WHERE owner IS NOT NULL AND due_at_ms IS NULL
    """,
    "no run sleeps over a message": """
        SELECT l.run_id FROM "durable".lease l
        JOIN "durable".inbox i ON i.run_id = l.run_id
        WHERE l.owner IS NULL AND l.due_at_ms IS NULL
    """,
    "a message is there once, with a number that its run has counted": """
        SELECT i.run_id FROM "durable".inbox i
        LEFT JOIN "durable".lease l ON l.run_id = i.run_id
        LEFT JOIN "durable".outcome o ON o.run_id = i.run_id
        GROUP BY i.run_id, i.kind, i.name
        HAVING count(*) > 1 OR max(i.seq) > max(coalesce(l.arrived, o.arrived))
    """,
    "no message is on its way any more": """
        SELECT run_id FROM "durable".posted
    """,
    **{
        f"of a run that is gone there is no {table}": f"""
        SELECT x.run_id FROM "durable".{table} x
        WHERE NOT EXISTS (SELECT 1 FROM "durable".run r WHERE r.run_id = x.run_id)
        """
        for table in TABLES
    },
}
"""By the rule that is broken: the runs that break it, once everybody is through and a claim has
brought what was posted to its inboxes. Of what is seen here, all is consumed, or unseen."""

CHECK = " UNION ALL ".join(
    f"SELECT '{rule}', v.run_id FROM ({violations}) v" for rule, violations in VIOLATIONS.items()
)


class HeldOpen(PgStore):
    """A store whose verbs all happen in one transaction, which is open until the test ends it."""

    def __init__(self, conn: Any, **options: Any) -> None:
        super().__init__("postgresql://", **options)
        self.conn = conn
        self.pid: int = conn.get_server_pid()

    async def _write(
        self, steps: Callable[[], Steps[T]], *, explicit: bool = False, changes: bool = True
    ) -> T:
        return await drive(self.conn, steps(), self._schema)


@attrs.frozen
class Arena:
    """A place for sessions to meet; ``store`` is an ordinary one, made with these ``options``."""

    dsn: str
    schema: SchemaName
    clock: VirtualClock
    options: Mapping[str, Any]
    store: PgStore
    watcher: Any

    async def clear(self) -> None:
        """As it was in the beginning."""
        self.clock.now_ms = START_MS
        await self.execute(EMPTY)

    async def execute(self, sql: str) -> None:
        """Some statements of the test's own."""
        await self.watcher.execute(in_schema(sql, self.schema))

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        """The rows of the test's own statement."""
        rows: list[Any] = await self.watcher.fetch(in_schema(sql, self.schema), *args)
        return rows

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """One more session."""
        conn = await asyncpg.connect(self.dsn)
        try:
            yield conn
        finally:
            conn.terminate()

    @asynccontextmanager
    async def held_open(self, isolation: str = "read committed") -> AsyncIterator[HeldOpen]:
        """A store in a transaction; it is rolled back unless ``conn`` is told to COMMIT."""
        async with self.connection() as conn:
            await conn.execute(f"BEGIN ISOLATION LEVEL {isolation}")
            yield HeldOpen(conn, **self.options)
            if conn.is_in_transaction():
                await conn.execute("ROLLBACK")

    async def waits(self, task: asyncio.Task[Any], pid: int) -> bool:
        """Whether this task comes to wait for a lock of that session, or is through before."""
        async with asyncio.timeout(PATIENCE_S):
            while not task.done():
                if await self.watcher.fetchval(BLOCKED, pid):
                    return True
        return False

    async def check(self) -> None:
        """No rule is broken, whatever has happened."""
        broken = [tuple(row) for row in await self.fetch(CHECK)]
        assert broken == []


@asynccontextmanager
async def arena(major: int, *, plain: bool = False) -> AsyncIterator[Arena]:
    """An arena on the server of this version; use ``clear`` before each test."""
    async with own_schema(major) as name:
        clock = VirtualClock()
        options: dict[str, Any] = {
            "schema": name,
            "clock": clock,
            "listen": False,
            "plain": plain,
        }
        store = PgStore(dsn(major), **options)
        await store.open(migrate=True)
        try:
            watcher = await asyncpg.connect(dsn(major))
            try:
                yield Arena(dsn(major), SchemaName(name), clock, options, store, watcher)
            finally:
                await watcher.close()
        finally:
            await store.close()
