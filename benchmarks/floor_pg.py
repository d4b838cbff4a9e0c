"""The floor on bare asyncpg: one connection, prepared statements, one round trip a transaction.

The fence is the lock of the lease row, taken by the statement that writes the step.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import attrs

from benchmarks.floor import INPUT, RESULT
from durable_core.testing.postgres_schema import own_schema

TABLES = """
create table run (run_id text collate "C" primary key, workflow text, version text, input bytea);
create table lease (run_id text collate "C" primary key, epoch bigint not null, owner text);
create table entry (
    run_id text collate "C", seq bigint, epoch bigint, unit text, value bytea,
    primary key (run_id, seq)
);
create table outcome (run_id text collate "C" primary key, status text, at bigint);
"""
CREATE = """
with made as (
    insert into run select name, 'steps', '1', $2::bytea from unnest($1::text[]) as name
    returning run_id
)
insert into lease select run_id, 0, null from made
"""
CLAIM = "update lease set epoch = epoch + 1, owner = 'w' where run_id = any ($1::text[])"
FENCE = """
with fenced as (
    select run_id from lease where run_id = any ($1::text[]) and epoch = 1
    order by run_id for no key update
),
written as (
    insert into entry select run_id, $2::bigint, 1, $3::text, $4::bytea from fenced
)
"""
COUNT = "select count(*) from fenced"
STEP = "".join((FENCE, COUNT))
END = """,
gone as (delete from lease using fenced where lease.run_id = fenced.run_id),
ended as (insert into outcome select run_id, 'completed', 0 from fenced)
"""
LAST_STEP = "".join((FENCE, END, COUNT))
PLANS = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"}
"""Look-ups by key, though the statements are prepared while the tables are empty."""


@attrs.frozen
class PgFloor:
    """A ``Floor`` on one connection, with a statement prepared for each of its transactions."""

    conn: Any
    creating: Any
    claiming: Any
    stepping: Any
    ending: Any

    async def create(self, names: Sequence[str]) -> None:
        await self.creating.fetch(names, INPUT)

    async def claim(self, names: Sequence[str]) -> None:
        await self.claiming.fetch(names)

    async def advance(self, names: Sequence[str], steps: int) -> None:
        await self.claim(names)
        for seq in range(1, steps + 1):
            statement = self.ending if seq == steps else self.stepping
            assert await statement.fetchval(names, seq, f"s{seq}", RESULT) == len(names)


@asynccontextmanager
async def pg_floor(dsn: str) -> AsyncIterator[PgFloor]:
    """In a schema of its own, which is dropped afterwards."""
    async with floor_tables(dsn) as schema, connected_floor(dsn, schema) as floor:
        yield floor


@asynccontextmanager
async def floor_tables(dsn: str) -> AsyncIterator[str]:
    """The name of a schema with the floor's tables."""
    async with own_schema(dsn) as schema:
        conn = await asyncpg.connect(dsn)
        try:
            await conn.execute(f"create schema {schema}; set search_path = {schema}; {TABLES}")
        finally:
            await conn.close()
        yield schema


@asynccontextmanager
async def connected_floor(dsn: str, schema: str) -> AsyncIterator[PgFloor]:
    """On the tables of this schema."""
    conn = await asyncpg.connect(dsn, server_settings={**PLANS, "search_path": schema})
    try:
        yield PgFloor(conn, *[await conn.prepare(sql) for sql in (CREATE, CLAIM, STEP, LAST_STEP)])
    finally:
        await conn.close()
