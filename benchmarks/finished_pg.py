"""Finished runs in great number, without executing them: one is executed, and copied by SQL."""

from __future__ import annotations

import asyncpg

from benchmarks.whole_engine import new_input, workflow_of
from durable_core import Engine
from durable_pg import PgStore
from durable_pg.queries import in_schema
from durable_pg.schema_name import SchemaName

TABLES = ("run", "outcome", "entry")
COPY = """
INSERT INTO "durable".{table}
SELECT twin.* FROM "durable".{table} AS one
CROSS JOIN generate_series(1, $2::int) AS number
CROSS JOIN LATERAL jsonb_populate_record(
    one, jsonb_build_object('run_id', '00000000-0000-7000-8000-' || lpad(number::text, 12, '0'))
) AS twin
WHERE one.run_id = $1
"""
"""Their ids are older than any that is made now, so that these do not share their pages."""


async def add_finished(dsn: str, schema: str, count: int, steps: int) -> None:
    """Put this many finished runs into the schema, with their journals, and tidy up."""
    workflow = workflow_of(steps)
    engine = Engine(PgStore(dsn, schema=schema), [workflow], migrate=True)
    async with engine, engine.worker():
        run = await engine.start(workflow, new_input())
        await run.result()
    conn = await asyncpg.connect(dsn)
    try:
        for table in TABLES:
            sql = in_schema(COPY.format(table=table), SchemaName(schema))
            await conn.execute(sql, run.id, count)
            await conn.execute(f"VACUUM ANALYZE {schema}.{table}")
        await conn.execute("CHECKPOINT")
    finally:
        await conn.close()
