"""Steps: a verb's statements as a generator, so that one text runs in two places.

A generator yields statements and is sent their rows; it never sees a connection. ``drive``
runs it at once, inside one of our own transactions on the connection's own thread; ``join``
runs it on the caller's connection, inside the caller's transaction. Neither begins nor ends a
transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import aiosqlite

from .rows import Row

T = TypeVar("T")


class Query(NamedTuple):
    """One statement; all its rows come back."""

    sql: str
    parameters: Sequence[Any] | Mapping[str, Any] = ()


class Many(NamedTuple):
    """One statement for each row of parameters; nothing comes back."""

    sql: str
    rows: Sequence[Row]


Steps = Generator[Query | Many, list[Any], T]


def drive(connection: sqlite3.Connection, steps: Steps[T]) -> T:
    """Run all steps on this connection, in the calling thread."""
    cursor = sqlite3.Cursor(connection)
    rows: list[Any] | None = None
    try:
        while True:
            step = steps.send(rows)  # type: ignore[arg-type]
            if isinstance(step, Many):
                cursor.executemany(step.sql, step.rows)
                rows = []
            else:
                # All rows at once: a cursor read half would pin the write-ahead log.
                rows = cursor.execute(step.sql, step.parameters).fetchall()
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        cursor.close()


async def join(connection: aiosqlite.Connection, steps: Steps[T]) -> T:
    """Run all steps on the caller's connection, whatever row factory it has."""
    rows: list[Any] | None = None
    async with connection.cursor() as cursor:
        cursor.row_factory = None
        try:
            while True:
                step = steps.send(rows)  # type: ignore[arg-type]
                if isinstance(step, Many):
                    await cursor.executemany(step.sql, step.rows)
                    rows = []
                else:
                    await cursor.execute(step.sql, step.parameters)
                    rows = list(await cursor.fetchall())
        except StopIteration as end:
            result: T = end.value
            return result
