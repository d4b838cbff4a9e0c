"""Steps: a verb's statements as a generator, so that one text runs in several places.

A generator yields statements and is sent their rows; it never sees a connection. ``drive`` runs
it on one of ours, or on the caller's, inside whatever transaction is open there. Neither begins
nor ends a transaction.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeVar

import asyncpg

from .queries import in_schema
from .rows import Row
from .schema_name import SchemaName

T = TypeVar("T")


class Query(NamedTuple):
    """One statement; all its rows come back."""

    sql: str
    parameters: Sequence[Any] = ()


Steps = Generator[Query, Sequence[Row], T]


async def drive(conn: Any, steps: Steps[T], schema: SchemaName) -> T:
    """Run all steps on this connection, one round trip each."""
    rows: list[asyncpg.Record] | None = None
    try:
        while True:
            step = steps.send(rows)  # type: ignore[arg-type]  # None begins it
            rows = await conn.fetch(in_schema(step.sql, schema), *step.parameters)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()
