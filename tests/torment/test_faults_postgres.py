"""Workers on Postgres under every fault at once, and every run comes out as if there were none.

Four workers, two of them and the client behind a proxy. Workers are killed, and stopped past
their leases and woken; connections are ended by the server, cut by the proxy before, during and
after commits, and held up in the dark; the server itself is killed and restarted. What handlers
did is kept by a process that nothing is done to. The test fails if a kind of fault did not come
true often enough, or if too little of what the client intended succeeded.

About a minute; ``DURABLE_TORMENT=60`` goes on for 60 minutes.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter

import asyncpg
import pytest
from tests.torment import processes
from tests.torment.checker import busy_with
from tests.torment.crew import Crew
from tests.torment.faults import Faults
from tests.torment.history import History
from tests.torment.load import Load
from tests.torment.mixed import WORKFLOWS
from tests.torment.outcome import all_ended, what_is_wrong
from tests.torment.proxy import Proxy

from durable_core import Engine
from durable_core.testing.postgres import PostgresServer
from durable_pg import PgStore

pytestmark = [pytest.mark.torment, pytest.mark.postgres]

RUNS = 500
LEASE_S = 2.5
ENDED_WITHIN_S = 60.0
TORMENT_S = 60 * float(os.environ.get("DURABLE_TORMENT", "0.5"))
LONGEST_S = 3 * TORMENT_S
ANSWER_S = 5.0
"""How long the client waits for an answer; in the dark none comes."""
BUSY_AT_LEAST = 10
"""Of the workers that were killed, so many were at work."""

LEFT = """
SELECT run_id, 'lease' AS what FROM durable.lease
UNION ALL SELECT run_id, 'posted' FROM durable.posted
UNION ALL SELECT run_id, 'token' FROM durable.token WHERE digest IS NULL
UNION ALL SELECT run_id, 'message' FROM durable.inbox
"""


async def what_is_left(server: PostgresServer) -> list[tuple[str, str]]:
    """Rows of things that are under way: run and kind."""
    conn = await asyncpg.connect(server.dsn())
    try:
        return [tuple(row) for row in await conn.fetch(LEFT)]
    finally:
        await conn.close()


async def torment(load: Load, faults: Faults) -> float:
    """Load and faults together, until both have done what they have to; for how many seconds. On
    a machine where that takes too long, the last runs are started in peace."""
    began = time.monotonic()

    def is_enough() -> bool:
        return time.monotonic() - began >= TORMENT_S and not faults.missing

    async with asyncio.TaskGroup() as group:
        firing = group.create_task(faults.run())
        loading = group.create_task(
            load.start_until(lambda: len(load.runs) >= RUNS and is_enough())
        )
        while not loading.done() and (time.monotonic() - began < LONGEST_S or not is_enough()):
            await asyncio.wait({loading}, timeout=1)
        faults.end()
        await firing
        tormented_s = time.monotonic() - began
    return tormented_s


@pytest.mark.timeout(300 + 2 * LONGEST_S)
async def test_every_run_survives_every_fault(server: PostgresServer) -> None:
    seed = int(os.environ.get("TORMENT_SEED", random.randrange(2**32)))
    print(f"TORMENT_SEED={seed}")
    chance = random.Random(seed)
    history = History()
    with processes.ledger() as (port, reader), Proxy(server.dsn()) as proxy:
        urls = [server.dsn(), server.dsn(), proxy.dsn, proxy.dsn]
        async with (
            Engine(server.dsn(), WORKFLOWS, migrate=True) as watcher,
            Engine(PgStore(proxy.dsn, timeout_s=ANSWER_S), WORKFLOWS) as client,
            Crew(urls, port, "--lease", LEASE_S) as crew,
        ):
            load = Load(client, watcher, history, chance)
            faults = Faults(server, proxy, crew, lease_s=LEASE_S, chance=chance)
            tormented_s = await torment(load, faults)
            quiet_since = time.monotonic()
            await load.settle()
            await processes.eventually(lambda: all_ended(watcher), within_s=ENDED_WITHIN_S)
            quiet_s = time.monotonic() - quiet_since
            codes = await crew.drain()
            left = await what_is_left(server)
            records = reader.records()
            wrong = await what_is_wrong(watcher, server.dsn(), load.runs, records, crew.killed)
    ops = Counter(record["op"] for record in records)
    busy = sum(bool(busy_with(records, pid)) for pid in crew.killed)
    print(
        f"{len(load.runs)} runs, {tormented_s:.0f} s of faults, all ended {quiet_s:.1f} s later\n"
        f"faults: {dict(faults.fired)}; the cuts hit {dict(proxy.hit)}; {busy} of "
        f"{len(crew.killed)} killed workers were busy\n"
        f"handlers: {ops['begin']} begun, {ops['end']} succeeded, {ops['fail']} failed; leases "
        f"were lost {ops['lost']} times\nclient: {history}"
    )
    assert not wrong, "\n".join([f"seed {seed}, stopped were {crew.stops}", *wrong])
    sent_twice = {(run_id, "message") for run_id in load.in_doubt}
    assert set(left) <= sent_twice, "nothing else is left"
    assert crew.deserters == []
    assert set(codes) == {0}, "a drained worker leaves in peace"
    history.check()
    assert busy >= BUSY_AT_LEAST, "too few kills hit a busy worker"
    assert not faults.missing
    lost_by = {record["pid"] for record in records if record["op"] == "lost"}
    assert lost_by & {pid for pid, _, _ in crew.stops}, "no stopped worker lost a lease"
