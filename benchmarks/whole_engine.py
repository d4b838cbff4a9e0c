"""The whole engine through its public API, beside the floor on the same database.

Start to finish: ``engine.start`` and ``run.result()`` at concurrency 1 and 100, for workflows of
1, 5 and 50 steps; p50 and p99 are of start to result, and of start to the call of the first
handler. Then 1,000 queued five-step workflows, started before the worker and timed from its start
to the last result.

Engine and floor take turns, in one process: a rate is the median of its repeats and ``of_floor``
the median of the ratios within each repeat. That ratio is what to read; absolute figures move
with the machine. ``cpu_us_per_step`` is the whole process: clients, worker, and their threads.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs

from benchmarks import floor
from benchmarks.report import Row
from durable_core import Engine, Start, StepContext, Workflow

REPEATS = 3
now = time.time
"""When a run was started, as processes can tell each other."""


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


class Place(Protocol):
    """Where one store after another finds what the last one left."""

    def store(self) -> Any:
        """A store here, yet to be opened."""
        ...

    async def add_finished(self, count: int) -> None:
        """Put so many finished runs of one step there, as the first thing."""
        ...


class Ground(Protocol):
    """A database to measure on."""

    def store(self, **options: Any) -> AbstractAsyncContextManager[Any]:
        """A new store for one repeat, with these options."""
        ...

    def place(self) -> AbstractAsyncContextManager[Place]:
        """A new place."""
        ...

    def floor(self) -> AbstractAsyncContextManager[floor.Floor]:
        """A new floor, for one repeat."""
        ...

    async def version(self) -> str:
        """Of the database."""
        ...

    async def counts(self) -> Mapping[str, float]:
        """Counters that only grow: what they grew by is printed for each step."""
        ...


@attrs.frozen(slots=True, kw_only=True)
class Measured:
    """One repeat. Seconds of each run: from start to result (``taken``) and to the call of its
    first handler (``waited``); ``per_step`` is what the ground counted."""

    runs_per_s: float
    cpu_us_per_step: float
    per_step: Mapping[str, float]
    taken: Sequence[float]
    waited: Sequence[float]


async def handler(ctx: StepContext[Any, Any]) -> dict[str, Any]:
    return {"ok": True, "n": ctx.attempt}


def workflow_of(
    steps: int, tell: Callable[[float], object] = lambda seconds: None
) -> Workflow[Any, Any]:
    """Its first handler tells how many seconds it has waited to be called."""

    async def first(ctx: StepContext[Any, Any]) -> dict[str, Any]:
        tell(now() - ctx.input["at"])
        return await handler(ctx)

    workflow: Workflow[Any, Any] = Workflow(f"steps{steps}").step("s0", first)
    for index in range(1, steps):
        workflow = workflow.step(f"s{index}", handler)
    return workflow


MakeWorkflow = Callable[[int, Callable[[float], object]], Workflow[Any, Any]]
"""Of how many steps, and whom its first handler tells how long it has waited."""


def new_input() -> dict[str, Any]:
    """The input of a run that is started now."""
    return {"n": 1, "at": now()}


class Stopwatch:
    """What passes between ``begin`` and ``end``: time, processor time, and what is counted."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def begin(self) -> None:
        self._counts = await self._ground.counts()
        self._at, self._cpu = time.perf_counter(), time.process_time()

    async def end(self) -> None:
        self.seconds = time.perf_counter() - self._at
        self.cpu = time.process_time() - self._cpu
        counts = await self._ground.counts()
        self.counted = {name: counts[name] - was for name, was in self._counts.items()}


async def measure(
    ground: Ground, store: Any, case: Case, make: MakeWorkflow = workflow_of
) -> Measured:
    """One repeat of the engine on this store, with a workflow made by ``make``."""
    taken: list[float] = []
    waited: list[float] = []
    left = iter(range(case.runs))
    workflow = make(case.steps, waited.append)
    watch = Stopwatch(ground)

    async def client() -> None:
        for _ in left:
            at = time.perf_counter()
            run = await engine.start(workflow, new_input())
            await run.result()
            taken.append(time.perf_counter() - at)

    async with Engine(store, [workflow], migrate=True) as engine:
        if case.queued:
            started = await engine.start_many([Start(workflow, new_input()) for _ in left])
            await watch.begin()
            async with engine.worker(concurrency=case.concurrency):
                await asyncio.gather(*(run.result() for run in started))
                await watch.end()
            waited.clear()
        else:
            async with engine.worker(concurrency=case.concurrency):
                warm = await engine.start(workflow, new_input())
                await warm.result()
                waited.clear()
                await watch.begin()
                await asyncio.gather(*(client() for _ in range(case.concurrency)))
                await watch.end()
    steps = case.runs * case.steps
    return Measured(
        runs_per_s=case.runs / watch.seconds,
        cpu_us_per_step=watch.cpu / steps * 1e6,
        per_step={name: grown / steps for name, grown in watch.counted.items()},
        taken=taken,
        waited=waited,
    )


def percentile_ms(taken: Sequence[float], percent: int) -> float | None:
    """None when runs were not timed one by one."""
    if len(taken) < 2:
        return None
    return statistics.quantiles(taken, n=100)[percent - 1] * 1e3


def together(case: Case, runs: Sequence[Measured]) -> Row:
    """Repeats of one case as one row: medians, and percentiles of all their runs."""
    rate = statistics.median(one.runs_per_s for one in runs)
    taken = [seconds for one in runs for seconds in one.taken]
    waited = [seconds for one in runs for seconds in one.waited]
    return {
        "case": case.name,
        "runs_per_s": rate,
        "steps_per_s": rate * case.steps,
        "p50_ms": percentile_ms(taken, 50),
        "p99_ms": percentile_ms(taken, 99),
        "called_p50_ms": percentile_ms(waited, 50),
        "called_p99_ms": percentile_ms(waited, 99),
        "cpu_us_per_step": statistics.median(one.cpu_us_per_step for one in runs),
        **{
            f"{name}_per_step": statistics.median(one.per_step[name] for one in runs)
            for name in runs[0].per_step
        },
    }


async def compare(ground: Ground, case: Case, repeats: int) -> Row:
    """Engine and floor in turns."""
    measured: list[Measured] = []
    floors: list[float] = []
    floor_taken: list[float] = []
    for _ in range(repeats):
        async with ground.floor() as bare:
            runs_per_s, one_by_one = await floor.measure(
                bare,
                runs=case.runs,
                steps=case.steps,
                group=case.concurrency,
                queued=case.queued,
            )
        floors.append(runs_per_s)
        floor_taken += one_by_one if case.concurrency == 1 else []
        async with ground.store() as store:
            measured.append(await measure(ground, store, case))
    return {
        **together(case, measured),
        "floor_runs_per_s": statistics.median(floors),
        "floor_p50_ms": percentile_ms(floor_taken, 50),
        "of_floor": statistics.median(
            one.runs_per_s / bare for one, bare in zip(measured, floors, strict=True)
        ),
    }
