"""Do two worker processes on one Postgres do more than one, on this machine?

Queued five-step workflows, as in ``bench_peers``, in turns; ``times_one`` is the median of the
ratios within a turn. Workers and server share the processors: where there are two, one process
and the server fill both.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence

from benchmarks.bench_peers import Queued, measure
from benchmarks.ground_pg import pg_ground
from benchmarks.report import Row, emit, machine, table

PROCESSES = (1, 2, 4)
RUNS, STEPS, REPEATS = 5_000, 5, 3


async def measure_all(processes: Sequence[int], runs: int, repeats: int) -> list[Row]:
    rates: dict[int, list[float]] = {count: [] for count in processes}
    async with pg_ground() as ground:
        on = machine(postgres=await ground.version())
        for _ in range(repeats):
            for count, those in rates.items():
                one = await measure(ground, "ours", Queued(runs, STEPS, count))
                those.append(one["runs_per_s"])
    rows = []
    for count, those in rates.items():
        times = [rate / one for rate, one in zip(those, rates[processes[0]], strict=True)]
        row = {"case": Queued(runs, STEPS, count).name, "processes": count}
        rows.append(
            {
                **row,
                "runs_per_s": statistics.median(those),
                "steps_per_s": statistics.median(those) * STEPS,
                "times_one": statistics.median(times),
            }
        )
        emit("processes", rows[-1])
    table(f"Worker processes on one Postgres, median of {repeats}, {on}", rows)
    return rows


def main(
    processes: Sequence[int] = PROCESSES, runs: int = RUNS, repeats: int = REPEATS
) -> list[Row]:
    return asyncio.run(measure_all(processes, runs, repeats))


if __name__ == "__main__":
    main()
