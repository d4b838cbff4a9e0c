"""Quick: processor time a step of kernel and engine, as a ratio to the floor in the same run.

``make bench-quick``, less than 90 seconds, for whoever changes kernel or engine: compare two runs
on one machine. Processor time of this process, not time by the clock, so that a slow disk or a
neighbour counts little; and a ratio to the floor of the same round, so that a slow machine counts
little either. What is left moves by some percent; a change of a third is a change. Nothing fails.

The floor is bare SQLite, 100 runs in lockstep; the engine has 100 runs of five steps at once.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence

from benchmarks import bench_kernel, floor
from benchmarks.ground_sqlite import SqliteGround, sqlite_ground
from benchmarks.report import Row, emit, machine, table
from benchmarks.whole_engine import Case, measure
from durable_core.codec.records import entry_to_record
from durable_core.testing.memory import MemoryStore

CASE = Case(5, 100, 1_000)
KERNEL_STEPS, KERNEL_RUNS = 100, 30
ROUNDS = 5


async def floor_us(ground: SqliteGround, case: Case) -> float:
    """Processor time a step."""
    async with ground.floor() as bare:
        begin = time.process_time()
        await floor.measure(bare, runs=case.runs, steps=case.steps, group=case.concurrency)
        return (time.process_time() - begin) / (case.runs * case.steps) * 1e6


def kernel_us(steps: int) -> float:
    """Of a transition and its store record, with a warm cursor."""
    begin = time.process_time()
    for _ in range(KERNEL_RUNS):
        _, journal = bench_kernel.drive(bench_kernel.straight(steps))
        for entry in journal:
            entry_to_record(entry)
    return (time.process_time() - begin) / (KERNEL_RUNS * steps) * 1e6


async def one_round(ground: SqliteGround, case: Case, kernel_steps: int) -> dict[str, float]:
    """Microseconds a step."""
    bare = await floor_us(ground, case)
    kernel = kernel_us(kernel_steps)
    memory = await measure(ground, MemoryStore(), case)
    async with ground.store() as store:
        sqlite = await measure(ground, store, case)
    return {
        "floor": bare,
        "kernel": kernel,
        "engine, memory": memory.cpu_us_per_step,
        "engine, SQLite": sqlite.cpu_us_per_step,
    }


async def measure_all(case: Case, kernel_steps: int, rounds: int) -> list[Row]:
    async with sqlite_ground() as ground:
        await one_round(ground, case, kernel_steps)  # warm up
        all_rounds = [await one_round(ground, case, kernel_steps) for _ in range(rounds)]
    rows: list[Row] = []
    for what in all_rounds[0]:
        ratios = [each[what] / each["floor"] for each in all_rounds]
        rows.append(
            {
                "what": what,
                "cpu_us_per_step": statistics.median(each[what] for each in all_rounds),
                "times_floor": statistics.median(ratios),
                "least": min(ratios),
                "most": max(ratios),
            }
        )
        emit("quick", rows[-1])
    table(f"Processor time a step, median of {rounds}, {machine()}", rows)
    return rows


def main(
    case: Case = CASE, kernel_steps: int = KERNEL_STEPS, rounds: int = ROUNDS
) -> Sequence[Row]:
    return asyncio.run(measure_all(case, kernel_steps, rounds))


if __name__ == "__main__":
    main()
