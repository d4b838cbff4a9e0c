"""What does a step cost with 100,000 finished workflows in the tables, ours and the peers', beside
none?

A workflow of one step is executed by each engine, and its rows are copied by SQL under older ids,
so that nothing but their number is not genuine; then tables are vacuumed and analyzed. The same
cases on a database without and on one with them, in turns; ``times_empty`` of an engine is the
median of the ratios within a turn, and 1 where they cost nothing.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from benchmarks.bench_peers import Live, live
from benchmarks.finished_pg import COPY as COPY_OURS
from benchmarks.finished_pg import TABLES as OUR_TABLES
from benchmarks.ground_pg import PgGround, pg_ground
from benchmarks.peer import ENGINES, Plan, version_of
from benchmarks.peer_turns import call, here, own_database
from benchmarks.report import Row, emit, machine, table

FINISHED = 100_000
ONE = Plan(1)
A_MOMENT_S = 0.1
CASES = (Live(5, 1, 1.0, repeats=3), Live(5, 100, 1.5, repeats=2))

COPY = """
INSERT INTO {table}
SELECT twin.* FROM {table} AS one
CROSS JOIN generate_series(1, $2::int) AS number
CROSS JOIN LATERAL lpad(number::text, 12, '0') AS digits
CROSS JOIN LATERAL jsonb_populate_record(one, jsonb_build_object({ids})) AS twin
WHERE one.{id}::text = $1
"""
DBOS_TABLES = ("workflow_status", "workflow_input", "workflow_output", "operation_outputs")
DBOS_IDS = "'workflow_uuid', '00000000-0000-4000-8000-' || digits"
ABSURD_TABLES = ("t_bench", "r_bench", "c_bench")
ABSURD_IDS = """
'task_id', '00000000-0000-7000-8000-' || digits,
'run_id', '00000000-0000-7000-9000-' || digits,
'last_attempt_run', '00000000-0000-7000-9000-' || digits,
'owner_run_id', '00000000-0000-7000-9000-' || digits
"""
COPIES = {
    "ours": {f'"durable".{name}': COPY_OURS.format(table=name) for name in OUR_TABLES},
    "dbos": {
        f"dbos.{name}": COPY.format(table=f"dbos.{name}", ids=DBOS_IDS, id="workflow_uuid")
        for name in DBOS_TABLES
    },
    "absurd": {
        f"absurd.{name}": COPY.format(table=f"absurd.{name}", ids=ABSURD_IDS, id="task_id")
        for name in ABSURD_TABLES
    },
}
"""The statement of each table: it copies what belongs to one workflow so many times."""
FIND = {
    "ours": 'SELECT run_id FROM "durable".outcome LIMIT 1',
    "dbos": "SELECT workflow_uuid FROM dbos.workflow_status WHERE status = 'SUCCESS' LIMIT 1",
    "absurd": "SELECT task_id::text FROM absurd.t_bench WHERE state = 'completed' LIMIT 1",
}


async def add_finished(dsn: str, engine: str, count: int) -> None:
    """So many, and at least one of each kind of row for each; and tidy up."""
    await call(engine, "live", dsn, ONE, 1, A_MOMENT_S)
    conn: Any = await asyncpg.connect(dsn)
    try:
        one = await conn.fetchval(FIND[engine])
        for name, copy in COPIES[engine].items():
            done = await conn.execute(copy, one, count)
            assert int(done.rpartition(" ")[2]) >= count, f"{name} has nothing of a finished run"
            await conn.execute(f"VACUUM ANALYZE {name}")
        await conn.execute("CHECKPOINT")
    finally:
        await conn.close()


async def one_engine(
    ground: PgGround, engine: str, case: Live, dsns: Sequence[str], turns: list[Row]
) -> None:
    """A turn: without, and with."""
    empty, full = [(await live(dsn, engine, case))["runs_per_s"] for dsn in dsns]
    turns.append(
        {
            "us_per_step": 1e6 / (full * case.steps),
            "empty_us_per_step": 1e6 / (empty * case.steps),
            "times_empty": empty / full,
        }
    )


def together(case: Live, finished: int, turns: dict[str, list[Row]]) -> Row:
    """Medians."""
    row: Row = {"case": case.name, "finished": finished}
    for figure in ("empty_us_per_step", "us_per_step", "times_empty"):
        for engine in ENGINES:
            values = [one[figure] for one in turns.get(engine, ())]
            row[f"{engine}_{figure}"] = statistics.median(values) if values else None
    return row


async def measure_all(cases: Sequence[Live], engines: Sequence[str], finished: int) -> list[Row]:
    rows = []
    found = here("peers_finished", engines)
    async with pg_ground() as ground, AsyncExitStack() as stack:
        versions = {engine: version_of(engine) for engine in found}
        on = machine(postgres=await ground.version(), **versions)
        dsns: dict[str, list[str]] = {}
        for engine in found:
            places = [own_database(ground, engine, ONE) for _ in range(2)]
            dsns[engine] = [await stack.enter_async_context(place) for place in places]
            await add_finished(dsns[engine][1], engine, finished)
        for case in cases:
            turns: dict[str, list[Row]] = {engine: [] for engine in found}
            for _ in range(case.repeats):
                for engine in found:
                    await one_engine(ground, engine, case, dsns[engine], turns[engine])
            rows.append(together(case, finished, turns))
            emit("peers_finished", rows[-1])
    table(f"Peers, a step beside finished workflows, on one Postgres, {on}", rows)
    return rows


def main(
    cases: Sequence[Live] = CASES,
    engines: Sequence[str] = tuple(ENGINES),
    finished: int = FINISHED,
) -> list[Row]:
    return asyncio.run(measure_all(cases, engines, finished))


if __name__ == "__main__":
    main()
