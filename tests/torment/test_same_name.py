"""A worker that is killed, and started again under its own name, has died all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from tests.engine.stage import Watch
from tests.torment import processes
from tests.torment.ledger import LedgerWriter
from tests.torment.mixed import SLOW, WORKFLOWS

from durable_core import Engine
from durable_core.engine.observer import RunClaimed

pytestmark = pytest.mark.torment

LEASE_S = 1.0
NAME = "the same"


async def test_the_next_of_its_name_counts_the_death(url: str) -> None:
    watch = Watch()
    with processes.ledger() as (port, reader):

        @asynccontextmanager
        async def ledger() -> AsyncIterator[LedgerWriter]:
            writer = LedgerWriter(port)
            try:
                yield writer
            finally:
                await writer.close()

        engine = Engine(url, WORKFLOWS, migrate=True, lifespan=ledger, observers=[watch])
        async with engine:
            run = await engine.start(SLOW)
            with processes.worker(url, port, "--lease", LEASE_S, "--name", NAME) as first:

                async def begun() -> bool:
                    return reader.begins() == 1

                assert await processes.eventually(begun, within_s=30)
                first.kill()
                first.wait(timeout=30)
            async with engine.worker(lease=timedelta(seconds=LEASE_S), name=NAME):
                assert await run.result(timeout=60) == {"slow": "done"}
    claims = [event for event in watch.events if isinstance(event, RunClaimed)]
    assert [(event.worker, event.deaths) for event in claims] == [(NAME, 1)]
