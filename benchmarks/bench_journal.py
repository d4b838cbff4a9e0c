"""Does a step cost the same in a journal of 10 entries as in one of 10,000, with a store under it?

Four runs at once of a body that awaits so many steps one after the other. ``relative`` is the
processor time a step against the shortest journal, which has the costs of a run on fewer steps.
``bench_kernel`` asks the same of the kernel alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from benchmarks.both import STORES, on_each
from benchmarks.report import Row
from benchmarks.whole_engine import Ground
from durable_core import Engine, Limits, WorkflowContext, step, workflow

AT_ONCE = 4
LENGTHS = (10, 100, 1_000, 10_000)
STEPS_A_CASE = 10_000


@step
async def work(number: int) -> dict[str, Any]:
    return {"ok": True, "n": number}


@workflow
async def body(ctx: WorkflowContext, steps: int) -> int:
    for number in range(steps):
        await ctx.step(work, number)
    return steps


async def measure(ground: Ground, length: int, steps: int) -> Row:
    rounds = max(1, steps // (length * AT_ONCE))
    limits = Limits(units=max(LENGTHS) * 2)
    async with (
        ground.store() as store,
        Engine(store, [body], migrate=True, limits=limits) as engine,
        engine.worker(),
    ):

        async def client() -> None:
            for _ in range(rounds):
                assert await (await engine.start(body, length)).result() == length

        at, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(client() for _ in range(AT_ONCE)))
        took, cpu = time.perf_counter() - at, time.process_time() - cpu
    done = rounds * AT_ONCE * length
    return {
        "entries": length,
        "steps_per_s": done / took,
        "us_per_step": took / done * 1e6,
        "cpu_us_per_step": cpu / done * 1e6,
    }


def main(
    lengths: Sequence[int] = LENGTHS, steps: int = STEPS_A_CASE, stores: Sequence[str] = STORES
) -> list[Row]:
    async def each(ground: Ground) -> AsyncIterator[Row]:
        first = None
        for length in lengths:
            row = await measure(ground, length, steps)
            first = first or row["cpu_us_per_step"]
            yield {**row, "relative": row["cpu_us_per_step"] / first}

    return on_each("journal", "A step by the length of its journal", stores, each)


if __name__ == "__main__":
    main()
