"""How fast are the peers, DBOS and Absurd, at the same work on the same server in the same run?

``peer`` says what each of them does, and ``peer_turns`` how they are put side by side.

Queued: workflows are enqueued first; the time is from when the first worker process may take one
to when the database has the last one's end.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import attrs

from benchmarks.ground_pg import PgGround
from benchmarks.peer import ENDED, ENGINES, Plan
from benchmarks.peer_turns import PATIENCE_S, Figure, call, hear, in_turns, own_database, started
from benchmarks.report import Row

LOOK_S = 0.005
REPEATS = 3
FIGURES = (Figure("runs_per_s", "times", more_is_better=True), Figure("p50_ms"))


@attrs.frozen(slots=True)
class Live:
    """Clients and worker in one process, for so many seconds."""

    steps: int
    concurrency: int
    seconds: float = 2
    repeats: int = REPEATS

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"{self.steps} steps, c={self.concurrency}"


@attrs.frozen(slots=True)
class Queued:
    """So many workflows in a queue, for so many worker processes."""

    runs: int
    steps: int
    processes: int
    repeats: int = REPEATS

    @property
    def name(self) -> str:
        """As it stands in the table."""
        workers = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{self.runs:,} queued, {self.steps} steps, {workers}"


Case = Live | Queued
CASES: Sequence[Case] = (
    *(Live(steps, concurrency) for steps in (1, 5, 50) for concurrency in (1, 100)),
    Queued(1_000, 5, 1),
    Queued(1_000, 5, 2),
)


async def live(dsn: str, engine: str, case: Live) -> Row:
    words = (engine, "live", dsn, Plan(case.steps), case.concurrency, case.seconds)
    row: Row = json.loads(await call(*words))
    return row


async def queued(dsn: str, engine: str, case: Queued) -> Row:
    plan = Plan(case.steps)
    await call(engine, "enqueue", dsn, plan, case.runs)
    workers = [await started(engine, "work", dsn, plan) for _ in range(case.processes)]
    conn: Any = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(hear(worker, "ready") for worker in workers))
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write(b"\n")
            every = [asyncio.ensure_future(hear(worker, "working")) for worker in workers]
            await asyncio.wait(every, return_when=asyncio.FIRST_COMPLETED)
            begin = time.perf_counter()
            while True:
                if await conn.fetchval(ENDED[engine]) >= case.runs:
                    break
                await asyncio.sleep(LOOK_S)
            took = time.perf_counter() - begin
            await asyncio.gather(*every)
            await asyncio.gather(*(worker.communicate(b"") for worker in workers))
    finally:
        await conn.close()
        for worker in workers:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
    await call(engine, "check", dsn, plan, case.runs)
    return {"runs_per_s": case.runs / took, "p50_ms": None, "cpu_us_per_step": None}


async def measure(ground: PgGround, engine: str, case: Case) -> Row:
    """One engine, once."""
    async with own_database(ground, engine, Plan(case.steps)) as dsn:
        if isinstance(case, Live):
            return await live(dsn, engine, case)
        return await queued(dsn, engine, case)


def main(cases: Sequence[Case] = CASES, engines: Sequence[str] = tuple(ENGINES)) -> list[Row]:
    return in_turns("peers", "Peers, workflows a second", cases, engines, FIGURES, measure)


if __name__ == "__main__":
    main()
