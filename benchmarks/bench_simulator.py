"""How many whole schedules a second does the simulator play, and does it keep anything of them?

A schedule is one life of a run from its start to its end under a plan of faults: engines,
workers, store and handlers anew each time. ``simulate`` alone, ``checked`` with all rules looked
at as ``explore`` does, over the single faults of a workflow in turn, in one process, by its
processor time; ``explore`` is one whole search. ``grown_bytes`` is what a thousand more schedules
leave in memory. Rates are medians of ``REPEATS`` rounds.
"""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Any

import attrs

from benchmarks.report import Row, emit, machine, table
from durable_core import StepContext, Workflow
from durable_core.testing.checks import violations
from durable_core.testing.explore import explore
from durable_core.testing.plan import Faults
from durable_core.testing.points import points_of
from durable_core.testing.simulate import simulate
from durable_core.testing.surroundings import unheard

SCHEDULES = 1_000
REPEATS = 3


async def handler(ctx: StepContext[Any, Any]) -> dict[str, Any]:
    return {"ok": True, "n": ctx.attempt}


async def undo(ctx: StepContext[Any, Any]) -> None:
    return None


six_steps = Workflow[Any, Any]("six")
for index in range(6):
    six_steps = six_steps.step(f"s{index}", handler)

six_kinds = (
    Workflow[Any, Any]("kinds")
    .step("reserve", handler, compensate=undo)
    .parallel("check", {"price": handler, "fraud": handler})
    .step("pay", handler, compensate=undo)
    .wait_for_signal("approval", "ok", timeout=600)
    .sleep("settle", 3_600)
)


@attrs.frozen(slots=True)
class Case:
    """A workflow, and the signals it waits for."""

    name: str
    workflow: Workflow[Any, Any]
    signals: dict[str, Any]


CASES = (Case("6 steps", six_steps, {}), Case("6 units of all kinds", six_kinds, {"ok": True}))


def rate(play: Callable[[Faults], object], plans: Sequence[Faults], schedules: int) -> float:
    """Schedules a second of processor time."""
    begin = time.process_time()
    for plan in islice(cycle(plans), schedules):
        play(plan)
    return schedules / (time.process_time() - begin)


def grown(play: Callable[[Faults], object], plans: Sequence[Faults], schedules: int) -> int:
    """Bytes that are in use after so many schedules more."""
    tracemalloc.start()
    try:
        before = 0
        for _ in range(2):
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            for plan in islice(cycle(plans), schedules):
                play(plan)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def measure(case: Case, schedules: int, repeats: int) -> Row:
    """All figures of one workflow."""

    def play(plan: Faults) -> Any:
        return simulate(case.workflow, None, plan, signals=case.signals)

    quiet = play(Faults())

    def checked(plan: Faults) -> None:
        assert not violations(play(plan), quiet)

    plans = [Faults(*point.faults) for point in points_of(quiet) if not Faults(*point.faults).races]
    simulated, looked_at, searched = [], [], []
    for _ in range(repeats):
        simulated.append(rate(play, plans, schedules))
        looked_at.append(rate(checked, plans, schedules))
        begin = time.process_time()
        report = explore(case.workflow, None, signals=case.signals)
        searched.append(report.schedules / (time.process_time() - begin))
    return {
        "case": case.name,
        "simulate_per_s": statistics.median(simulated),
        "checked_per_s": statistics.median(looked_at),
        "explore_per_s": statistics.median(searched),
        "points": report.points,
        "schedules": report.schedules,
        "states": report.states,
        "grown_bytes": grown(checked, plans, schedules),
    }


def main(
    cases: Sequence[Case] = CASES, schedules: int = SCHEDULES, repeats: int = REPEATS
) -> list[Row]:
    rows = []
    with unheard():
        for case in cases:
            rows.append(measure(case, schedules, repeats))
            emit("simulator", rows[-1])
    table(f"Simulator, schedules a second of one core, {machine()}", rows)
    return rows


if __name__ == "__main__":
    main()
