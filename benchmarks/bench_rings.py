"""How many rings (NOTIFY) and how many claims that find nothing does one Postgres take?

What workers cost that hear of each other: a process rings at most 20 times a second, and whoever is
idle answers each ring with a claim. So many connections ring, or claim, one after the other, as
fast as they can, for a while. ``docs/scaling.md`` reckons with these.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from benchmarks.ground_pg import PgGround, pg_ground
from benchmarks.report import Row, emit, machine, table
from benchmarks.stored import claim
from durable_pg import PgStore
from durable_pg.queries import NOTIFY

AT_ONCE = (1, 8, 64)
SECONDS = 2.0
SETTINGS = {"max_connections": "300"}


async def ring(store: PgStore) -> None:
    await store._checked().connections.fetch(NOTIFY, "bench", "")


async def look(store: PgStore) -> None:
    assert await claim(store, 100) == []


async def measure(
    ground: PgGround,
    what: str,
    call: Callable[[PgStore], Awaitable[None]],
    stores: Sequence[PgStore],
    seconds: float,
) -> Row:
    calls = 0
    for store in stores:
        await call(store)  # connected, and the statement known

    async def caller(store: PgStore) -> None:
        nonlocal calls
        while time.perf_counter() < end:
            await call(store)
            calls += 1

    before = await ground.counts()
    begin = time.perf_counter()
    end = begin + seconds
    await asyncio.gather(*map(caller, stores))
    took = time.perf_counter() - begin
    after = await ground.counts()
    return {
        "what": what,
        "at_once": len(stores),
        "per_s": calls / took,
        "server_cpu_us": (after["server_cpu_us"] - before["server_cpu_us"]) / calls,
        "commits": (after["commits"] - before["commits"]) / calls,
        "wal_bytes": (after["wal_bytes"] - before["wal_bytes"]) / calls,
    }


async def measure_all(at_once: Sequence[int], seconds: float) -> list[Row]:
    rows = []
    async with pg_ground(SETTINGS) as ground, ground.place() as place, AsyncExitStack() as stack:
        on = machine(postgres=await ground.version())
        stores = [PgStore(place.dsn, schema=place.schema) for _ in range(max(at_once))]
        for number, store in enumerate(stores):
            await store.open(migrate=number == 0)
            stack.push_async_callback(store.close)
        for what, call in (("ring", ring), ("claim, nothing due", look)):
            for count in at_once:
                rows.append(await measure(ground, what, call, stores[:count], seconds))
                emit("rings", rows[-1])
    table(f"Rings and empty claims on one Postgres, {on}", rows)
    return rows


def main(at_once: Sequence[int] = AT_ONCE, seconds: float = SECONDS) -> list[Row]:
    return asyncio.run(measure_all(at_once, seconds))


if __name__ == "__main__":
    main()
