"""Both: one question asked of SQLite and of Postgres, each row printed as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

from benchmarks.ground_pg import pg_ground
from benchmarks.ground_sqlite import sqlite_ground
from benchmarks.report import Row, emit, machine, table
from benchmarks.whole_engine import Ground

GROUNDS: dict[str, Callable[[], AbstractAsyncContextManager[Ground]]] = {
    "sqlite": sqlite_ground,
    "postgres": pg_ground,
}
STORES = tuple(GROUNDS)
Measure = Callable[[Ground], AsyncIterator[Row]]
"""All rows of one ground, in their order."""


def on_each(benchmark: str, title: str, stores: Sequence[str], measure: Measure) -> list[Row]:
    """Measure on these grounds, one after the other."""
    return asyncio.run(_on_each(benchmark, title, stores, measure))


async def _on_each(
    benchmark: str, title: str, stores: Sequence[str], measure: Measure
) -> list[Row]:
    rows, versions = [], {}
    for store in stores:
        async with GROUNDS[store]() as ground:
            versions[store] = await ground.version()
            async for row in measure(ground):
                rows.append({"store": store, **row})
                emit(benchmark, rows[-1])
    table(f"{title}, {machine(**versions)}", rows)
    return rows
