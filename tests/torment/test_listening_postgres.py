"""Hearing of changes on Postgres: who hears goes on hearing, whatever becomes of the connection."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import pytest
from tests.postgres_kit import ALL_MAJORS, own_database
from tests.torment.processes import eventually

from durable_core import Engine, StepContext, Workflow
from durable_core.engine.clock import Host
from durable_core.testing.contract_kit import new_run
from durable_core.testing.postgres import NO_POSTGRES
from durable_pg import PgStore

pytestmark = [
    pytest.mark.torment,
    pytest.mark.postgres,
    pytest.mark.skipif(not ALL_MAJORS, reason=NO_POSTGRES),
]

TURNS = 5
PATIENCE_S = 30.0
LISTENERS = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN %'
"""
END_LISTENERS = f"SELECT pg_terminate_backend(pid, 10000) FROM ({LISTENERS}) AS listening"


@pytest.fixture
def dsn() -> Iterator[str]:
    with own_database(ALL_MAJORS[0]) as dsn:
        yield dsn


async def test_what_happened_before_the_connection_was_there_is_not_missed(dsn: str) -> None:
    """It cannot have been heard, so the first wait is over as soon as hearing has begun."""
    one, other = PgStore(dsn), PgStore(dsn)
    await one.open(migrate=True)
    await other.open()
    try:
        await other.create([new_run()])
        assert await one.wait_for_work(10_000)
    finally:
        await one.close()
        await other.close()


async def test_a_worker_whose_listening_connection_is_ended_goes_on_hearing(dsn: str) -> None:
    """It never looks by itself here, so every run that it claims it has heard of."""

    async def step(ctx: StepContext[None, int]) -> int:
        return ctx.input

    workflow = Workflow("w").step("a", step)
    deaf = Host(fallback_poll_s=None)
    async with (
        Engine(dsn, [workflow], migrate=True, host=deaf) as engine,
        engine.worker(),
        Engine(dsn, [workflow], host=deaf) as client,
    ):
        conn = await asyncpg.connect(dsn)

        async def somebody_listens() -> bool:
            return await conn.fetchrow(LISTENERS) is not None

        for turn in range(TURNS):
            assert await eventually(somebody_listens, within_s=PATIENCE_S)
            # Once: it connects anew as fast as one looks, so to wait for none may take for ever.
            assert await conn.fetch(END_LISTENERS)
            if turn % 2:  # else the run may be started while nobody listens
                assert await eventually(somebody_listens, within_s=PATIENCE_S)
            run = await client.start(workflow, turn)
            assert await run.result(timeout=PATIENCE_S) == {"a": turn}
        await conn.close()
