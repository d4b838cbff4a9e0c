"""How long does a map over 10,000 items take, and does an item cost more than one of 100?

One run, one map, async handlers that return a small dict, up to 100 at work at once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from benchmarks.both import STORES, on_each
from benchmarks.report import Row
from benchmarks.whole_engine import Ground
from durable_core import Engine, StepContext, Workflow

ITEMS = (100, 1_000, 10_000)


async def each_item(ctx: StepContext[Any, int]) -> dict[str, Any]:
    return {"ok": True, "n": ctx.item}


mapping = Workflow("mapping", input=int).map("all", lambda ctx: range(ctx.input), each_item)


async def measure(ground: Ground, items: int) -> Row:
    async with (
        ground.store() as store,
        Engine(store, [mapping], migrate=True) as engine,
        engine.worker(),
    ):
        await (await engine.start(mapping, 1)).result()  # warm
        at, cpu = time.perf_counter(), time.process_time()
        result: Any = await (await engine.start(mapping, items)).result()
        took, cpu = time.perf_counter() - at, time.process_time() - cpu
    assert [one["n"] for one in result["all"]] == list(range(items))
    return {
        "items": items,
        "seconds": took,
        "items_per_s": items / took,
        "cpu_us_per_item": cpu / items * 1e6,
    }


def main(items: Sequence[int] = ITEMS, stores: Sequence[str] = STORES) -> list[Row]:
    async def each(ground: Ground) -> AsyncIterator[Row]:
        for count in items:
            yield await measure(ground, count)

    return on_each("map", "One map over many items", stores, each)


if __name__ == "__main__":
    main()
