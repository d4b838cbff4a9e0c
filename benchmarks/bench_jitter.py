"""How many steps a second when handlers take 0 to 20 random milliseconds, with 1,000 runs at once?

Real steps do not run in lockstep: what is ready to be committed at one moment is a handful, not a
hundred. Handlers sleep, so nothing but the engine needs the processor; ``of_ideal`` is the share
of what handlers alone would allow (runs at once, divided by the mean sleep).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from benchmarks.both import STORES, on_each
from benchmarks.report import Row
from benchmarks.whole_engine import Case, Ground, handler, measure, now, together
from durable_core import StepContext, Workflow

LONGEST_S = 0.020
CASES = (Case(5, 100, 1_000), Case(5, 1_000, 5_000))


def sleepy(steps: int, tell: Callable[[float], object]) -> Workflow[Any, Any]:
    """A workflow whose handlers sleep; seeded, so that every repeat sleeps alike."""
    chance = random.Random(7)

    async def sleep(ctx: StepContext[Any, Any]) -> dict[str, Any]:
        await asyncio.sleep(chance.uniform(0, LONGEST_S))
        return await handler(ctx)

    async def first(ctx: StepContext[Any, Any]) -> dict[str, Any]:
        tell(now() - ctx.input["at"])
        return await sleep(ctx)

    workflow: Workflow[Any, Any] = Workflow(f"sleepy{steps}").step("s0", first)
    for index in range(1, steps):
        workflow = workflow.step(f"s{index}", sleep)
    return workflow


def main(cases: Sequence[Case] = CASES, stores: Sequence[str] = STORES) -> list[Row]:
    async def each(ground: Ground) -> AsyncIterator[Row]:
        for case in cases:
            async with ground.store() as store:
                row = together(case, [await measure(ground, store, case, sleepy)])
            ideal = case.concurrency / (LONGEST_S / 2)
            yield {**row, "of_ideal": row["steps_per_s"] / ideal}

    return on_each("jitter", "Handlers that sleep 0 to 20 ms", stores, each)


if __name__ == "__main__":
    main()
