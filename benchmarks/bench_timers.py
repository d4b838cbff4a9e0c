"""What does a claim cost when 100,000 timers are due at once, or asleep beside what is due?

Claims of 100 runs through the store, as a worker makes them; ``times_least`` is against the first
row. Nothing is executed: the rows are made as a run that slept is, due at a time that has come
(``due``) or comes in an hour (``asleep``).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs

from benchmarks.both import STORES, on_each
from benchmarks.report import Row
from benchmarks.stored import claim, new_runs
from benchmarks.whole_engine import Ground, percentile_ms

CLAIM = 100
WARM = 3
SLICE = 1_000
HOUR_MS = 3_600_000


@attrs.frozen(slots=True)
class Case:
    """So many rows, and how many claims are timed."""

    due: int
    asleep: int
    claims: int


CASES = (Case(5_000, 0, 40), Case(100_000, 0, 200), Case(5_000, 100_000, 40))


async def create(store: Any, prefix: str, count: int, delay_ms: int) -> None:
    runs = [attrs.evolve(run, delay_ms=delay_ms) for run in new_runs(prefix, count)]
    for start in range(0, count, SLICE):
        await store.create(runs[start : start + SLICE])


async def measure(ground: Ground, case: Case) -> Row:
    taken = []
    async with ground.store() as store:
        await store.open(migrate=True)
        try:
            await create(store, "asleep", case.asleep, HOUR_MS)
            await create(store, "due", case.due, 0)
            for number in range(case.claims + WARM):
                at = time.perf_counter()
                claimed = await claim(store, CLAIM)
                taken.append(time.perf_counter() - at)
                assert len(claimed) == min(CLAIM, case.due - number * CLAIM)
        finally:
            await store.close()
    return {
        "due": case.due,
        "asleep": case.asleep,
        "claim_p50_ms": percentile_ms(taken[WARM:], 50),
        "claim_p99_ms": percentile_ms(taken[WARM:], 99),
    }


def main(cases: Sequence[Case] = CASES, stores: Sequence[str] = STORES) -> list[Row]:
    async def each(ground: Ground) -> AsyncIterator[Row]:
        least = None
        for case in cases:
            row = await measure(ground, case)
            least = least or row["claim_p50_ms"]
            yield {**row, "times_least": row["claim_p50_ms"] / least}

    return on_each("timers", "A claim of 100 runs beside many timers", stores, each)


if __name__ == "__main__":
    main()
