"""A worker on a SQLite file is killed again and again, and every run comes out as if it were not.

SIGKILL at random points over 200 runs of a workflow with every kind of step, a fifth of which
fail and roll back. What handlers did is kept by a process that is not killed. The test fails
if the kills did not hit a worker at work, or if too few of the intended operations succeeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.torment import processes
from tests.torment.checker import busy_with
from tests.torment.history import History
from tests.torment.ledger import LedgerReader
from tests.torment.mixed import MIXED, WORKFLOWS
from tests.torment.outcome import all_ended, what_is_wrong

from durable_core import Engine, Run

pytestmark = pytest.mark.torment

RUNS = 200
BUSY_KILLS_AT_LEAST = 8
STUCK_AFTER_S = 60.0


@attrs.frozen
class Plan:
    """How often to kill, with which leases, and how many workers are left alone meanwhile."""

    kills: int
    lease_s: float
    spared: int


PLANS = {
    "alone": Plan(kills=32, lease_s=1.0, spared=0),
    "beside another": Plan(kills=20, lease_s=3.0, spared=1),
}


@attrs.define
class Kill:
    """One SIGKILL: whom it hit, and what that process was doing."""

    pid: int
    busy_with: set[tuple[str, str]]


def kill_now(process: subprocess.Popen[str], reader: LedgerReader) -> Kill:
    """Kill a worker, and see in the ledger what it was doing."""
    process.kill()
    process.wait(timeout=30)
    return Kill(process.pid, busy_with(reader.records(), process.pid))


async def kill_repeatedly(
    plan: Plan, url: str, port: int, reader: LedgerReader, chance: random.Random
) -> list[Kill]:
    """Start a worker, let it get somewhere, kill it; again and again."""
    kills: list[Kill] = []
    while len(kills) < plan.kills:
        with processes.worker(url, port, "--lease", plan.lease_s) as process:
            goal = reader.begins() + chance.randint(5, 250)

            async def far_enough(goal: int = goal) -> bool:
                return reader.begins() >= goal

            await processes.eventually(far_enough, within_s=4, every_s=0.01)
            await asyncio.sleep(chance.random() * 0.05)
            kills.append(kill_now(process, reader))
    return kills


async def start_runs(engine: Engine, history: History, chance: random.Random) -> list[Run[Any]]:
    """Start the runs one after another; half of them get their signal before they wait for it,
    half at some later time."""
    runs: list[Run[Any]] = []
    late: list[int] = []

    async def signal(n: int) -> None:
        await history.insist("signal", lambda: runs[n].signal("go", {"for": n}, dedupe_id="once"))

    for n in range(RUNS):
        runs.append(engine.run(f"r{n:03}"))
        start = partial(engine.start, MIXED, {"n": n}, id=runs[n].id)
        await history.insist("start", start)
        if n % 2:
            late.append(n)
        else:
            await signal(n)
        await asyncio.sleep(chance.random() * 0.1)
        if len(late) > 20:
            await signal(late.pop(chance.randrange(len(late))))
    for n in late:
        await signal(n)
    return runs


@pytest.mark.timeout(300)
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
async def test_every_run_survives_workers_that_are_killed(tmp_path: Path, plan: Plan) -> None:
    """Alone on the file, so that nobody else makes progress; and beside a worker that lives."""
    seed = int(os.environ.get("TORMENT_SEED", random.randrange(2**32)))
    print(f"TORMENT_SEED={seed}")
    chance = random.Random(seed)
    url = f"sqlite:///{tmp_path / 'torment.db'}"
    history = History()
    began = time.monotonic()
    with processes.ledger() as (port, reader), contextlib.ExitStack() as spared:
        async with Engine(url, WORKFLOWS) as engine:
            for _ in range(plan.spared):
                spared.enter_context(processes.worker(url, port, "--lease", plan.lease_s))
            starting = asyncio.create_task(start_runs(engine, history, chance))
            kills = await kill_repeatedly(plan, url, port, reader, chance)
            killed_for_s = time.monotonic() - began
            with processes.worker(url, port, "--lease", plan.lease_s) as process:
                runs = await starting
                await processes.eventually(lambda: all_ended(engine), within_s=STUCK_AFTER_S)
                process.terminate()
                assert process.wait(timeout=60) == 0, "a drained worker leaves in peace"
            records = reader.records()
            killed = {kill.pid for kill in kills}
            wrong = await what_is_wrong(engine, url, runs, records, killed)
    busy = [kill for kill in kills if kill.busy_with]
    lost = [unit for kill in kills for _, unit in kill.busy_with]
    print(
        f"{RUNS} runs, {len(records)} ledger records, {len(busy)} of {len(kills)} kills hit a "
        f"busy worker ({len(lost)} attempts lost, {sum(u.endswith('~') for u in lost)} of them "
        f"compensations), {killed_for_s:.0f} s of kills, {time.monotonic() - began:.0f} s in all"
    )
    assert wrong == [], f"seed {seed}: {len(wrong)} faults"
    assert len(busy) >= BUSY_KILLS_AT_LEAST, f"seed {seed}: too few kills hit a busy worker"
    history.check()
    assert history.intended == 2 * RUNS
