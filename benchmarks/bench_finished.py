"""What does a step cost with 0, 100,000 and 1,000,000 finished runs in the tables?

The same cases on a database without and on those with, in turns; ``times_empty`` is the median of
the ratios within a turn. The finished runs have one step each.
"""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack

from benchmarks.both import STORES, on_each
from benchmarks.report import Row
from benchmarks.whole_engine import REPEATS, Case, Ground, measure

FINISHED = (0, 100_000, 1_000_000)
CASES = (Case(5, 1, 60), Case(5, 100, 1_000), Case(5, 100, 1_000, queued=True))
OFTENER_ALONE = 6
"""Of a run that is alone, most is waiting for a shared disk: many short turns tell more."""


def main(
    finished: Sequence[int] = FINISHED,
    cases: Sequence[Case] = CASES,
    stores: Sequence[str] = STORES,
    repeats: int = REPEATS,
) -> list[Row]:
    async def each(ground: Ground) -> AsyncIterator[Row]:
        async with AsyncExitStack() as stack:
            places = {count: await stack.enter_async_context(ground.place()) for count in finished}
            for count, place in places.items():
                if count:
                    await place.add_finished(count)
            for case in cases:
                cpu: dict[int, list[float]] = {count: [] for count in finished}
                took: dict[int, list[float]] = {count: [] for count in finished}
                for turn in range(repeats * (OFTENER_ALONE if case.concurrency == 1 else 1)):
                    # What comes first in a turn has no part in what it is compared with.
                    order = list(places.items())
                    for count, place in order[turn % len(order) :] + order[: turn % len(order)]:
                        one = await measure(ground, place.store(), case)
                        took[count].append(1e6 / (one.runs_per_s * case.steps))
                        cpu[count].append(one.cpu_us_per_step)
                for count in finished:
                    pairs = zip(took[count], took[finished[0]], strict=True)
                    yield {
                        "case": case.name,
                        "finished": count,
                        "us_per_step": statistics.median(took[count]),
                        "cpu_us_per_step": statistics.median(cpu[count]),
                        "times_empty": statistics.median(full / empty for full, empty in pairs),
                    }

    return on_each("finished", "A step beside finished runs", stores, each)


if __name__ == "__main__":
    main()
