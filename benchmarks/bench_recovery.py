"""How long until 10,000 runs that a dead worker held are done by another?

They are claimed by a worker that is never heard of again. The clock starts when the last of its
leases runs out: a new worker is there, looks, takes them over in batches, reads what they have in
their journals (nothing here) and executes their two steps. ``times_queued`` is the time against
as many runs that wait in the queue, which nobody held.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from benchmarks.both import STORES, on_each
from benchmarks.report import Row
from benchmarks.whole_engine import Ground, new_input, percentile_ms, workflow_of
from durable_core import Engine, Start
from durable_core.store import ClaimRequest, Kind

RUNS = (1_000, 10_000)
STEPS = 2
LEASE_MS = 5_000
CLAIM = 100
SLICE = 1_000


async def all_claimed(store: Any, run_id: str, lease_ms: int) -> tuple[int, int]:
    """How many were claimed by the worker that dies, and when the last lease ends, in ms."""
    record = (await store.get([run_id]))[run_id]
    kind = Kind(workflow=record.workflow, version=record.version, fingerprint=record.fingerprint)
    request = ClaimRequest(
        worker="dead", lease_ms=lease_ms, limit=CLAIM, queues=(record.queue,), kinds=(kind,)
    )
    claimed, last = 0, 0
    while (batch := await store.claim(request)).runs:
        claimed, last = claimed + len(batch.runs), batch.now_ms + lease_ms
    return claimed, last


async def measure(ground: Ground, runs: int, dies: bool, lease_ms: int) -> Row:
    waited: list[float] = []
    begin = 0.0
    workflow = workflow_of(STEPS, lambda _: waited.append(time.perf_counter() - begin))
    async with ground.store() as store, Engine(store, [workflow], migrate=True) as engine:
        started = []
        for left in range(runs, 0, -SLICE):
            new = [Start(workflow, new_input()) for _ in range(min(left, SLICE))]
            started += await engine.start_many(new)
        if dies:
            claimed, last = await all_claimed(store, started[0].id, lease_ms)
            assert claimed == runs, f"only {claimed} were held when the first lease ran out"
            await asyncio.sleep(max(0, last - await store.now_ms()) / 1e3)
        begin, cpu = time.perf_counter(), time.process_time()
        async with engine.worker():
            await asyncio.gather(*(run.result() for run in started))
            took, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return {
        "runs": runs,
        "first_call_ms": min(waited) * 1e3,
        "p50_call_ms": percentile_ms(waited, 50),
        "seconds": took,
        "runs_per_s": runs / took,
        "cpu_us_per_run": cpu / runs * 1e6,
    }


def main(
    runs: Sequence[int] = RUNS, stores: Sequence[str] = STORES, lease_ms: int = LEASE_MS
) -> list[Row]:
    async def each(ground: Ground) -> AsyncIterator[Row]:
        for count in runs:
            queued = await measure(ground, count, False, lease_ms)
            row = await measure(ground, count, True, lease_ms)
            yield {**row, "times_queued": row["seconds"] / queued["seconds"]}

    return on_each("recovery", "Runs of a dead worker, done by another", stores, each)


if __name__ == "__main__":
    main()
