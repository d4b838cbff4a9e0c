"""Finished runs in great number on SQLite, without executing them: one is copied by SQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.whole_engine import new_input, workflow_of
from durable_core import Engine
from durable_sqlite import SqliteStore

TABLES = ("durable_run", "durable_outcome", "durable_entry")
COLUMNS = "SELECT name FROM pragma_table_info(?)"
COPY = """
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :count)
INSERT INTO {table} (run_id, {columns})
SELECT '00000000-0000-7000-8000-' || printf('%012d', n), {columns}
FROM number CROSS JOIN {table} WHERE run_id = :run_id
"""
"""Their ids are older than any that is made now, so that these do not share their pages."""


async def add_finished(path: Path, count: int, steps: int) -> None:
    """Put this many finished runs into the file, with their journals, and tidy up."""
    workflow = workflow_of(steps)
    async with Engine(SqliteStore(path), [workflow], migrate=True) as engine, engine.worker():
        run = await engine.start(workflow, new_input())
        await run.result()
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for table in TABLES:
            names = [name for (name,) in conn.execute(COLUMNS, (table,)) if name != "run_id"]
            sql = COPY.format(table=table, columns=", ".join(names))
            conn.execute(sql, {"count": count, "run_id": run.id})
        conn.execute("ANALYZE")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
