"""What columns and tables cost on bare Postgres: a part of ``layout_pg``, below the adapter.

Two questions: in which type a payload is kept, and whether what changes of a run stands in a
table of its own. The tables are ours with what does not matter here left out.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Awaitable, Sequence
from typing import Any

from benchmarks.floor import RESULT
from benchmarks.ground_pg import PgGround
from benchmarks.report import Row, emit
from durable_core.testing.postgres_schema import own_schema

ROWS = 100
"""In one statement: a full batch."""
LARGE = 1_900
"""Bytes of a large payload; more is stored out of line, whatever its type."""

ENTRY = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.entry (
    seq bigint NOT NULL, run_id text COLLATE "C" NOT NULL, payload {type}, PRIMARY KEY (run_id, seq)
)
"""
INSERT = """
INSERT INTO {schema}.entry (run_id, seq, payload)
SELECT * FROM unnest($1::text[], $2::bigint[], $3::{type}[])
"""
READ = "SELECT payload FROM {schema}.entry WHERE run_id = ANY ($1::text[])"

RUN = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.run (
    run_id text COLLATE "C" NOT NULL PRIMARY KEY, workflow text NOT NULL, digest text NOT NULL,
    input bytea NOT NULL {state}
) WITH (fillfactor = {fill})
"""
STATE = """
due_at_ms bigint, epoch bigint NOT NULL, entry_count bigint NOT NULL, updated_at_ms bigint NOT NULL,
status text NOT NULL
"""
APART = """
CREATE TABLE {schema}.lease (run_id text COLLATE "C" NOT NULL PRIMARY KEY, {state})
    WITH (fillfactor = 70);
CREATE TABLE {schema}.outcome (
    run_id text COLLATE "C" NOT NULL PRIMARY KEY, status text NOT NULL,
    finished_at_ms bigint NOT NULL
);
CREATE INDEX ON {schema}.outcome (finished_at_ms)
"""
DUE = """
CREATE INDEX ON {schema}.{table} (due_at_ms, run_id) WHERE due_at_ms IS NOT NULL
"""
CREATE = """
INSERT INTO {schema}.run SELECT id, 'order', md5(id), input {values}
FROM unnest($1::text[], $2::bytea[]) n (id, input)
"""
VALUES = ", 1, 0, 0, 0, 'pending'"
CLAIM = """
UPDATE {schema}.{table} SET due_at_ms = 60000, epoch = epoch + 1, status = 'running'
WHERE run_id = ANY ($1::text[])
"""
STEP = """
UPDATE {schema}.{table} SET entry_count = entry_count + 1, updated_at_ms = updated_at_ms + 1
WHERE run_id = ANY ($1::text[])
"""
END = """
UPDATE {schema}.run SET due_at_ms = NULL, updated_at_ms = 1, status = 'completed'
WHERE run_id = ANY ($1::text[])
"""
END_APART = """
WITH gone AS (DELETE FROM {schema}.lease WHERE run_id = ANY ($1::text[]) RETURNING run_id)
INSERT INTO {schema}.outcome SELECT run_id, 'completed', 1 FROM gone
"""
CREATE_APART = """
WITH new AS (
    INSERT INTO {schema}.run SELECT id, 'order', md5(id), input
    FROM unnest($1::text[], $2::bytea[]) n (id, input) RETURNING run_id
)
INSERT INTO {schema}.lease SELECT run_id, 1, 0, 0, 0, 'pending' FROM new
"""


class Meter:
    """Milliseconds and bytes of the log, of calls that are alike."""

    def __init__(self, ground: PgGround) -> None:
        self._ground = ground
        self.taken_ms: list[float] = []
        self.wal_bytes: list[float] = []

    async def __call__(self, call: Awaitable[Any]) -> None:
        before, at = (await self._ground.counts())["wal_bytes"], time.perf_counter()
        await call
        self.taken_ms.append((time.perf_counter() - at) * 1e3)
        self.wal_bytes.append((await self._ground.counts())["wal_bytes"] - before)

    def figures(self, rows: int) -> Row:
        return {
            "ms": statistics.median(self.taken_ms),
            "wal_bytes_per_row": statistics.median(self.wal_bytes) / rows,
        }


def text_of(size: int, chance: random.Random) -> str:
    """JSON of about so many bytes, not easily compressed, as a codec writes it."""
    fields = {f"field{n}": f"{chance.getrandbits(64):x}" for n in range(size // 29)}
    return json.dumps(fields, separators=(",", ":"))


async def payloads(ground: PgGround, rounds: int) -> list[Row]:
    """Full batches of entries, written and read, by the type of the payload."""
    chance, found = random.Random(7), []
    for size in (len(RESULT), LARGE):
        meters = {
            (kind, verb): Meter(ground)
            for kind in ("bytea", "text", "jsonb")
            for verb in ("insert", "read")
        }
        texts = [RESULT.decode() if size < LARGE else text_of(size, chance) for _ in range(ROWS)]
        for kind in ("bytea", "text", "jsonb"):
            values: Sequence[Any] = [text.encode() for text in texts] if kind == "bytea" else texts
            async with own_schema(ground.dsn) as schema:
                await ground.conn.execute(ENTRY.format(schema=schema, type=kind))
                insert = INSERT.format(schema=schema, type=kind)
                for number in range(rounds):
                    ids = [f"{number:06}-{row:06}" for row in range(ROWS)]
                    ones = [1] * ROWS
                    await meters[kind, "insert"](ground.conn.execute(insert, ids, ones, values))
                    reading = ground.conn.fetch(READ.format(schema=schema), ids)
                    await meters[kind, "read"](reading)
        for (kind, verb), meter in meters.items():
            found.append({"payload": kind, "bytes": size, "verb": verb, **meter.figures(ROWS)})
            emit("pg_payload", found[-1])
    return found


async def tables(ground: PgGround, rounds: int, steps: int) -> list[Row]:
    """Full batches of runs from their start to their end, by where their state stands."""
    chance, found = random.Random(7), []
    inputs = [text_of(500, chance).encode() for _ in range(ROWS)]
    for how in ("in a row apart", "in the row of the run"):
        apart = how == "in a row apart"
        meters = {verb: Meter(ground) for verb in ("create", "claim", "step", "end")}
        async with own_schema(ground.dsn) as schema:
            names = {"schema": schema, "table": "lease" if apart else "run"}
            made = RUN.format(
                schema=schema, state="" if apart else f", {STATE}", fill=100 if apart else 70
            )
            await ground.conn.execute(made)
            if apart:
                await ground.conn.execute(APART.format(schema=schema, state=STATE))
            await ground.conn.execute(DUE.format(**names))
            create = (
                CREATE_APART.format(**names) if apart else CREATE.format(**names, values=VALUES)
            )
            end = (END_APART if apart else END).format(**names)
            for number in range(rounds):
                ids = [f"{number:06}-{row:06}" for row in range(ROWS)]
                await meters["create"](ground.conn.execute(create, ids, inputs))
                await meters["claim"](ground.conn.execute(CLAIM.format(**names), ids))
                for _ in range(steps):
                    await meters["step"](ground.conn.execute(STEP.format(**names), ids))
                await meters["end"](ground.conn.execute(end, ids))
        for verb, meter in meters.items():
            found.append({"state": how, "verb": verb, **meter.figures(ROWS)})
            emit("pg_state", found[-1])
    return found
