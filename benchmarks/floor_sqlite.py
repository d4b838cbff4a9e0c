"""The floor on bare sqlite3: one connection, called from the event loop's own thread."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

from benchmarks.floor import INPUT, RESULT

SCHEMA = """
create table run (run_id text primary key, workflow text, version text, input blob) without rowid;
create table lease (run_id text primary key, epoch integer not null, owner text) without rowid;
create table entry (
    run_id text, seq integer, epoch integer, unit text, value blob, primary key (run_id, seq)
) without rowid;
create table outcome (run_id text primary key, status text, at integer) without rowid;
"""


class SqliteFloor:
    """A ``Floor``."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn

    async def create(self, names: Sequence[str]) -> None:
        conn = self._conn
        conn.execute("begin immediate")
        conn.executemany(
            "insert into run values (?, 'steps', '1', ?)", [(name, INPUT) for name in names]
        )
        conn.executemany("insert into lease values (?, 0, null)", [(name,) for name in names])
        conn.execute("commit")

    async def advance(self, names: Sequence[str], steps: int) -> None:
        conn = self._conn
        conn.execute("begin immediate")
        conn.executemany(
            "update lease set epoch = epoch + 1, owner = 'w' where run_id = ?",
            [(name,) for name in names],
        )
        conn.execute("commit")
        for seq in range(1, steps + 1):
            conn.execute("begin immediate")
            for name in names:
                row = conn.execute("select epoch from lease where run_id = ?", (name,)).fetchone()
                assert row == (1,)
            conn.executemany(
                "insert into entry values (?, ?, 1, ?, ?)",
                [(name, seq, f"s{seq}", RESULT) for name in names],
            )
            if seq == steps:
                conn.executemany("delete from lease where run_id = ?", [(name,) for name in names])
                conn.executemany(
                    "insert into outcome values (?, 'completed', 0)", [(name,) for name in names]
                )
            conn.execute("commit")


@asynccontextmanager
async def sqlite_floor(path: Path) -> AsyncIterator[SqliteFloor]:
    """On a new file: WAL and full synchronisation, as the adapter has it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("pragma journal_mode = wal")
        conn.execute("pragma synchronous = full")
        conn.executescript(SCHEMA)
        yield SqliteFloor(conn)
