"""Do claims hold up with 64 workers at once, and with millions of suspended runs in the tables?

Postgres only. So many claimers, each a store with connections of its own, drain a queue together:
each claims up to 100 runs, ends them in one commit, and claims again. All are in one process, so
its processor limits the rate: read how it changes, and that no run was claimed twice, which is
checked. ``times_first`` is the rate against that of the first row.

``python -m benchmarks.bench_claimers 10000000`` for another number of suspended runs; ten
millions take some minutes and some gigabytes to put there.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import attrs

from benchmarks.bench_timers import create
from benchmarks.ground_pg import PgGround, pg_ground
from benchmarks.report import Row, emit, machine, table
from benchmarks.stored import claim, step
from benchmarks.whole_engine import percentile_ms
from durable_core.store import Release
from durable_pg import PgStore
from durable_pg.queries import in_schema
from durable_pg.schema_name import SchemaName

CLAIMERS = (1, 4, 16, 64)
DUE = 50_000
SUSPENDED = (0, 1_000_000)
CLAIM = 100
SETTINGS = {"max_connections": "300"}
COPY = """
INSERT INTO "durable".{table}
SELECT twin.* FROM "durable".{table} AS one CROSS JOIN generate_series(1, $1::int) AS number
CROSS JOIN LATERAL jsonb_populate_record(
    one, jsonb_build_object('run_id', 'asleep-' || lpad(number::text, 12, '0'))
) AS twin
WHERE one.run_id LIKE 'asleep-%'
"""


async def suspend(dsn: str, schema: str, store: PgStore, count: int) -> None:
    """So many runs that only a message moves; one goes to sleep, and is copied."""
    await create(store, "asleep", 1, 0)
    (run_id,) = await claim(store, 1)
    asleep = attrs.evolve(step(run_id, 0), status="suspended", release=Release(due_at_ms=None))
    await store.commit([asleep])
    conn: Any = await asyncpg.connect(dsn)
    try:
        for name in ("run", "lease"):
            await conn.execute(in_schema(COPY.format(table=name), SchemaName(schema)), count)
            await conn.execute(f"VACUUM ANALYZE {schema}.{name}")
        await conn.execute("CHECKPOINT")
    finally:
        await conn.close()


async def drain(stores: Sequence[PgStore], due: int) -> tuple[float, list[float]]:
    """Seconds until nothing is due, and those of each claim that found something."""
    taken: list[float] = []
    seen: list[str] = []

    async def claimer(store: PgStore) -> None:
        while True:
            at = time.perf_counter()
            run_ids = await claim(store, CLAIM)
            if not run_ids:
                return
            taken.append(time.perf_counter() - at)
            seen.extend(run_ids)
            await store.commit([step(run_id, 0, finished=True) for run_id in run_ids])

    begin = time.perf_counter()
    await asyncio.gather(*map(claimer, stores))
    took = time.perf_counter() - begin
    assert len(seen) == len(set(seen)) == due, "each is claimed once"
    return took, taken


async def measure(ground: PgGround, suspended: int, claimers: Sequence[int], due: int) -> list[Row]:
    rows = []
    async with ground.place() as place, AsyncExitStack() as stack:
        stores = [PgStore(place.dsn, schema=place.schema) for _ in range(max(claimers))]
        for number, store in enumerate(stores):
            await store.open(migrate=number == 0)
            stack.push_async_callback(store.close)
        if suspended:
            await suspend(place.dsn, place.schema, stores[0], suspended)
        for count in claimers:
            await create(stores[0], f"due{count}", due, 0)
            before = await ground.counts()
            took, taken = await drain(stores[:count], due)
            after = await ground.counts()
            rows.append(
                {
                    "suspended": suspended,
                    "claimers": count,
                    "runs_per_s": due / took,
                    "claim_p50_ms": percentile_ms(taken, 50),
                    "claim_p99_ms": percentile_ms(taken, 99),
                    "server_cpu_us_per_run": (after["server_cpu_us"] - before["server_cpu_us"])
                    / due,
                    "wal_bytes_per_run": (after["wal_bytes"] - before["wal_bytes"]) / due,
                }
            )
    return rows


async def measure_all(suspended: Sequence[int], claimers: Sequence[int], due: int) -> list[Row]:
    rows: list[Row] = []
    async with pg_ground(SETTINGS) as ground:
        on = machine(postgres=await ground.version())
        for count in suspended:
            for row in await measure(ground, count, claimers, due):
                first = rows[0] if rows else row
                rows.append({**row, "times_first": row["runs_per_s"] / first["runs_per_s"]})
                emit("claimers", rows[-1])
    table(f"Claimers on one Postgres, {on}", rows)
    return rows


def main(
    suspended: Sequence[int] = SUSPENDED, claimers: Sequence[int] = CLAIMERS, due: int = DUE
) -> list[Row]:
    return asyncio.run(measure_all(suspended, claimers, due))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or SUSPENDED)
