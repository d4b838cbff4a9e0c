"""A PgStore on a pool of the user's: it is used, never closed, and gets every connection back."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncpg
import pytest
from tests.stores.pg_kit import Place, all_done, at_peace, cancelled, impatient, on_postgres

from durable_core.errors import StoreUnavailableError
from durable_core.testing.contract_kit import (
    claim,
    commit_all,
    finish,
    ids,
    lease,
    new_run,
    signal,
    started,
    step,
)
from durable_pg import PgStore

pytestmark = on_postgres

INSERT = "INSERT INTO mine VALUES ($1)"


async def test_a_pool_of_the_users_is_used_and_left_open(place: Place) -> None:
    async with asyncpg.create_pool(place.dsn, min_size=0, max_size=4) as pool:
        async with place.opened(dsn=pool) as store:
            await started(store)
            await store.deliver([signal()])
            async with store.transaction(lease()) as transaction:
                await transaction.conn.execute(INSERT, 1)
                await transaction.commit(step(consumed=(1,), seen=1))
            await commit_all(store, [finish(after_seq=1)])
            await at_peace(store)
            async with pool.acquire() as conn, conn.transaction():
                await store.create([new_run("r2")], conn=conn)
            assert await store.wait_for_work(10_000)
            with pytest.raises(asyncpg.InterfaceError):
                await transaction.conn.execute(INSERT, 2)
        assert await pool.fetchval("SELECT count(*) FROM run") == 2
        async with place.opened(dsn=pool) as store:
            assert ids(await claim(store)) == ["r2"]
    assert await place.mine() == [1]


async def test_the_twin_of_a_store_on_a_pool_has_a_pool_like_it(place: Place) -> None:
    """Leases are renewed in another thread, with a loop of its own."""
    seen = []

    async def init(connection: Any) -> None:
        seen.append(asyncio.get_running_loop())

    async with (
        asyncpg.create_pool(place.dsn, min_size=0, init=init) as pool,
        place.opened(dsn=pool) as store,
    ):
        await started(store)

        async def elsewhere() -> bool:
            twin = store.twin()
            await twin.open()
            try:
                kept = not (await twin.renew([lease()], lease_ms=1_000)).lost
                await twin.wait_for_work(0)
                async with twin.transaction(lease()) as transaction:
                    await transaction.commit(step())
                return kept
            finally:
                await twin.close()

        assert await asyncio.to_thread(asyncio.run, elsewhere())
        assert await pool.fetchval("SELECT count(*) FROM entry") == 1
        assert len(set(map(id, seen))) == 2, "what the user does to each connection is done there"


async def test_a_pool_with_another_isolation_is_refused(place: Place) -> None:
    strict = {"default_transaction_isolation": "serializable"}
    async with asyncpg.create_pool(place.dsn, min_size=0, server_settings=strict) as pool:
        with pytest.raises(StoreUnavailableError, match=r"'serializable'.*server_settings="):
            await place.store(dsn=pool).open(migrate=True)
        async with place.opened(dsn=pool, plain=True) as store:
            await started(store)
            await commit_all(store, [finish()])
        assert pool.get_idle_size() == pool.get_size()


async def test_a_pool_that_is_not_open_is_refused(place: Place) -> None:
    pool = asyncpg.create_pool(place.dsn, min_size=0)
    with pytest.raises(StoreUnavailableError, match="pool is not init"):
        await place.store(dsn=pool).open()
    async with pool:
        pass
    with pytest.raises(StoreUnavailableError, match="pool is clos"):
        await place.store(dsn=pool).open()


async def test_an_exhausted_pool_is_named(place: Place) -> None:
    async with (
        asyncpg.create_pool(place.dsn, min_size=0, max_size=1) as pool,
        place.opened(dsn=pool) as store,
    ):
        await started(store)
        async with pool.acquire():
            with impatient(store, 0.1):
                for verb in (store.get(["r1"]), store.create([new_run("r2")])):
                    with pytest.raises(StoreUnavailableError, match="a larger one") as caught:
                        await verb
                    assert not caught.value.outcome_unknown
                with pytest.raises(StoreUnavailableError, match="a larger one"):
                    async with store.transaction(lease()):
                        raise AssertionError("the block must not run")
        assert set(await store.get(["r1", "r2"])) == {"r1"}


async def test_more_handlers_than_connections_wait_for_each_other(place: Place) -> None:
    async with place.opened() as store:
        runs = [f"r{number}" for number in range(20)]
        await store.create([new_run(run_id) for run_id in runs])
        assert len((await claim(store, limit=20)).runs) == 20

        async def transact(number: int) -> None:
            async with store.transaction(lease(runs[number])) as transaction:
                await transaction.conn.execute(INSERT, number)
                await store.deliver([signal(runs[number])])
                await transaction.commit(step(runs[number]))

        await asyncio.gather(*map(transact, range(20)))
    assert await place.mine() == [*range(20)]


async def test_cancelled_verbs_give_connections_back_to_the_pool_of_the_user(place: Place) -> None:
    async with (
        asyncpg.create_pool(place.dsn, min_size=0, max_size=3) as pool,
        place.opened(dsn=pool) as store,
    ):
        chance = random.Random(7)
        await started(store)
        for number in range(100):
            if number % 2:
                await cancelled(store.create([new_run(str(number))]), chance.randrange(9))
            else:
                await cancelled(in_vain(store), chance.randrange(30))
        await all_done(store)
        assert pool.get_idle_size() == pool.get_size()
        await place.comes_to_rest()


async def in_vain(store: PgStore) -> None:
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute("SELECT 1")
