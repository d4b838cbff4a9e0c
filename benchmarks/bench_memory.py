"""How much memory does a run in flight take in its worker, and one that is suspended?

In flight: its handler is at work, after one step that is committed. Suspended: it waits for a
signal, and no worker should hold anything of it. Bytes are what Python has allocated more than
before the runs were started (tracemalloc), after a full collection, divided by the runs; the
client's handles are counted, and what a store keeps in its caches.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from typing import Any

from benchmarks.both import STORES, on_each
from benchmarks.report import Row
from benchmarks.whole_engine import Ground, handler, new_input
from durable_core import Engine, Start, StepContext, Workflow

RUNS = 2_000
WARM = 50
REST_S = 0.5
"""After which a worker has put away what it does not need."""


def in_use() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def measure(ground: Ground, runs: int) -> AsyncIterator[Row]:
    here, go = asyncio.Semaphore(0), asyncio.Event()

    async def at_work(ctx: StepContext[Any, Any]) -> dict[str, Any]:
        here.release()
        await go.wait()
        return {"ok": True}

    async def before(ctx: StepContext[Any, Any]) -> dict[str, Any]:
        here.release()
        return {"ok": True}

    flying: Workflow[Any, Any] = Workflow("flying").step("s0", handler).step("s1", at_work)
    asleep: Workflow[Any, Any] = Workflow("asleep").step("s0", before).wait_for_signal("go")

    async def grown(workflow: Workflow[Any, Any], count: int, rest_s: float) -> float:
        """Bytes a run, when all of them are where they are meant to be."""
        base = in_use()
        ids = [run.id for run in await engine.start_many([Start(workflow, new_input())] * count)]
        for _ in ids:
            await here.acquire()
        if rest_s:
            while True:
                if (await engine.get(ids[-1])).status == "suspended":
                    break
                await asyncio.sleep(0.01)
        await asyncio.sleep(rest_s)
        return (in_use() - base) / count

    async with (
        ground.store() as store,
        Engine(store, [flying, asleep], migrate=True) as engine,
        engine.worker(concurrency=runs + WARM),
    ):
        await grown(asleep, WARM, REST_S)
        tracemalloc.start()
        try:
            for workflow, rest_s in ((asleep, REST_S), (flying, 0.0)):
                kind = "suspended" if workflow is asleep else "in flight"
                bytes_a_run = await grown(workflow, runs, rest_s)
                yield {"run": kind, "runs": runs, "bytes_per_run": bytes_a_run}
        finally:
            tracemalloc.stop()
            go.set()


def main(runs: int = RUNS, stores: Sequence[str] = STORES) -> list[Row]:
    return on_each("memory", "Memory of a worker a run", stores, lambda each: measure(each, runs))


if __name__ == "__main__":
    main()
