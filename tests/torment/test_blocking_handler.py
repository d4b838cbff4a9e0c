"""A handler that blocks its worker's event loop for three leases keeps its lease."""

from __future__ import annotations

import pytest
from tests.torment import processes
from tests.torment.mixed import BLOCKING, WORKFLOWS

from durable_core import Engine

pytestmark = pytest.mark.torment

LEASE_S = 1.0


async def test_a_handler_that_blocks_for_three_leases_is_called_once(url: str) -> None:
    """Two workers stand by; the one that blocks goes on renewing, so the other gets nothing."""
    with processes.ledger() as (port, reader):
        async with Engine(url, WORKFLOWS, migrate=True) as engine:
            with (
                processes.worker(url, port, "--lease", LEASE_S),
                processes.worker(url, port, "--lease", LEASE_S),
            ):
                run = await engine.start(BLOCKING, {"seconds": 3 * LEASE_S})
                assert await run.result(timeout=60) == {"block": "done"}
            entries = [entry.kind for entry in await run.journal()]
        records = reader.records()
    assert [record["op"] for record in records] == ["begin", "end"]
    assert entries == ["unit_completed", "run_completed"]
