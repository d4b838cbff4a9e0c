"""Claims do not wait for their flush: a crash of the server may take one, and nothing else."""

from __future__ import annotations

import os
import signal as signals
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from tests.postgres_kit import MAJORS
from tests.stores.pg_kit import on_postgres

from durable_core.store import CommitVerdict, Store
from durable_core.testing.contract_kit import (
    claim_one,
    commit_all,
    commit_one,
    lease,
    let_go,
    new_run,
    request,
    signal,
    step,
)
from durable_core.testing.postgres import QUICK, PostgresServer
from durable_core.testing.postgres_binaries import find_binaries
from durable_core.testing.postgres_schema import unused_schema
from durable_pg import PgStore

pytestmark = [*on_postgres]

FENCED = CommitVerdict.FENCED
UNFLUSHED = {**QUICK, "autovacuum": "off", "bgwriter_lru_maxpages": "0"}
"""Nobody flushes what others wrote, but the WAL writer, which the tests stop."""
WAL_WRITER = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"


class Scene:
    """A server that keeps nothing but what somebody waited for, and strict stores on it."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.schema = unused_schema()

    @asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[PgStore]:
        store = PgStore(self.server.dsn(), schema=self.schema, **options)
        await store.open(migrate=True)
        try:
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.server.dsn())
        try:
            yield connection
        finally:
            await connection.close()

    async def stop_flushing(self) -> None:
        async with self.connected() as connection:
            os.kill(await connection.fetchval(WAL_WRITER), signals.SIGSTOP)

    def crash(self) -> None:
        self.server.kill_all()
        self.server.restart()


@pytest.fixture(params=MAJORS, scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    binaries = find_binaries(request.param)
    assert binaries is not None
    with PostgresServer(binaries, settings=UNFLUSHED) as server:
        yield server


@pytest.fixture
def scene(server: PostgresServer) -> Scene:
    return Scene(server)


async def held(store: Store, worker: str, mark: int) -> int:
    """Claim the run; its epoch."""
    return (await claim_one(store, worker=worker, mark=mark)).run.epoch


@pytest.mark.parametrize("pooler", [False, True], ids=["function", "pooler"])
async def test_who_has_a_claim_that_a_crash_took_is_fenced(scene: Scene, pooler: bool) -> None:
    async with scene.opened(pooler=pooler) as store:
        await store.create([new_run()])
        before = await store.get(["r1"])
        await scene.stop_flushing()
        lost = await held(store, "w1", mark=1)
    scene.crash()
    async with scene.opened(pooler=pooler) as store:
        assert await store.get(["r1"]) == before
        assert await commit_one(store, step(epoch=lost)) is FENCED
        epoch = await held(store, "w2", mark=2)
        assert (await store.get(["r1"]))["r1"].deaths == 0
        assert await commit_one(store, step(epoch=lost)) is FENCED
        assert (await store.renew([lease(epoch=lost)], lease_ms=1)).lost == {"r1"}
        await commit_all(store, [step(epoch=epoch)])


async def test_what_is_committed_under_a_claim_brings_it_along(scene: Scene) -> None:
    async with scene.opened() as store:
        await store.create([new_run()])
        await scene.stop_flushing()
        epoch = await held(store, "w1", mark=1)
        await commit_all(store, [step(epoch=epoch)])
    scene.crash()
    async with scene.opened() as store:
        await commit_all(store, [step(epoch=epoch, after_seq=1)])


async def test_messages_that_a_lost_claim_had_routed_are_on_their_way_again(scene: Scene) -> None:
    async with scene.opened() as store:
        await store.create([new_run()])
        async with scene.connected() as connection, connection.transaction():
            await store.deliver([signal(name="a"), signal(name="b")], conn=connection)
        await scene.stop_flushing()
        inbox = (await claim_one(store)).inbox
        assert [message.name for message in inbox] == ["a", "b"]
    scene.crash()
    async with scene.opened() as store:
        again = (await claim_one(store)).inbox
        assert [message.name for message in again] == ["a", "b"]


async def test_a_delivery_that_claims_is_flushed_because_it_acknowledges(scene: Scene) -> None:
    async with scene.opened() as store:
        await store.create([new_run()])
        first = await held(store, "w1", mark=1)
        await commit_all(store, [let_go(epoch=first)])
        await scene.stop_flushing()
        delivery = await store.deliver_and_claim([signal()], request(worker="w1", mark=2))
    scene.crash()
    async with scene.opened() as store:
        (claimed,) = delivery.runs
        assert (await store.get(["r1"]))["r1"] == claimed.run
        assert len((await store.inbox([lease(epoch=claimed.run.epoch)]))["r1"]) == 1


async def test_the_session_waits_for_its_flushes_again_after_a_claim(scene: Scene) -> None:
    """Also behind a pooler, where the transaction is ended by a statement of its own."""
    async with scene.opened(pooler=True) as store:
        await store.create([new_run()])
        await held(store, "w1", mark=1)
        (row,) = await store._checked().connections.fetch("SHOW synchronous_commit")
        assert row[0] == "on"
