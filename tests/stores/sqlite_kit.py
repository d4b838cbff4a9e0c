"""What the tests of the SQLite adapter share."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from durable_sqlite import SqliteStore


@asynccontextmanager
async def opened(path: Path | str, **options: Any) -> AsyncIterator[SqliteStore]:
    """An open store; fsync is off, so that tests are quick."""
    store = SqliteStore(path, **{"synchronous": "OFF", **options})
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def plain(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else's connection, in autocommit mode and without patience."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as connection:
        yield connection


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else holds the write lock."""
    with plain(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def nobody_holds_the_lock(path: Path) -> bool:
    """Whether no transaction was left open by anybody."""
    with locked(path):
        return True
