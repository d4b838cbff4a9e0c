"""What does ``durability="strict"`` cost beside ``"relaxed"``, on each store?

The same cases on both levels in turns; ``times_strict`` is the median of the ratios of runs a
second within a turn. One at a time, a run waits for the disk; with many at once a flush serves
them all, and there is less to gain.
"""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Sequence

from benchmarks.both import STORES, on_each
from benchmarks.report import Row
from benchmarks.whole_engine import REPEATS, Case, Ground, Measured, measure, percentile_ms

LEVELS = ("strict", "relaxed")
CASES = (Case(1, 1, 200), Case(5, 1, 100), Case(5, 100, 1_000), Case(5, 100, 1_000, queued=True))


def main(
    cases: Sequence[Case] = CASES, stores: Sequence[str] = STORES, repeats: int = REPEATS
) -> list[Row]:
    async def each(ground: Ground) -> AsyncIterator[Row]:
        for case in cases:
            measured: dict[str, list[Measured]] = {level: [] for level in LEVELS}
            for _ in range(repeats):
                for level in LEVELS:
                    async with ground.store(durability=level) as store:
                        measured[level].append(await measure(ground, store, case))
            row: Row = {"case": case.name}
            for level, ones in measured.items():
                row[f"{level}_runs_per_s"] = statistics.median(one.runs_per_s for one in ones)
                taken = [seconds for one in ones for seconds in one.taken]
                row[f"{level}_p50_ms"] = percentile_ms(taken, 50)
            pairs = zip(*measured.values(), strict=True)
            times = [relaxed.runs_per_s / strict.runs_per_s for strict, relaxed in pairs]
            yield {**row, "times_strict": statistics.median(times)}

    return on_each("durability", "Durability levels", stores, each)


if __name__ == "__main__":
    main()
