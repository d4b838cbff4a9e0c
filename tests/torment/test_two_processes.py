"""Two worker processes share 200 runs on one database, and do nothing twice."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from tests.torment import processes
from tests.torment.mixed import MIXED, WORKFLOWS
from tests.torment.outcome import all_ended, what_is_wrong

from durable_core import Engine

pytestmark = pytest.mark.torment

RUNS = 200


@pytest.mark.timeout(240)
async def test_two_workers_share_the_runs_and_execute_none_twice(url: str) -> None:
    began = time.monotonic()
    with processes.ledger() as (port, reader):
        async with Engine(url, WORKFLOWS, migrate=True) as engine:
            options = ("--lease", 30, "--concurrency", 16)
            with (
                processes.worker(url, port, *options) as one,
                processes.worker(url, port, *options) as two,
            ):
                runs = []
                for n in range(RUNS):
                    runs.append(await engine.start(MIXED, {"n": n}, id=f"r{n:03}"))
                    await runs[-1].signal("go", {"for": n})
                await processes.eventually(lambda: all_ended(engine), within_s=120)
                for process in (one, two):
                    process.terminate()
                    assert process.wait(timeout=60) == 0
            records = reader.records()
            wrong = await what_is_wrong(engine, url, runs, records, killed=())
    shares = Counter(record["pid"] for record in records if record["op"] == "begin")
    print(f"{RUNS} runs in {time.monotonic() - began:.0f} s, shared {dict(shares)}")
    assert wrong == []
    assert not [record for record in records if record["op"] == "lost"]
    assert set(shares) == {one.pid, two.pid}
    assert min(shares.values()) >= sum(shares.values()) / 10
