"""How fast is the whole engine on SQLite, beside the bare floor on the same disk?

Start to finish through the public API: ``engine.start`` and ``run.result()`` at concurrency 1
and 100, for workflows of 1, 5 and 50 steps, ``synchronous=FULL``; p50 and p99 are of start to
result. Then 1,000 queued five-step workflows, started before the worker and timed from its
start to the last result. The floor (``floor_sqlite``) does the same minimal transactions, in
lockstep where runs are concurrent.

Engine and floor take turns, ``REPEATS`` times a case, in one process: a rate is the median of
its repeats and ``of_floor`` the median of the ratios within each repeat. That ratio is what to
read; absolute figures move with the machine. ``cpu_us_per_step`` is the whole process: clients,
worker, and SQLite's threads.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.floor_sqlite import measure as measure_floor
from benchmarks.report import Row, emit, machine, table
from durable_core import Engine, Start, StepContext, Workflow

REPEATS = 3


@attrs.frozen(slots=True)
class Case:
    """``queued``: started before the worker, else each client starts its next run itself."""

    steps: int
    concurrency: int
    runs: int
    queued: bool = False

    @property
    def name(self) -> str:
        """As it stands in the table."""
        if self.queued:
            return f"{self.runs:,} queued, {self.steps} steps"
        return f"{self.steps} steps, c={self.concurrency}"


CASES = (
    Case(1, 1, 300),
    Case(1, 100, 2_000),
    Case(5, 1, 150),
    Case(5, 100, 1_000),
    Case(50, 1, 20),
    Case(50, 100, 200),
    Case(5, 100, 1_000, queued=True),
)


@attrs.frozen(slots=True)
class Measured:
    """One repeat: ``taken`` are the seconds from start to result of each run, if they count."""

    runs_per_s: float
    cpu_us_per_step: float
    taken: list[float] = attrs.field(factory=list)


async def handler(ctx: StepContext[Any, Any]) -> dict[str, Any]:
    return {"ok": True, "n": ctx.attempt}


def workflow_of(steps: int) -> Workflow[Any, Any]:
    workflow: Workflow[Any, Any] = Workflow(f"steps{steps}")
    for index in range(steps):
        workflow = workflow.step(f"s{index}", handler)
    return workflow


async def measure(path: Path, case: Case) -> Measured:
    """The engine, whole."""
    workflow = workflow_of(case.steps)
    engine = Engine(f"sqlite:///{path}", [workflow])
    taken: list[float] = []
    left = iter(range(case.runs))

    async def client() -> None:
        for _ in left:
            at = time.perf_counter()
            run = await engine.start(workflow, {"n": 1})
            await run.result()
            taken.append(time.perf_counter() - at)

    async with engine:
        if case.queued:
            started = await engine.start_many([Start(workflow, {"n": 1}) for _ in left])
            begin, cpu = time.perf_counter(), time.process_time()
            async with engine.worker(concurrency=case.concurrency):
                await asyncio.gather(*(run.result() for run in started))
                seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        else:
            async with engine.worker(concurrency=case.concurrency):
                warm = await engine.start(workflow, {"n": 1})
                await warm.result()
                begin, cpu = time.perf_counter(), time.process_time()
                await asyncio.gather(*(client() for _ in range(case.concurrency)))
                seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return Measured(case.runs / seconds, cpu / case.runs / case.steps * 1e6, taken)


def percentile_ms(taken: Sequence[float], percent: int) -> float | None:
    """None when runs were not timed one by one."""
    if len(taken) < 2:
        return None
    return statistics.quantiles(taken, n=100)[percent - 1] * 1e3


def compare(folder: Path, case: Case, repeats: int) -> Row:
    """Engine and floor in turns."""
    measured: list[Measured] = []
    floors: list[float] = []
    floor_taken: list[float] = []
    for repeat in range(repeats):
        place = folder / f"{case.steps}-{case.concurrency}-{case.queued}-{repeat}"
        floor, one_by_one = measure_floor(
            place.with_suffix(".floor"),
            runs=case.runs,
            steps=case.steps,
            group=case.concurrency,
            queued=case.queued,
        )
        floors.append(floor)
        floor_taken += one_by_one if case.concurrency == 1 else []
        measured.append(asyncio.run(measure(place.with_suffix(".db"), case)))
    rate = statistics.median(one.runs_per_s for one in measured)
    taken = [seconds for one in measured for seconds in one.taken]
    return {
        "case": case.name,
        "runs_per_s": rate,
        "steps_per_s": rate * case.steps,
        "p50_ms": percentile_ms(taken, 50),
        "p99_ms": percentile_ms(taken, 99),
        "cpu_us_per_step": statistics.median(one.cpu_us_per_step for one in measured),
        "floor_runs_per_s": statistics.median(floors),
        "floor_p50_ms": percentile_ms(floor_taken, 50),
        "of_floor": statistics.median(
            one.runs_per_s / floor for one, floor in zip(measured, floors, strict=True)
        ),
    }


def main(cases: Sequence[Case] = CASES, repeats: int = REPEATS) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            rows.append(compare(Path(folder), case, repeats))
            emit("sqlite", rows[-1])
    table(f"SQLite, synchronous=FULL, median of {repeats}, {machine()}", rows)
    return rows


if __name__ == "__main__":
    main()
