"""What does Python's garbage collector cost a worker, and what is gained by having it come less?

The same cases in turns: with the collector as Python has it, and with what is there when the worker
begins frozen (``gc.freeze``) and a new generation looked at every 20,000 objects instead of 700.
``times_usual`` is the median of the ratios of runs a second within a turn.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager

from benchmarks.both import STORES, on_each
from benchmarks.report import Row
from benchmarks.whole_engine import REPEATS, Case, Ground, Measured, measure

THRESHOLDS = (20_000, 20, 50)
CASES = (Case(5, 100, 1_000), Case(5, 100, 2_000, queued=True))


@contextmanager
def as_usual() -> Iterator[None]:
    """Python's own settings."""
    gc.collect()
    yield


@contextmanager
def seldom() -> Iterator[None]:
    """What the process begins with is never looked at, the rest less often."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


COLLECTORS = {"usual": as_usual, "seldom": seldom}


def main(
    cases: Sequence[Case] = CASES, stores: Sequence[str] = STORES, repeats: int = REPEATS
) -> list[Row]:
    async def each(ground: Ground) -> AsyncIterator[Row]:
        for case in cases:
            measured: dict[str, list[Measured]] = {name: [] for name in COLLECTORS}
            for _ in range(repeats):
                for name, collector in COLLECTORS.items():
                    async with ground.store() as store:
                        with collector():
                            measured[name].append(await measure(ground, store, case))
            row: Row = {"case": case.name}
            for name, ones in measured.items():
                row[f"{name}_runs_per_s"] = statistics.median(one.runs_per_s for one in ones)
                cpu = statistics.median(one.cpu_us_per_step for one in ones)
                row[f"{name}_cpu_us_per_step"] = cpu
            pairs = zip(*measured.values(), strict=True)
            times = [less.runs_per_s / usual.runs_per_s for usual, less in pairs]
            yield {**row, "times_usual": statistics.median(times)}

    return on_each("collector", "Garbage collector", stores, each)


if __name__ == "__main__":
    main()
