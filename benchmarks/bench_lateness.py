"""How late does a sleep end, and how soon is a signal heard, with 1, 100 and 1,000 runs asleep?

All runs are suspended, out of memory. Sleeps end, and signals are sent, at random moments of
``WINDOW_S``. A sleep is late by the time from its due moment to the call of the next handler; a
signal takes from before ``engine.signal`` to the call of the next handler.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs

from benchmarks.both import STORES, on_each
from benchmarks.report import Row
from benchmarks.whole_engine import Ground, now, percentile_ms
from durable_core import Engine, Start, StepContext, Workflow

WINDOW_S = 1.0
MOST_ASLEEP_S = 60
LOOK_S = 0.05


@attrs.frozen(slots=True)
class Case:
    """So many runs at once, ``rounds`` times; the window is shorter for one alone."""

    at_once: int
    rounds: int
    window_s: float = WINDOW_S


CASES = (Case(1, 40, 0.05), Case(100, 5), Case(1_000, 1))


def waiting(name: str, late: list[float]) -> Workflow[Any, Any]:
    """Sleeps until ``input`` (seconds since 1970), or waits for a signal with that moment."""

    async def wake(ctx: StepContext[Any, Any]) -> None:
        late.append(now() - (ctx.input if name == "sleep" else ctx.results["go"]))

    workflow: Workflow[Any, Any] = Workflow(name)
    if name == "sleep":
        workflow = workflow.sleep("rest", lambda ctx: datetime.fromtimestamp(ctx.input, UTC))
    else:
        workflow = workflow.wait_for_signal("go")
    return workflow.step("wake", wake)


async def all_suspended(engine: Engine, ids: Sequence[str]) -> None:
    """Return when none of these is in a worker's memory."""
    left = list(ids)
    async with asyncio.timeout(MOST_ASLEEP_S):
        while left:
            left = [each for each in left if (await engine.get(each)).status != "suspended"]
            await asyncio.sleep(LOOK_S)


async def one_round(engine: Engine, workflow: Workflow[Any, Any], case: Case) -> None:
    chance = random.Random(case.at_once)
    moments = [chance.uniform(0, case.window_s) for _ in range(case.at_once)]
    # Until all have gone to sleep: at this rate, and no less than a moment.
    first = now() + 0.2 + case.at_once / 250
    inputs = [first + moment if workflow.name == "sleep" else None for moment in moments]
    runs = await engine.start_many([Start(workflow, each) for each in inputs])
    if workflow.name == "signal":
        await all_suspended(engine, [run.id for run in runs])

        async def send(run_id: str, moment: float) -> None:
            await asyncio.sleep(moment)
            await engine.signal(run_id, "go", now())

        await asyncio.gather(
            *(send(run.id, moment) for run, moment in zip(runs, moments, strict=True))
        )
    await asyncio.gather(*(run.result() for run in runs))


async def measure(ground: Ground, what: str, case: Case) -> Row:
    late: list[float] = []
    workflow = waiting(what, late)
    async with (
        ground.store() as store,
        Engine(store, [workflow], migrate=True) as engine,
        engine.worker(concurrency=1_000),
    ):
        for _ in range(case.rounds):
            await one_round(engine, workflow, case)
    assert len(late) == case.rounds * case.at_once
    return {
        "case": f"{what}, {case.at_once:,} at once",
        "p50_ms": percentile_ms(late, 50),
        "p99_ms": percentile_ms(late, 99),
        "most_ms": max(late) * 1e3,
    }


def main(cases: Sequence[Case] = CASES, stores: Sequence[str] = STORES) -> list[Row]:
    async def each(ground: Ground) -> AsyncIterator[Row]:
        for what in ("sleep", "signal"):
            for case in cases:
                yield await measure(ground, what, case)

    return on_each("lateness", "From a due sleep, or a signal, to the next handler", stores, each)


if __name__ == "__main__":
    main()
