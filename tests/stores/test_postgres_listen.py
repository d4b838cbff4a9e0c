"""wait_for_work on Postgres: what is heard, how often, and what happens to a line that dies."""

from __future__ import annotations

import asyncio
import os
import signal as signals
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import attrs
import pytest
from tests.postgres_kit import MAJORS
from tests.stores.pg_kit import PATIENCE_S, Place, at_peace, impatient, on_postgres, until
from tests.torment.proxy import Proxy

from durable_core.errors import DurableError, StoreUnavailableError
from durable_core.store import DeliverVerdict
from durable_core.testing.contract_kit import (
    commit_all,
    finish,
    let_go,
    new_run,
    request,
    signal,
    started,
    step,
)
from durable_core.testing.postgres import QUICK, PostgresServer
from durable_core.testing.postgres_binaries import find_binaries
from durable_pg import PgStore, listen, queries
from durable_pg.connection import VERBS_AT_ONCE
from durable_pg.schema_name import SchemaName

pytestmark = on_postgres

HEARS_MS = 10_000
"""Enough for what must be heard."""
CARRY = "SELECT ring_v1($1, $2)"
NOTIFY_LOCK = """
SELECT FROM pg_locks
WHERE locktype = 'object' AND database = 0 AND classid = 'pg_database'::regclass AND objid = 0
    AND granted
"""
SOMEBODY_WAITS = "SELECT FROM pg_locks WHERE NOT granted"
LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query ILIKE 'LISTEN%'"


@pytest.fixture
async def store(place: Place) -> AsyncIterator[PgStore]:
    async with place.opened() as store:
        yield store


@pytest.fixture
async def other(store: PgStore, place: Place) -> AsyncIterator[PgStore]:
    """Another store in the same schema."""
    async with place.opened() as other:
        yield other


@asynccontextmanager
async def closing(connection: Any) -> AsyncIterator[Any]:
    """It is closed at the end."""
    try:
        yield connection
    finally:
        await connection.close()


def rings_sent(store: PgStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this store sends by itself from now on."""
    connections, sent = store._checked().connections, list[str]()
    fetch = connections.fetch

    async def watched(sql: str, *args: Any) -> list[Any]:
        if sql == queries.NOTIFY:
            sent.append(sql)
        return await fetch(sql, *args)

    monkeypatch.setattr(connections, "fetch", watched)
    return sent


async def has_rung_at_once(store: PgStore, other: PgStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its next ring may travel; and all is quiet again. However slow this machine is."""
    monkeypatch.setattr(listen, "QUICK_S", PATIENCE_S)
    monkeypatch.setattr(listen, "SLOW_S", PATIENCE_S)
    await store.create([new_run("a first one", queue="unserved")])
    await at_peace(store, other)


# --- what is heard ---------------------------------------------------------------------------


async def test_own_changes_are_not_heard(store: PgStore) -> None:
    await at_peace(store)
    await started(store)
    await commit_all(store, [let_go()])
    await store.deliver([signal()])
    assert not await store.wait_for_work(100)


async def test_what_gives_others_something_to_do_is_heard(store: PgStore, other: PgStore) -> None:
    await started(store)
    await store.deliver([signal()])
    await at_peace(store, other)
    news = {
        "a start": store.create([new_run("r2")]),
        "a message": store.deliver([signal()]),
        "a child": store.commit([step(children=(new_run("c"),))]),
        "a message to another": store.commit([step(after_seq=1, messages=(signal("c"),))]),
        "a run given back": store.commit([let_go(after_seq=2)]),
    }
    for what, verb in news.items():
        await verb
        if what != "a run given back":
            assert await other.wait_for_work(HEARS_MS), what
            await at_peace(store, other)
    # Nobody is to begin what waits for a message.
    assert not await other.wait_for_work(100)


async def test_an_end_is_heard(store: PgStore, other: PgStore) -> None:
    await started(store)
    await at_peace(store, other)
    await commit_all(store, [step()])
    assert not await other.wait_for_work(100), "a step concerns nobody else"
    await commit_all(store, [finish(after_seq=1)])
    assert await other.wait_for_work(HEARS_MS)


async def test_every_waiter_hears_of_one_change(store: PgStore, other: PgStore) -> None:
    await at_peace(store, other)
    waiting = [asyncio.ensure_future(store.wait_for_work(None)) for _ in range(3)]
    await asyncio.sleep(0)
    await other.create([new_run()])
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*waiting) == [True, True, True]
    assert not await store.wait_for_work(0), "and nobody hears of it twice"


async def test_many_waiters_share_one_connection(place: Place) -> None:
    async with place.opened() as store:
        await asyncio.gather(*(store.wait_for_work(20) for _ in range(20)))
        assert len(await place.eyes.fetch(LISTENERS)) == 1
    await until(place.nobody_is_connected)


async def test_many_changes_ring_seldom(store: PgStore, other: PgStore, place: Place) -> None:
    """A NOTIFY makes all commits of the cluster queue, so there are few, but always a last one."""
    heard: list[Any] = []
    async with place.connected() as ear:
        await ear.add_listener(SchemaName(place.schema).channel, lambda *args: heard.append(args))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(200):
            await store.create([new_run(str(number))])
        lasted = loop.time() - begun
        await at_peace(store, other)
        await ear.fetch("SELECT 1")
        assert 1 <= len(heard) <= 2 + lasted / listen.REST_S


# --- rings that travel with a verb -------------------------------------------------------------


async def test_where_it_is_quiet_a_start_and_a_message_take_their_ring_along(
    store: PgStore, other: PgStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is sent, and it is heard."""
    await has_rung_at_once(store, other, monkeypatch)
    sent = rings_sent(store, monkeypatch)
    await store.create([new_run("a"), new_run("b")])
    assert await other.wait_for_work(HEARS_MS)
    await at_peace(store, other)
    await store.deliver([signal("a"), signal("b")])
    assert await other.wait_for_work(HEARS_MS)
    await at_peace(store, other)
    assert sent == []


async def test_soon_after_a_ring_the_next_is_sent_when_it_is_time(
    store: PgStore, other: PgStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await has_rung_at_once(store, other, monkeypatch)
    sent = rings_sent(store, monkeypatch)
    await store.create([new_run("a")])
    await store.create([new_run("b")])
    assert sent == []
    await at_peace(store, other)
    assert len(sent) == 1


async def test_one_verb_at_a_time_takes_its_ring_along(
    store: PgStore, other: PgStore, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No start waits for the flush of another: who comes meanwhile sends its ring afterwards."""
    await has_rung_at_once(store, other, monkeypatch)
    sent = rings_sent(store, monkeypatch)
    async with place.connected() as third, third.transaction():
        assert await third.fetchval(CARRY, "elsewhere", "third")
        await store.create([new_run()])
        assert await other.wait_for_work(HEARS_MS)
        assert len(sent) == 1


async def test_what_changes_nothing_rings_nobody(
    store: PgStore, other: PgStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.create([new_run("a")])
    await has_rung_at_once(store, other, monkeypatch)
    await store.create([new_run("a")])
    await store.deliver([signal("nobody")])
    assert not await other.wait_for_work(100)


async def test_many_starts_at_once_ring_seldom_too(
    store: PgStore, other: PgStore, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though all of them were called when it was quiet."""
    heard: list[Any] = []
    await has_rung_at_once(store, other, monkeypatch)
    async with place.connected() as ear:
        await ear.add_listener(SchemaName(place.schema).channel, lambda *args: heard.append(args))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await asyncio.gather(*(store.create([new_run(str(number))]) for number in range(300)))
        lasted = loop.time() - begun
        await at_peace(store, other)
        await ear.fetch("SELECT 1")
        assert 1 <= len(heard) <= 2 + VERBS_AT_ONCE + lasted / listen.REST_S


@asynccontextmanager
async def somebody_is_flushed_for_long(dsn: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A commit with a NOTIFY stands still in its flush, until what this gives is called."""
    async with (
        closing(await asyncpg.connect(dsn)) as eyes,
        closing(await asyncpg.connect(dsn)) as it,
    ):
        await it.execute("SET commit_delay = 100000; SET commit_siblings = 0")
        await it.execute("CREATE TABLE IF NOT EXISTS public.flushed (x int)")
        committing: list[asyncio.Future[Any]] = []

        async def stopped() -> bool:
            """In its flush, which takes a tenth of a second; else another one is begun."""
            await free()
            sql = "INSERT INTO public.flushed VALUES (1); NOTIFY flushed"
            committing.append(asyncio.ensure_future(it.execute(sql)))
            while not committing[-1].done() and not await eyes.fetch(NOTIFY_LOCK):
                pass
            os.kill(it.get_server_pid(), signals.SIGSTOP)
            return bool(await eyes.fetch(NOTIFY_LOCK))

        async def free() -> None:
            os.kill(it.get_server_pid(), signals.SIGCONT)
            await asyncio.gather(*committing)

        try:
            await until(stopped)
            yield free
        finally:
            await free()


@pytest.mark.parametrize("fails", [False, True])
async def test_where_rings_wait_for_others_starts_do_not(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first start to meet somebody's NOTIFY waits with its ring; after that, rings go alone
    until one is answered at once."""
    binaries = find_binaries(MAJORS[0])
    assert binaries is not None
    async with AsyncExitStack() as stack:
        server = stack.enter_context(PostgresServer(binaries, settings={"fsync": "on"}))
        store, other = PgStore(server.dsn()), PgStore(server.dsn())
        for one in (store, other):
            await one.open(migrate=True)
            stack.push_async_callback(one.close)
        await has_rung_at_once(store, other, monkeypatch)
        eyes = await stack.enter_async_context(closing(await asyncpg.connect(server.dsn())))
        stack.enter_context(impatient(store, 0.5 if fails else PATIENCE_S))
        sent = rings_sent(store, monkeypatch)
        async with somebody_is_flushed_for_long(server.dsn()) as free:
            first = asyncio.ensure_future(store.create([new_run("first")]))
            await until(lambda: eyes.fetch(SOMEBODY_WAITS))
            if fails:
                with pytest.raises(StoreUnavailableError):
                    await first
            else:
                monkeypatch.setattr(listen, "SLOW_S", 0.01)
                await asyncio.sleep(0.02)
                await free()
                await first
        monkeypatch.setattr(listen, "SLOW_S", PATIENCE_S)
        for run_id in ("second", "third"):
            await at_peace(store, other)
            await store.create([new_run(run_id)])
            assert await other.wait_for_work(HEARS_MS)
            await at_peace(store, other)
            assert len(sent) == 1, "by the second; the third takes its ring along again"


async def test_relaxed_commits_take_no_ring_along(
    other: PgStore, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for no flush, so they are not to wait for another's."""
    async with place.opened(durability="relaxed") as store:
        await has_rung_at_once(store, other, monkeypatch)
        sent = rings_sent(store, monkeypatch)
        await store.create([new_run()])
        assert await other.wait_for_work(HEARS_MS)
        assert len(sent) == 1


async def test_while_a_verb_waits_for_a_run_others_may_take_their_rings_along(
    store: PgStore, other: PgStore, place: Place
) -> None:
    """An answer to a token waits for the transaction of whoever has the run."""
    await started(store)
    await commit_all(store, [let_go(n=1, tokens_opened=("t",))])
    await at_peace(store, other)
    async with place.connected() as holder:
        async with holder.transaction():
            assert await holder.fetch("SELECT FROM lease FOR UPDATE")
            waits = asyncio.ensure_future(store.deliver([signal(token="t")]))
            await until(lambda: place.eyes.fetch(SOMEBODY_WAITS))
            async with place.connected() as third, third.transaction():
                assert await third.fetchval(CARRY, "elsewhere", "third")
        assert len(await waits) == 1
    assert await other.wait_for_work(HEARS_MS)


async def test_what_is_undone_was_not_rung_for(store: PgStore, place: Place) -> None:
    """The ring is part of the transaction."""
    await at_peace(store)
    async with place.connected() as third:
        doomed = third.transaction()
        await doomed.start()
        assert await third.fetchval(CARRY, SchemaName(place.schema).channel, "third")
        await doomed.rollback()
    assert not await store.wait_for_work(100)


async def test_a_queue_of_rings_that_is_full_fails_no_start() -> None:
    """Somebody listens, and never reads: from then on Postgres keeps every NOTIFY."""
    binaries = find_binaries(MAJORS[0])
    assert binaries is not None and MAJORS[0] >= 17, "since when the queue can be made small"
    with PostgresServer(binaries, settings={**QUICK, "max_notify_queue_pages": "64"}) as server:
        idler, filler = [await asyncpg.connect(server.dsn()) for _ in range(2)]
        for sql in ("LISTEN forever", "BEGIN", "SELECT 1"):
            await idler.execute(sql)
        async with AsyncExitStack() as stack:
            store = PgStore(server.dsn())
            await store.open(migrate=True)
            stack.push_async_callback(store.close)
            with pytest.raises(asyncpg.ProgramLimitExceededError):
                while True:
                    await filler.execute(queries.NOTIFY.replace("$1, $2", "'x', repeat('y', 7000)"))
            for number in range(3):
                (created,) = await store.create([new_run(str(number))])
                assert created.created
                assert await store.deliver([signal(str(number))]) == (DeliverVerdict.DELIVERED,)
                await asyncio.sleep(2 * listen.REST_S)  # it is quiet again
        await idler.close()
        await filler.close()


async def test_of_runs_created_with_their_leases_others_hear_but_more_seldom(
    store: PgStore, other: PgStore, place: Place
) -> None:
    """There is nothing to do for them, but they must know when to look whether those run out."""
    heard: list[Any] = []
    await at_peace(store, other)
    async with place.connected() as ear:
        await ear.add_listener(SchemaName(place.schema).channel, lambda *args: heard.append(args))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(100):
            await store.create([new_run(str(number), owner="w", lease_ms=1_000, epoch=7)])
        lasted = loop.time() - begun
        assert await other.wait_for_work(HEARS_MS)
        await ear.fetch("SELECT 1")
        assert 1 <= len(heard) <= 2 + lasted / listen.SELDOM_S


async def test_of_runs_leased_by_a_delivery_others_hear_but_more_seldom(
    store: PgStore, other: PgStore, place: Place
) -> None:
    heard: list[Any] = []
    run_ids = [str(number) for number in range(100)]
    await store.create([new_run(run_id, delay_ms=60_000) for run_id in run_ids])
    await at_peace(store, other)
    async with place.connected() as ear:
        await ear.add_listener(SchemaName(place.schema).channel, lambda *args: heard.append(args))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for run_id in run_ids:
            delivery = await store.deliver_and_claim([signal(run_id)], request())
            assert len(delivery.runs) == 1
        lasted = loop.time() - begun
        assert await other.wait_for_work(HEARS_MS)
        await ear.fetch("SELECT 1")
        assert 1 <= len(heard) <= 2 + lasted / listen.SELDOM_S


async def test_of_a_message_whose_run_was_not_leased_others_hear_at_once(
    store: PgStore, other: PgStore
) -> None:
    """Whoever has it, or may have it, is among them."""
    await store.create([new_run("theirs", queue="theirs"), new_run("ours", delay_ms=60_000)])
    await store.deliver_and_claim([signal("ours")], request())  # no seldom ring for a while
    await at_peace(store, other)
    delivery = await store.deliver_and_claim([signal("theirs")], request())
    assert delivery.runs == ()
    assert await other.wait_for_work(round(listen.SELDOM_S * 500))
    await at_peace(store, other)
    nobody = await store.deliver_and_claim([signal("nobody")], request())
    assert nobody.runs == () and not await other.wait_for_work(20)


async def test_the_last_ring_is_sent_though_the_store_closes_at_once(place: Place) -> None:
    async with place.opened() as other:
        for number in range(10):
            async with place.opened() as store:
                await at_peace(store, other)
                await store.create([new_run(f"{number}-a")])
                if number % 2:
                    assert await other.wait_for_work(HEARS_MS)
                    await at_peace(store, other)
                    await store.create([new_run(f"{number}-b")])
            assert await other.wait_for_work(HEARS_MS), number


async def test_a_store_behind_a_pooler_is_heard_though_it_hears_nothing(place: Place) -> None:
    async with place.opened() as store, place.opened(pooler=True) as pooled:
        await at_peace(store)
        await pooled.create([new_run()])
        assert await store.wait_for_work(HEARS_MS)
        assert await pooled.wait_for_work(1_000), "it looks by itself"


async def test_without_listening_nobody_listens(place: Place) -> None:
    async with place.opened(listen=False) as store:
        loop = asyncio.get_running_loop()
        assert not await store.wait_for_work(20)
        begun = loop.time()
        assert await store.wait_for_work(None), "somebody may have changed something"
        assert loop.time() - begun > 0.5 * listen.POLL_S
        await store.create([new_run()])
        assert await place.eyes.fetch(LISTENERS) == []


# --- closing ---------------------------------------------------------------------------------


async def test_closing_ends_every_wait(place: Place) -> None:
    tasks = asyncio.all_tasks()
    async with place.opened() as store:
        await at_peace(store)
        waiting = [asyncio.ensure_future(store.wait_for_work(None)) for _ in range(3)]
        await asyncio.sleep(0)
        await store.close()
        for wait in waiting:
            with pytest.raises(DurableError, match="not open"):
                async with asyncio.timeout(PATIENCE_S):
                    await wait
    await until(place.nobody_is_connected)
    assert asyncio.all_tasks() == tasks


async def test_closing_while_somebody_begins_to_listen_leaves_nothing(place: Place) -> None:
    tasks = asyncio.all_tasks()
    for turns in range(15):
        async with place.opened() as store:
            waiting = asyncio.ensure_future(store.wait_for_work(None))
            for _ in range(turns):
                await asyncio.wait({waiting}, timeout=0.0005)
            await store.close()
            await asyncio.wait({waiting}, timeout=PATIENCE_S)
            assert waiting.done()
            assert waiting.exception() is None or "not open" in str(waiting.exception())
    await until(place.nobody_is_connected)
    assert asyncio.all_tasks() == tasks


async def test_cancelling_whoever_begins_to_listen_leaves_the_others_to_it(
    store: PgStore, other: PgStore, place: Place
) -> None:
    waits = [asyncio.ensure_future(store.wait_for_work(0)) for _ in range(5)]
    for number, wait in enumerate(waits[:4]):
        for _ in range(number):
            await asyncio.sleep(0)
        wait.cancel()
    await asyncio.wait(waits)
    await at_peace(store)
    await other.create([new_run()])
    assert await store.wait_for_work(HEARS_MS)
    assert len(await place.eyes.fetch(LISTENERS)) == 1


# --- lines that die --------------------------------------------------------------------------


async def test_a_connection_that_was_killed_is_noticed_and_replaced(
    store: PgStore, other: PgStore, place: Place
) -> None:
    for number in range(3):
        await at_peace(store)
        waiting = asyncio.ensure_future(store.wait_for_work(None))
        await asyncio.sleep(0)
        await place.eyes.fetch(f"SELECT pg_terminate_backend(pid, 10000) FROM ({LISTENERS}) AS l")
        async with asyncio.timeout(PATIENCE_S):
            assert await waiting, "who knows what was missed"
        assert await store.wait_for_work(HEARS_MS), "nor what was missed until it was replaced"
        await at_peace(store)
        await other.create([new_run(str(number))])
        assert await store.wait_for_work(HEARS_MS)


async def test_a_line_that_is_silently_dead_is_found_out(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "SILENCE_S", 0.05)
    monkeypatch.setattr(listen, "ANSWER_S", 0.05)
    with Proxy(place.dsn) as proxy:
        async with place.opened(dsn=proxy.dsn) as store:
            await at_peace(store)
            proxy.go_dark()
            async with asyncio.timeout(PATIENCE_S):
                assert await store.wait_for_work(None)
            with (
                impatient(store, 0.2),
                pytest.raises(StoreUnavailableError, match="did not answer in time"),
            ):
                await store.wait_for_work(None)
            proxy.go_light()
            assert await store.wait_for_work(HEARS_MS)
            await at_peace(store)
            async with place.opened() as other:
                await other.create([new_run()])
                assert await store.wait_for_work(HEARS_MS)


async def test_a_line_that_is_only_silent_is_kept(
    store: PgStore, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "SILENCE_S", 0.02)
    await at_peace(store)
    before = await place.eyes.fetch(LISTENERS)
    assert not await store.wait_for_work(100), "it was asked, and answered"
    asked = "SELECT pid FROM pg_stat_activity WHERE query = $1 AND pid <> pg_backend_pid()"
    assert await place.eyes.fetch(asked, queries.ALIVE) == before


async def test_a_wait_is_over_in_time_though_the_line_is_dead(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "SILENCE_S", 0.02)
    with Proxy(place.dsn) as proxy:
        async with place.opened(dsn=proxy.dsn) as store:
            await at_peace(store)
            proxy.go_dark()
            loop = asyncio.get_running_loop()
            begun = loop.time()
            assert not await store.wait_for_work(100)
            assert loop.time() - begun < 2
            proxy.go_light()


async def test_a_server_that_cannot_be_reached_is_named(place: Place) -> None:
    async with place.opened() as store:
        away = attrs.evolve(store._address, dsn="postgresql://ada:secret@127.0.0.1:1/shop")
        store._checked().connections.address = away
        with pytest.raises(StoreUnavailableError, match="cannot be reached") as caught:
            await store.wait_for_work(HEARS_MS)
        assert "secret" not in str(caught.value)
