"""Two worker processes share 200 runs on one SQLite file, and do nothing twice."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from tests.torment import processes
from tests.torment.checker import check_rollback, check_unit, units_of
from tests.torment.mixed import MIXED, WORKFLOWS, expected_units, fails
from tests.torment.test_sigkill_sqlite import all_ended, check_invariants, check_runs, journals

from durable_core import Engine
from durable_sqlite import SqliteStore

pytestmark = pytest.mark.torment

RUNS = 200


@pytest.mark.timeout(240)
async def test_two_workers_share_the_runs_and_execute_none_twice(tmp_path: Path) -> None:
    database = tmp_path / "shared.db"
    began = time.monotonic()
    with processes.ledger() as (port, reader):
        async with Engine(SqliteStore(database), WORKFLOWS) as engine:
            options = ("--lease", 30, "--concurrency", 16)
            with (
                processes.worker(database, port, *options) as one,
                processes.worker(database, port, *options) as two,
            ):
                runs = []
                for n in range(RUNS):
                    runs.append(await engine.start(MIXED, {"n": n}, id=f"r{n:03}"))
                    await runs[-1].signal("go", {"for": n})
                await processes.eventually(lambda: all_ended(engine), within_s=120)
                for process in (one, two):
                    process.terminate()
                    assert process.wait(timeout=60) == 0
            wrong = await check_runs(engine, runs)
            books = await journals(engine)
        records = reader.records()
    ledger = units_of(records)
    for (run_id, _), unit in ledger.items():
        wrong += check_unit(unit, books[run_id], killed=())
    for n, run in enumerate(runs):
        wanted = expected_units(n) if fails(n) else set()
        wrong += check_rollback(run.id, books[run.id], wanted, ledger)
    await check_invariants(database, sorted(books))
    shares = Counter(record["pid"] for record in records if record["op"] == "begin")
    print(f"{RUNS} runs in {time.monotonic() - began:.0f} s, shared {dict(shares)}")
    assert wrong == []
    assert set(shares) == {one.pid, two.pid}
    assert min(shares.values()) >= sum(shares.values()) / 10
