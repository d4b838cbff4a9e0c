"""How fast is the whole engine on Postgres, as it is installed, beside the floor on that server?

Three parts: start to finish, as ``whole_engine`` says, with what a step costs the server; the same
with many finished runs in the tables beside none; and how soon another process is heard.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence

from benchmarks import waking_pg
from benchmarks.finished_pg import add_finished
from benchmarks.ground_pg import PgGround, pg_ground
from benchmarks.report import Row, emit, machine, table
from benchmarks.waking_pg import SENDINGS, Sending
from benchmarks.whole_engine import CASES, REPEATS, Case, compare, measure
from durable_core.testing.postgres_schema import own_schema
from durable_pg import PgStore

FINISHED = 100_000
CASES_BESIDE_FINISHED = (Case(5, 1, 100), Case(5, 100, 1_000), Case(5, 100, 1_000, queued=True))


async def beside_finished(ground: PgGround, empty: str, full: str, case: Case, repeats: int) -> Row:
    """Microseconds a step in two schemas, in turns."""
    us_per_step: dict[str, list[float]] = {empty: [], full: []}
    for _ in range(repeats):
        for schema, those in us_per_step.items():
            one = await measure(ground, PgStore(ground.dsn, schema=schema), case)
            those.append(1e6 / (one.runs_per_s * case.steps))
    return {
        "case": case.name,
        "us_per_step_empty": statistics.median(us_per_step[empty]),
        "us_per_step_full": statistics.median(us_per_step[full]),
        "times_empty": statistics.median(
            with_finished / without
            for without, with_finished in zip(*us_per_step.values(), strict=True)
        ),
    }


async def measure_all(
    cases: Sequence[Case],
    beside: Sequence[Case],
    finished: int,
    sendings: Sequence[Sending],
    repeats: int,
) -> list[Row]:
    """All parts, each printed as it comes and as a table at its end."""
    async with pg_ground() as ground:
        on = machine(postgres=await ground.version())
        whole = []
        for case in cases:
            whole.append(await compare(ground, case, repeats))
            emit("pg", whole[-1])
        table(f"Postgres, start to finish, median of {repeats}, {on}", whole)
        costs = []
        async with own_schema(ground.dsn) as empty, own_schema(ground.dsn) as full:
            await add_finished(ground.dsn, full, finished, steps=5)
            for case in beside:
                costs.append(await beside_finished(ground, empty, full, case, repeats))
                emit("pg_finished", costs[-1])
        table(f"Postgres, with {finished:,} finished runs in the tables, and with none", costs)
        waking = []
        for sending in sendings:
            waking.append(await waking_pg.compare(ground.dsn, sending))
            emit("pg_waking", waking[-1])
        table("Postgres, from a start in one process to the handler's call in another", waking)
    return [*whole, *costs, *waking]


def main(
    cases: Sequence[Case] = CASES,
    beside: Sequence[Case] = CASES_BESIDE_FINISHED,
    finished: int = FINISHED,
    sendings: Sequence[Sending] = SENDINGS,
    repeats: int = REPEATS,
) -> list[Row]:
    return asyncio.run(measure_all(cases, beside, finished, sendings, repeats))


if __name__ == "__main__":
    main()
