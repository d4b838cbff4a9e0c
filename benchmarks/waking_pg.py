"""How long until a run that another process starts calls its first handler here?"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import attrs

from benchmarks.floor_pg import connected_floor, floor_tables
from benchmarks.report import Row
from benchmarks.sender_pg import rest
from benchmarks.whole_engine import percentile_ms, workflow_of
from durable_core import Engine
from durable_core.testing.postgres_schema import own_schema
from durable_pg import PgStore

ROOT = Path(__file__).parents[1]
CHANNEL = "floor"
NOTIFY = "select pg_notify($1, '')"


@attrs.frozen(slots=True)
class Sending:
    """``rounds`` times, after a rest, another process starts so many runs ``at_once``."""

    listen: bool
    at_once: int
    rounds: int

    @property
    def name(self) -> str:
        """As it stands in the table."""
        how = "LISTEN" if self.listen else "polling"
        return f"{how}, {self.at_once:,} at once"


SENDINGS = (Sending(True, 1, 40), Sending(True, 100, 20), Sending(False, 1, 40))


async def measure(dsn: str, sending: Sending) -> list[float]:
    """Seconds from before each start to the call of the handler; without the first round, in
    which the sender connects."""
    waited: asyncio.Queue[float] = asyncio.Queue()
    workflow = workflow_of(1, waited.put_nowait)
    expected = (sending.rounds + 1) * sending.at_once
    async with own_schema(dsn) as schema:
        store = PgStore(dsn, schema=schema, listen=sending.listen)
        async with Engine(store, [workflow], migrate=True) as engine, engine.worker():
            words = (dsn, schema, sending.listen, sending.rounds + 1, sending.at_once)
            sender = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.sender_pg", *map(str, words), cwd=ROOT
            )
            assert await sender.wait() == 0, "the sending process failed"
            every = [await waited.get() for _ in range(expected)]
    return every[sending.at_once :]


async def measure_floor(dsn: str, times: int) -> list[float]:
    """Seconds from before a run is created to when another connection, which hears of it by
    NOTIFY, has claimed it: each alone, after a rest."""
    taken = []
    rung = asyncio.Event()
    async with (
        floor_tables(dsn) as schema,
        connected_floor(dsn, schema) as client,
        connected_floor(dsn, schema) as worker,
    ):
        await worker.conn.add_listener(CHANNEL, lambda *_: rung.set())
        for index in range(times):
            await rest()
            at = time.perf_counter()
            await client.create([f"run-{index:032}"])
            await client.conn.fetch(NOTIFY, CHANNEL)
            await rung.wait()
            rung.clear()
            await worker.claim([f"run-{index:032}"])
            taken.append(time.perf_counter() - at)
    return taken


async def compare(dsn: str, sending: Sending) -> Row:
    """Engine beside the floor."""
    bare = percentile_ms(await measure_floor(dsn, sending.rounds), 50)
    waited = await measure(dsn, sending)
    p50 = percentile_ms(waited, 50)
    return {
        "case": sending.name,
        "called_p50_ms": p50,
        "called_p99_ms": percentile_ms(waited, 99),
        "floor_p50_ms": bare,
        "times_floor": p50 / bare if p50 and bare else None,
    }
