"""One thing goes wrong at a time, on Postgres: a worker dies, its clock is off, the server is
restarted, the network is gone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
from tests.torment import processes
from tests.torment.mixed import MIXED, SLOW, WORKFLOWS
from tests.torment.outcome import all_ended, what_is_wrong
from tests.torment.proxy import Proxy

from durable_core import Engine, Run, StepContext, Workflow
from durable_core.testing.postgres import PostgresServer

pytestmark = [pytest.mark.torment, pytest.mark.postgres, pytest.mark.timeout(240)]

RUNS = 40
LEASE_S = 1.5
PATIENCE_S = 60.0
TAKEN_OVER_WITHIN_S = 1.0
NOISE_S = 3.0
"""By how much a busy machine may be late."""
OFF_S = 600
LEASES = "SELECT run_id, due_at_ms FROM durable.lease WHERE owner IS NOT NULL"
NOW_MS = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"


async def start_mixed(engine: Engine) -> list[Run[Any]]:
    """Runs that have their signals, and go on by themselves."""
    runs = []
    for n in range(RUNS):
        runs.append(await engine.start(MIXED, {"n": n}, id=f"r{n:03}"))
        await runs[-1].signal("go", {"for": n}, dedupe_id="once")
    return runs


async def ask(server: PostgresServer, sql: str) -> Sequence[Any]:
    """One statement, on a connection of its own."""
    conn = await asyncpg.connect(server.dsn())
    try:
        return list(await conn.fetch(sql))
    finally:
        await conn.close()


async def test_a_dead_workers_runs_are_taken_over_as_soon_as_its_leases_end(
    server: PostgresServer,
) -> None:
    """Not before, and not much later: by the database's clock, as the journals have it."""
    options = ("--lease", LEASE_S, "--concurrency", 2 * RUNS)
    with processes.ledger() as (port, reader):
        async with Engine(server.dsn(), WORKFLOWS, migrate=True) as engine:
            runs = [await engine.start(SLOW, id=f"r{n}") for n in range(RUNS)]

            async def all_begun() -> bool:
                return reader.begins() == RUNS

            with processes.worker(server.dsn(), port, *options) as first:
                assert await processes.eventually(all_begun, within_s=PATIENCE_S)
                with processes.worker(server.dsn(), port, *options):
                    processes.end(first)
                    ends_ms = {row["run_id"]: row["due_at_ms"] for row in await ask(server, LEASES)}
                    for run in runs:
                        await run.result(timeout=PATIENCE_S)
            late_s = []
            for run in runs:
                done = (await run.journal())[0]
                late_s.append(done.at.timestamp() - ends_ms[run.id] / 1000)
    print(f"taken over {min(late_s):.3f} to {max(late_s):.3f} s after the leases ended")
    assert set(ends_ms) == {run.id for run in runs}
    assert min(late_s) >= 0
    assert max(late_s) < TAKEN_OVER_WITHIN_S + NOISE_S


async def test_workers_whose_clocks_are_off_do_no_harm(server: PostgresServer) -> None:
    """Ten minutes ahead and ten behind: nothing is stolen, and the journals have the database's
    time."""
    with processes.ledger() as (port, reader):
        async with Engine(server.dsn(), WORKFLOWS, migrate=True) as engine:
            arguments = (server.dsn(), port, "--lease", LEASE_S, "--concurrency", 8)
            with (
                processes.running(processes.start("skewed", OFF_S, *arguments)) as ahead,
                processes.running(processes.start("skewed", -OFF_S, *arguments)) as behind,
            ):
                ((began_ms,),) = await ask(server, NOW_MS)
                runs = await start_mixed(engine)
                await processes.eventually(lambda: all_ended(engine), within_s=PATIENCE_S)
                ((ended_ms,),) = await ask(server, NOW_MS)
                for process in (ahead, behind):
                    process.terminate()
                    assert process.wait(timeout=PATIENCE_S) == 0
            records = reader.records()
            wrong = await what_is_wrong(engine, server.dsn(), runs, records, killed=())
            times = [entry.at.timestamp() * 1000 async for entry in _entries(engine)]
    shares = Counter(record["pid"] for record in records if record["op"] == "begin")
    assert wrong == []
    assert set(shares) == {ahead.pid, behind.pid}
    assert not [record for record in records if record["op"] == "lost"]
    assert began_ms <= min(times) and max(times) <= ended_ms


async def _entries(engine: Engine) -> Any:
    async for info in engine.runs():
        for entry in await engine.journal(info.id):
            yield entry


async def test_workers_survive_a_database_that_is_killed_and_comes_back(
    server: PostgresServer,
) -> None:
    """The very same processes go on, each time."""
    options = ("--lease", LEASE_S, "--concurrency", 8)
    with processes.ledger() as (port, reader):
        async with Engine(server.dsn(), WORKFLOWS, migrate=True) as engine:
            with (
                processes.worker(server.dsn(), port, *options) as one,
                processes.worker(server.dsn(), port, *options) as two,
            ):
                starting = asyncio.create_task(start_mixed(engine))
                for kill in (server.kill, server.kill_all):
                    await asyncio.sleep(0.5)
                    await asyncio.to_thread(kill)
                    await asyncio.sleep(0.5)
                    await asyncio.to_thread(server.restart)
                runs = await starting
                await processes.eventually(lambda: all_ended(engine), within_s=PATIENCE_S)
                for process in (one, two):
                    process.terminate()
                    assert process.wait(timeout=PATIENCE_S) == 0
            records = reader.records()
            wrong = await what_is_wrong(engine, server.dsn(), runs, records, killed=())
    assert wrong == []
    assert {record["pid"] for record in records} == {one.pid, two.pid}


async def test_handlers_are_cancelled_when_their_leases_end_in_the_dark(
    server: PostgresServer,
) -> None:
    """A network that swallows everything without a word: renewals hang, and another worker may
    have the runs once the leases are over."""
    begun = asyncio.Event()
    cancelled_at: list[float] = []

    async def hang(ctx: StepContext[None, None]) -> str:
        begun.set()
        if cancelled_at:
            return "done"
        try:
            await asyncio.Event().wait()
        finally:
            cancelled_at.append(time.monotonic())
        raise AssertionError("it waits for ever")

    workflow = Workflow("w").step("hang", hang)
    with Proxy(server.dsn()) as proxy:
        async with (
            Engine(server.dsn(), [workflow], migrate=True) as client,
            Engine(proxy.dsn, [workflow]) as engine,
            engine.worker(lease=LEASE_S),
        ):
            run = await client.start(workflow)
            await asyncio.wait_for(begun.wait(), PATIENCE_S)
            await asyncio.sleep(LEASE_S)
            proxy.go_dark()
            dark_at = time.monotonic()

            async def is_cancelled() -> bool:
                return bool(cancelled_at)

            await processes.eventually(is_cancelled, within_s=PATIENCE_S)
            proxy.go_light()
            assert await run.result(timeout=PATIENCE_S) == {"hang": "done"}
    assert cancelled_at[0] - dark_at < LEASE_S + NOISE_S
