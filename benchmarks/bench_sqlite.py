"""How fast is the whole engine on SQLite, beside the bare floor on the same disk?

Start to finish through the public API: ``engine.start`` and ``run.result()`` at concurrency 1
and 100, for workflows of 1, 5 and 50 steps, ``synchronous=FULL``; p50 and p99 are of start to
result. Then 1,000 queued five-step workflows, started in one batch before the worker. The floor
(``floor_sqlite``) does the same minimal transactions in the same process and the same run;
``of_floor`` is the ratio to read, absolute figures move with the machine.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.floor_sqlite import measure as measure_floor
from benchmarks.report import Row, emit, machine, table
from durable_core import Engine, StepContext, Workflow

CASES = ((1, 1, 300), (1, 100, 3_000), (5, 1, 150), (5, 100, 2_000), (50, 1, 30), (50, 100, 300))
"""Steps, concurrency, runs."""


async def handler(ctx: StepContext[Any, Any]) -> dict[str, Any]:
    return {"ok": True, "n": ctx.attempt}


def workflow_of(steps: int) -> Workflow[Any, Any]:
    workflow: Workflow[Any, Any] = Workflow(f"steps{steps}")
    for index in range(steps):
        workflow = workflow.step(f"s{index}", handler)
    return workflow


async def measure(path: Path, steps: int, concurrency: int, runs: int) -> tuple[float, list[float]]:
    """Runs a second, and the seconds from start to result of each."""
    workflow = workflow_of(steps)
    engine = Engine(f"sqlite:///{path}", [workflow])
    left = iter(range(runs))
    taken: list[float] = []

    async def client() -> None:
        for _ in left:
            at = time.perf_counter()
            run = await engine.start(workflow, {"n": 1})
            await run.result()
            taken.append(time.perf_counter() - at)

    async with engine, engine.worker(concurrency=100):
        warm = await engine.start(workflow, {"n": 1})
        await warm.result()
        begin = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(concurrency)))
        seconds = time.perf_counter() - begin
    return runs / seconds, taken


async def measure_queued(path: Path, steps: int, runs: int) -> tuple[float, float]:
    """Runs a second from the worker's start until all have ended, and its CPU µs a step."""
    workflow = workflow_of(steps)
    engine = Engine(f"sqlite:///{path}", [workflow])
    async with engine:
        started = [await engine.start(workflow, {"n": 1}) for _ in range(runs)]
        begin, cpu = time.perf_counter(), time.process_time()
        async with engine.worker(concurrency=100):
            await asyncio.gather(*(run.result() for run in started))
            seconds = time.perf_counter() - begin
            cpu = time.process_time() - cpu
    return runs / seconds, cpu / runs / steps * 1e6


def percentile_ms(taken: list[float], percent: int) -> float:
    if len(taken) < 2:
        return taken[0] * 1e3
    return statistics.quantiles(taken, n=100)[percent - 1] * 1e3


def main() -> None:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (steps, concurrency, runs) in enumerate(CASES):
            rate, taken = asyncio.run(
                measure(Path(folder, f"{number}.db"), steps, concurrency, runs)
            )
            floor, _ = measure_floor(
                Path(folder, f"floor{number}.db"), runs=runs, steps=steps, group=concurrency
            )
            rows.append(
                {
                    "case": f"{steps} steps, c={concurrency}",
                    "runs_per_s": rate,
                    "steps_per_s": rate * steps,
                    "p50_ms": percentile_ms(taken, 50),
                    "p99_ms": percentile_ms(taken, 99),
                    "cpu_us_per_step": None,
                    "floor_runs_per_s": floor,
                    "of_floor": rate / floor,
                }
            )
            emit("sqlite", rows[-1])
        rate, cpu = asyncio.run(measure_queued(Path(folder, "queued.db"), 5, 1_000))
        floor, _ = measure_floor(Path(folder, "floorq.db"), runs=1_000, steps=5, group=100)
        rows.append(
            {
                "case": "1,000 queued x 5 steps",
                "runs_per_s": rate,
                "steps_per_s": rate * 5,
                "p50_ms": None,
                "p99_ms": None,
                "cpu_us_per_step": cpu,
                "floor_runs_per_s": floor,
                "of_floor": rate / floor,
            }
        )
        emit("sqlite", rows[-1])
    table(f"SQLite, synchronous=FULL, {machine()}", rows)


if __name__ == "__main__":
    main()
