"""Plans made on an empty table must do for a full one: a session keeps them for its life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from tests.postgres_kit import MAJORS
from tests.stores.two_sessions import Arena, HeldOpen, arena

from durable_core.store import Message, Store
from durable_core.testing.contract_kit import (
    LEASE_MS,
    claim,
    commit_all,
    finish,
    lease,
    let_go,
    new_run,
    request,
    signal,
    step,
)
from durable_core.testing.postgres import NO_POSTGRES
from durable_core.testing.virtual_clock import START_MS
from durable_pg.queries import in_schema

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES),
]

CROWD = 1_000
"""Runs of each sort that have nothing to do with the one run that is looked at."""

ROWS_READ = """
SELECT sum(seq_tup_read + idx_tup_fetch)::int FROM pg_stat_xact_user_tables WHERE schemaname = $1
"""

LIFE: dict[str, Callable[[Store], Awaitable[object]]] = {
    "create": lambda store: store.create([new_run("r1", attributes={"k": "1"})]),
    "claim": lambda store: claim(store, limit=1),
    "commit": lambda store: commit_all(store, [step("r1", tokens_opened=("t",))]),
    "deliver": lambda store: store.deliver([signal("r1"), signal("r1", token="t", dedupe="k")]),
    "inbox": lambda store: store.inbox([lease("r1")]),
    "renew": lambda store: store.renew([lease("r1"), lease("r2")], lease_ms=LEASE_MS),
    "suspend": lambda store: commit_all(
        store, [let_go("r1", after_seq=1, seen=2, due_at_ms=START_MS)]
    ),
    "claim anew": lambda store: claim(store, limit=1),
    "finish": lambda store: commit_all(
        store,
        [
            finish(
                "r1", epoch=2, after_seq=1, consumed=(1, 2), seen=2, messages=(signal("due0000"),)
            )
        ],
    ),
    "retry": lambda store: store.deliver([Message(run_id="r1", kind="retry", reopens=True)]),
    "claim opened": lambda store: claim(store, limit=1),
    "wait": lambda store: commit_all(store, [let_go("r1", epoch=3, after_seq=2, seen=3)]),
    "deliver and claim": lambda store: store.deliver_and_claim([signal("r1")], request(limit=1)),
    "finish again": lambda store: commit_all(store, [finish("r1", epoch=4, after_seq=2, seen=4)]),
    "create one": lambda store: store.create([new_run("r2")]),
    "create another": lambda store: store.create([new_run("r3", priority=1)]),
    "deliver one": lambda store: store.deliver([signal("r2")]),
    "claim of two groups": lambda store: claim(store, limit=2),
    "finish both": lambda store: commit_all(store, [finish("r2", seen=1), finish("r3")]),
    "prune": lambda store: store.prune(before_ms=START_MS + 1, limit=3),
}
"""All that a run may meet; each verb by its occasion."""


@pytest.mark.parametrize("major", MAJORS)
async def test_no_verb_reads_more_rows_because_there_are_more(major: int) -> None:
    async with arena(major) as place, place.held_open() as session:
        few = await live_through(place, session)
        await session.conn.execute("COMMIT")
        await fill(place.store)
        await session.conn.execute("BEGIN")
        many = await live_through(place, session)
    more = {verb: (few[verb], many[verb]) for verb in LIFE if many[verb] > few[verb] + 10}
    assert more == {}


@pytest.mark.parametrize("major", MAJORS)
async def test_what_reads_claimed_runs_is_part_of_the_statement_that_asks(major: int) -> None:
    """A function that is called for its rows puts them all aside first, journals and inboxes."""
    ask = 'EXPLAIN SELECT * FROM "durable".claimed_v1(ARRAY[$1], $2)'
    async with arena(major) as place, place.held_open() as session:
        plan = await session.conn.fetch(in_schema(ask, place.schema), "r1", 10)
    assert not any("Function Scan on claimed_v1" in line for (line,) in plan)


async def live_through(place: Arena, session: HeldOpen) -> dict[str, int]:
    """How many rows each verb reads."""
    rows = {}
    for name, verb in LIFE.items():
        before = await session.conn.fetchval(ROWS_READ, place.schema.name) or 0
        await verb(session)
        rows[name] = await session.conn.fetchval(ROWS_READ, place.schema.name) - before
    return rows


async def fill(store: Store) -> None:
    """Due runs that others may claim, idle runs, ended runs; all older than what comes."""
    numbers = [f"{number:04}" for number in range(CROWD)]
    await store.create([new_run(f"due{number}", version="2") for number in numbers])
    for sort, ending in (("idle", let_go), ("ended", finish)):
        runs = [f"{sort}{number}" for number in numbers]
        await store.create([new_run(run_id, attributes={"k": "1"}) for run_id in runs])
        await claim(store, limit=CROWD)
        await commit_all(store, [ending(run_id) for run_id in runs])
