"""conn=: create and deliver inside the caller's own Postgres transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import aiosqlite
import asyncpg
import pytest
from tests.stores.pg_kit import PATIENCE_S, Place, at_peace, on_postgres

from durable_core import Engine, Start, StepContext, Workflow
from durable_core.errors import (
    DurableError,
    EncodingError,
    RunCancelled,
    RunFinishedError,
    RunNotFoundError,
    SchemaVersionError,
    StoreUnavailableError,
)
from durable_core.store import DeliverVerdict
from durable_core.testing.contract_kit import (
    claim,
    claim_one,
    commit_all,
    finish,
    ids,
    lease,
    new_run,
    payload,
    signal,
    started,
    step,
)
from durable_pg import PgStore

pytestmark = on_postgres

DELIVERED, DUPLICATE = DeliverVerdict.DELIVERED, DeliverVerdict.DUPLICATE
FINISHED, UNKNOWN, FULL = DeliverVerdict.FINISHED, DeliverVerdict.UNKNOWN, DeliverVerdict.FULL

INSERT = "INSERT INTO mine VALUES ($1)"
TRANSACTION = "SELECT pg_current_xact_id()::text"


@pytest.fixture(params=[False, True], ids=["functions", "plain"])
async def store(place: Place, request: pytest.FixtureRequest) -> AsyncIterator[PgStore]:
    async with place.opened(plain=request.param) as store:
        yield store


@asynccontextmanager
async def pooled(place: Place) -> AsyncIterator[Any]:
    """A connection that the caller acquired from a pool."""
    async with asyncpg.create_pool(place.dsn, min_size=0) as pool, pool.acquire() as conn:
        yield conn


@pytest.mark.parametrize("from_a_pool", [False, True])
async def test_the_callers_commit_commits_both(
    store: PgStore, place: Place, from_a_pool: bool
) -> None:
    async with pooled(place) if from_a_pool else place.connected() as conn:
        async with conn.transaction():
            await conn.execute(INSERT, 1)
            children = [new_run("a", attributes={"k": "1"}, entries=()), new_run("b")]
            results = await store.create([*children, new_run("a")], conn=conn)
            assert [result.created for result in results] == [True, True, False]
            verdicts = await store.deliver([signal("a", payload=payload("1"))] * 2, conn=conn)
            assert set(verdicts) == {DELIVERED}
            assert conn.is_in_transaction()
            assert await store.get(["a"]) == {}, "not before the caller commits"
            assert await place.mine() == []
        assert not conn.is_in_transaction()
    assert await place.mine() == [1]
    batch = await claim(store)
    assert ids(batch) == ["a", "b"]
    assert [message.seq for message in batch.runs[0].inbox] == [1, 2]


async def test_the_callers_rollback_undoes_both(store: PgStore, place: Place) -> None:
    await store.create([new_run("r0", delay_ms=60_000)])
    before = await store.get(["r0"])
    async with place.connected() as conn:
        transaction = conn.transaction()
        await transaction.start()
        await store.create([new_run()], conn=conn)
        await store.deliver([signal("r0"), signal()], conn=conn)
        await conn.execute(INSERT, 1)
        await transaction.rollback()
    assert await store.get(["r0", "r1"]) == before
    assert await place.mine() == []
    assert ids(await claim(store)) == [], "nothing of the message is left"


async def test_the_callers_own_begin_is_respected(store: PgStore, place: Place) -> None:
    async with place.connected() as conn:
        with pytest.raises(DurableError, match=r"autocommit.*conn\.transaction"):
            await store.create([new_run()], conn=conn)
        await conn.execute("BEGIN")
        await store.create([new_run()], conn=conn)
        await conn.execute("COMMIT")
        with pytest.raises(DurableError, match="autocommit"):
            await store.deliver([signal()], conn=conn)
    assert set(await store.get(["r1"])) == {"r1"}
    assert (await claim_one(store)).inbox == ()


async def test_the_transaction_stays_the_callers_whatever_comes_of_it(
    store: PgStore, place: Place
) -> None:
    async with place.connected() as conn, conn.transaction():
        before = await conn.fetchval(TRANSACTION)
        await conn.execute(INSERT, 1)
        await store.create([new_run()], conn=conn)
        await store.create([new_run()], conn=conn)
        await store.deliver([signal(), signal("nobody")], conn=conn)
        assert await store.create([], conn=conn) == ()
        assert await store.deliver([], conn=conn) == ()
        with pytest.raises(EncodingError):
            await store.create([new_run("bad", priority=2**63)], conn=conn)
        assert conn.is_in_transaction()
        assert await conn.fetchval(TRANSACTION) == before
    assert await place.mine() == [1]
    assert set(await store.get(["r1", "bad"])) == {"r1"}


async def test_a_savepoint_of_the_callers_undoes_what_came_after_it(
    store: PgStore, place: Place
) -> None:
    async with place.connected() as conn, conn.transaction():
        await store.create([new_run("kept")], conn=conn)
        with pytest.raises(ZeroDivisionError):
            async with conn.transaction():
                await store.create([new_run("lost")], conn=conn)
                await store.deliver([signal("kept")], conn=conn)
                raise ZeroDivisionError
    assert (await claim_one(store, "kept")).inbox == ()


@pytest.mark.parametrize("level", ["repeatable_read", "serializable"])
async def test_stricter_transactions_of_the_callers_are_fine(
    store: PgStore, place: Place, level: str
) -> None:
    await store.create([new_run("r0")])
    async with place.connected() as conn:
        async with conn.transaction(isolation=level):
            await conn.execute(INSERT, 1)
            results = await store.create([new_run("r0"), new_run("r1")], conn=conn)
            assert [result.created for result in results] == [False, True]
            await store.create([new_run("later")])
            messages = [signal("r0"), signal("r1"), signal("later")]
            verdicts = await store.deliver(messages, conn=conn)
            assert verdicts == (DELIVERED, DELIVERED, UNKNOWN), "as this transaction sees the world"
        with pytest.raises(StoreUnavailableError, match="when it is tried again") as caught:
            async with conn.transaction(isolation=level):
                await conn.execute(INSERT, 2)
                await store.create([new_run("r2")])
                await store.create([new_run("r2")], conn=conn)
        assert not caught.value.outcome_unknown
    assert await place.mine() == [1]
    assert {run.run.run_id: len(run.inbox) for run in (await claim(store)).runs} == {
        "r0": 1,
        "r1": 1,
        "later": 0,
        "r2": 0,
    }


async def test_a_read_only_transaction_cannot_be_joined(store: PgStore, place: Place) -> None:
    async with place.connected() as conn:
        with pytest.raises(StoreUnavailableError, match="read-only"):
            async with conn.transaction(readonly=True):
                await store.create([new_run()], conn=conn)


# --- messages --------------------------------------------------------------------------------


async def test_messages_keep_their_order(store: PgStore, place: Place) -> None:
    await store.create([new_run()])
    await store.deliver([signal(name="0")])
    async with place.connected() as conn, conn.transaction():
        await store.deliver([signal(name="1"), signal(name="2")], conn=conn)
        await store.deliver([signal(name="3")], conn=conn)
    await store.deliver([signal(name="4")])
    assert [m.name for m in (await claim_one(store)).inbox] == list("01234")


async def test_a_held_run_gets_them_when_it_next_looks(store: PgStore, place: Place) -> None:
    await started(store)
    async with place.connected() as conn, conn.transaction():
        await store.deliver([signal()], conn=conn)
        assert await store.inbox([lease()]) == {}
        assert (await store.renew([lease()], lease_ms=1_000)).mail == frozenset()
    assert (await store.renew([lease()], lease_ms=1_000)).mail == {"r1"}
    assert [m.name for m in (await store.inbox([lease()]))["r1"]] == ["go"]


async def test_a_dedupe_key_is_taken_once_inside_and_across(store: PgStore, place: Place) -> None:
    await store.create([new_run()])
    inside, before, after = (signal(dedupe=key) for key in ("inside", "before", "after"))
    await store.deliver([before])
    async with place.connected() as conn:
        async with conn.transaction():
            assert await store.deliver([inside, inside], conn=conn) == (DELIVERED, DUPLICATE)
            assert await store.deliver([inside, before], conn=conn) == (DUPLICATE, DUPLICATE)
            await store.deliver([after], conn=conn)
        assert await store.deliver([after]) == (DUPLICATE,)
        async with conn.transaction():
            assert await store.deliver([after], conn=conn) == (DUPLICATE,)
    assert len((await claim_one(store)).inbox) == 3


async def test_a_key_used_by_two_transactions_at_once_counts_once(
    store: PgStore, place: Place
) -> None:
    """Neither can see the other, so both are told *delivered*; the run hears of it once."""
    await store.create([new_run()])
    async with (
        place.connected() as one,
        place.connected() as other,
        one.transaction(),
        other.transaction(),
    ):
        for conn in (one, other):
            assert await store.deliver([signal(dedupe="k")], conn=conn) == (DELIVERED,)
    assert len((await claim_one(store)).inbox) == 1
    assert await store.deliver([signal(dedupe="k")]) == (DUPLICATE,)


async def test_verdicts_are_those_of_deliver(store: PgStore, place: Place) -> None:
    await started(store, "ended")
    await commit_all(store, [finish("ended")])
    await started(store)
    await commit_all(store, [step(tokens_opened=("t",))])
    used = signal(token="t", payload=payload("1"))
    async with place.connected() as conn, conn.transaction():
        verdicts = await store.deliver([signal("ended"), signal("nobody")], conn=conn)
        assert verdicts == (FINISHED, UNKNOWN)
        limited = await store.deliver([signal()] * 3, inbox_limit=2, conn=conn)
        assert limited == (DELIVERED, DELIVERED, FULL)
        assert await store.deliver([signal()], inbox_limit=2, conn=conn) == (FULL,)
        tokens = [used, used, signal(token="t"), signal(token="foreign")]
        assert await store.deliver(tokens, conn=conn) == (
            DELIVERED,
            DUPLICATE,
            DeliverVerdict.CONFLICT,
            DeliverVerdict.STALE,
        )
    assert await store.deliver([used]) == (DUPLICATE,)
    assert len((await store.inbox([lease()]))["r1"]) == 3


async def test_a_message_may_open_a_run_again(store: PgStore, place: Place) -> None:
    await started(store)
    await commit_all(store, [finish()])
    async with place.connected() as conn, conn.transaction():
        assert await store.deliver([signal(reopens=True)], conn=conn) == (DELIVERED,)
        assert ids(await claim(store)) == []
    assert (await claim_one(store)).run.epoch == 2


# --- what comes to it from outside -----------------------------------------------------------


async def test_a_cancelled_call_leaves_the_transaction_to_the_caller(
    store: PgStore, place: Place
) -> None:
    for turns in range(0, 40, 2):
        async with place.connected() as conn:
            transaction = conn.transaction()
            await transaction.start()
            await conn.execute(INSERT, 1)
            task = asyncio.ensure_future(store.create([new_run()], conn=conn))
            for _ in range(turns):
                await asyncio.wait({task}, timeout=0.0001)
            task.cancel()
            await asyncio.wait({task})
            assert conn.is_in_transaction()
            await transaction.rollback()
    assert await place.mine() == []
    assert await store.get(["r1"]) == {}
    await place.comes_to_rest()


async def test_there_is_no_run_without_the_rows_when_a_cancelled_call_is_committed(
    store: PgStore, place: Place
) -> None:
    async with place.connected() as conn:
        for number in range(40):
            async with conn.transaction():
                await conn.execute(INSERT, number)
                task = asyncio.ensure_future(store.create([new_run(str(number))], conn=conn))
                for _ in range(number // 2):
                    await asyncio.wait({task}, timeout=0.0001)
                task.cancel()
                await asyncio.wait({task})
    there = {int(run_id) for run_id in await store.get([str(number) for number in range(40)])}
    assert there <= set(await place.mine())


async def test_the_connection_of_a_transaction_can_be_joined(store: PgStore) -> None:
    await started(store)
    async with store.transaction(lease()) as transaction:
        await store.create([new_run("lost")], conn=transaction.conn)
    async with store.transaction(lease()) as transaction:
        await store.create([new_run("kept")], conn=transaction.conn)
        await transaction.commit(step())
    assert set(await store.get(["lost", "kept"])) == {"kept"}


async def test_a_join_is_noticed_by_waiters_when_the_caller_commits(place: Place) -> None:
    async with place.opened() as store, place.opened() as other:
        await at_peace(store, other)
        async with place.connected() as conn:
            async with conn.transaction():
                await store.create([new_run()], conn=conn)
                for each in (store, other):
                    assert not await each.wait_for_work(20)
            for each in (store, other):
                assert await each.wait_for_work(10_000), "also the one it came through"
            async with conn.transaction():
                await store.deliver([signal()], conn=conn)
            assert await other.wait_for_work(10_000)


@pytest.mark.parametrize("codec", ["uuid", "json", "numeric"])
async def test_any_record_class_and_codec_will_do(store: PgStore, place: Place, codec: str) -> None:
    class Mine(asyncpg.Record):  # type: ignore[misc]
        def __getattr__(self, name: str) -> Any:
            return self[name]

    async with place.connected(record_class=Mine) as conn, conn.transaction():
        await conn.set_type_codec(codec, encoder=str, decoder=str, schema="pg_catalog")
        await store.create([new_run(attributes={"k": "1"})], conn=conn)
        (again,) = await store.create([new_run()], conn=conn)
        assert again.record.run_id == "r1"
        assert await store.deliver([signal()], conn=conn) == (DELIVERED,)
    assert ids(await claim(store)) == ["r1"]


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("conn", [object(), "conn", 1])
async def test_anything_else_is_refused(store: PgStore, conn: Any) -> None:
    for verb in (store.create([new_run()], conn=conn), store.deliver([signal()], conn=conn)):
        with pytest.raises(DurableError, match=r"asyncpg connection.*not (object|str|int)"):
            await verb


async def test_connections_of_other_drivers_and_pools_are_refused(
    store: PgStore, place: Place
) -> None:
    async with aiosqlite.connect(":memory:") as other:
        with pytest.raises(DurableError, match=r"not Connection"):
            await store.create([new_run()], conn=other)
    with closing(sqlite3.connect(":memory:")) as plain, pytest.raises(DurableError, match="must"):
        await store.create([new_run()], conn=plain)
    async with asyncpg.create_pool(place.dsn, min_size=0) as pool:
        with pytest.raises(DurableError, match="not Pool"):
            await store.create([new_run()], conn=pool)


async def test_a_closed_connection_is_refused(store: PgStore, place: Place) -> None:
    async with place.connected() as conn:
        pass
    with pytest.raises(DurableError, match="conn= is closed"):
        await store.create([new_run()], conn=conn)
    async with pooled(place) as conn:
        pass
    with pytest.raises(DurableError, match="conn= is closed"):
        await store.deliver([signal()], conn=conn)


async def test_a_connection_in_use_is_refused(store: PgStore, place: Place) -> None:
    async with place.connected() as conn, conn.transaction():
        busy = asyncio.ensure_future(conn.fetch("SELECT pg_advisory_xact_lock(1), pg_sleep(0.2)"))
        await asyncio.sleep(0)
        with pytest.raises(DurableError, match="another task") as caught:
            await store.create([new_run()], conn=conn)
        assert not isinstance(caught.value, StoreUnavailableError)
        await busy
        await store.create([new_run()], conn=conn)


async def test_an_aborted_transaction_is_refused(store: PgStore, place: Place) -> None:
    async with place.connected() as conn:
        with pytest.raises(DurableError, match=r"failed already.*roll it back"):
            async with conn.transaction():
                with pytest.raises(asyncpg.PostgresError):
                    await conn.execute("SELECT 1/0")
                await store.create([new_run()], conn=conn)


async def test_another_database_is_refused(store: PgStore, place: Place) -> None:
    name = f"{place.schema}_other"
    await place.eyes.execute(f"CREATE DATABASE {name}")
    try:
        elsewhere = place.dsn.replace("/postgres?", f"/{name}?")
        async with place.connected(dsn=elsewhere) as conn:
            with pytest.raises(SchemaVersionError, match=r"conn=.*durable migrate"):
                async with conn.transaction():
                    await store.create([new_run()], conn=conn)
            async with place.opened(dsn=elsewhere) as other:
                with pytest.raises(DurableError, match="another database"):
                    async with conn.transaction():
                        await store.create([new_run()], conn=conn)
                assert await other.get(["r1"]) == await store.get(["r1"]) == {}
    finally:
        await place.eyes.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_lost_connection_is_named(store: PgStore, place: Place) -> None:
    async with place.connected() as conn:
        await conn.transaction().start()
        pid = conn.get_server_pid()
        await place.eyes.fetchval("SELECT pg_terminate_backend($1, 10000)", pid)
        with pytest.raises(DurableError, match=r"conn= (cannot be reached|is closed)") as caught:
            await store.create([new_run()], conn=conn)
        assert not getattr(caught.value, "outcome_unknown", False), "only the caller commits"


# --- the engine ------------------------------------------------------------------------------


async def test_what_an_engine_is_asked_for_lands_with_the_users_rows(place: Place) -> None:
    calls = []

    async def greet(ctx: StepContext[Any, Any]) -> Any:
        calls.append(ctx.run_id)
        return ctx.input

    workflow = Workflow("greet", input=int).step("greet", greet).wait_for_signal("go")
    async with (
        Engine(place.store(), [workflow], migrate=True) as engine,
        engine.worker(),
        place.connected() as conn,
    ):
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute(INSERT, 1)
        await engine.start(workflow, 1, id="lost", conn=conn)
        await transaction.rollback()

        async with conn.transaction():
            await conn.execute(INSERT, 2)
            run = await engine.start(workflow, 2, id="a", conn=conn)
            assert await engine.start(workflow, 2, id="a", conn=conn) == run
            others = await engine.start_many([(workflow, 3), Start(workflow, 4, id="c")], conn=conn)
            await engine.signal("a", "go", "early", conn=conn)
            with pytest.raises(RunNotFoundError):
                await engine.signal("nobody", "go", conn=conn)
            with pytest.raises(RunNotFoundError):
                await run.info()
            assert (calls, await place.mine()) == ([], [])
        assert await run.result(timeout=PATIENCE_S) == {"greet": 2, "go": "early"}

        async with conn.transaction():
            await conn.execute(INSERT, 3)
            await engine.signal(others[0].id, "go", "late", conn=conn)
            await engine.cancel("c", conn=conn)
            await engine.cancel("c", conn=conn)
        assert await others[0].result(timeout=PATIENCE_S) == {"greet": 3, "go": "late"}
        with pytest.raises(RunCancelled):
            await others[1].result(timeout=PATIENCE_S)

        transaction = conn.transaction()
        await transaction.start()
        await engine.cancel("a", conn=conn)
        with pytest.raises(RunFinishedError):
            await engine.signal("a", "go", conn=conn)
        await transaction.rollback()
        with pytest.raises(RunNotFoundError):
            await engine.run("lost").info()
    assert await place.mine() == [2, 3]
    assert sorted(calls) == sorted(["a", "c", others[0].id])
