"""A worker that is told to end hands its runs back at once, and ends."""

from __future__ import annotations

import time

import pytest
from tests.torment import processes
from tests.torment.mixed import SLOW, WORKFLOWS

from durable_core import Engine

pytestmark = pytest.mark.torment

LEASE_S = 120
GRACE_S = 0.2
RUNS = 20


async def test_a_drained_workers_runs_are_taken_over_long_before_the_lease_ends(
    url: str,
) -> None:
    """SIGTERM while handlers hang: they are cancelled after the grace, nothing counts as a worker's
    death, and the next worker has the runs at once."""
    options = ("--lease", LEASE_S, "--grace", GRACE_S, "--concurrency", 50)
    with processes.ledger() as (port, reader):
        async with Engine(url, WORKFLOWS, migrate=True) as engine:
            runs = [await engine.start(SLOW, id=f"r{n}") for n in range(RUNS)]
            with processes.worker(url, port, *options) as first:

                async def all_begun() -> bool:
                    return reader.begins() == RUNS

                assert await processes.eventually(all_begun, within_s=30)
                told_at = time.monotonic()
                first.terminate()
                assert first.wait(timeout=30) == 0
                gone_after_s = time.monotonic() - told_at
            with processes.worker(url, port, *options):
                for run in runs:
                    assert await run.result(timeout=LEASE_S / 4) == {"slow": "done"}
            taken_over_after_s = time.monotonic() - told_at
        pids = [record["pid"] for record in reader.records() if record["op"] == "begin"]
    print(f"gone after {gone_after_s:.2f} s, all taken over after {taken_over_after_s:.2f} s")
    assert pids.count(first.pid) == RUNS and len(pids) == 2 * RUNS
    assert taken_over_after_s < LEASE_S / 4
