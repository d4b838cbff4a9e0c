"""A PgStore's connections, tasks, loops and processes: nothing is torn, left behind, or astray."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from tests.stores.pg_kit import Place, all_done, cancelled, on_postgres, somebody_waits, until

from durable_core.errors import DurableError, SchemaVersionError, StoreUnavailableError
from durable_core.testing.contract_kit import (
    claim,
    ids,
    lease,
    new_run,
    request,
    signal,
    started,
    step,
)

pytestmark = on_postgres

INSERT = "INSERT INTO mine VALUES ($1)"


# --- open and closed -------------------------------------------------------------------------


async def test_a_closed_store_says_so(place: Place) -> None:
    async with place.opened():
        pass
    store = place.store()
    for _ in range(2):
        with pytest.raises(DurableError, match="not open"):
            await store.get(["r1"])
        with pytest.raises(DurableError, match="not open"):
            store.transaction(lease())
        await store.open()
        await store.open()
        assert await store.get(["r1"]) == {}
        await store.close()
        await store.close()


async def test_closing_ends_every_connection(place: Place) -> None:
    async with place.opened() as store:
        await started(store)
        await asyncio.gather(*(store.get([str(number)]) for number in range(20)))
        await store.wait_for_work(0)
        async with store.transaction(lease()) as transaction:
            await transaction.commit(step())
        assert 4 <= await place.sessions() <= 6
    await until(place.nobody_is_connected)


async def test_a_store_that_could_not_open_leaves_nothing(place: Place) -> None:
    tasks = asyncio.all_tasks()
    with pytest.raises(SchemaVersionError):
        await place.store().open()
    await until(place.nobody_is_connected)
    assert asyncio.all_tasks() == tasks


async def test_a_cancelled_open_leaves_nothing(place: Place) -> None:
    tasks = asyncio.all_tasks()
    for turns in range(0, 60, 2):
        store = place.store()
        task = asyncio.ensure_future(store.open(migrate=True))
        for _ in range(turns):
            await asyncio.wait({task}, timeout=0.0005)
        task.cancel()
        await asyncio.wait({task})
        await store.close()
    await until(place.nobody_is_connected)
    assert asyncio.all_tasks() == tasks
    async with place.opened() as store:
        await store.create([new_run()])


async def test_two_tasks_may_open_at_once(place: Place) -> None:
    async with place.opened():
        pass
    store = place.store()
    await asyncio.gather(*(store.open() for _ in range(5)))
    assert await store.get(["r1"]) == {}
    await store.close()
    await until(place.nobody_is_connected)


async def test_closing_lets_what_is_under_way_finish(place: Place) -> None:
    many = [f"r{i}" for i in range(200)]
    async with place.opened() as store:
        creating = [asyncio.ensure_future(store.create([new_run(run_id)])) for run_id in many]
        await asyncio.sleep(0)
        await store.close()
        for created in creating:
            assert (await created)[0].created
    async with place.opened() as store:
        assert len(await store.get(many)) == 200


async def test_closing_does_not_wait_long_for_a_lock(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_pg.connection.CLOSE_S", 0.05)
    tasks = asyncio.all_tasks()
    async with place.opened() as store, place.connected() as other:
        await started(store)
        async with other.transaction():
            await other.execute("SELECT FROM lease FOR UPDATE")
            committing = asyncio.ensure_future(store.commit([step()]))
            await until(lambda: somebody_waits(place))
            await store.close()
            with pytest.raises(StoreUnavailableError, match="connection") as caught:
                await committing
            assert caught.value.outcome_unknown
            assert asyncio.all_tasks() == tasks
    await place.comes_to_rest()


async def test_closing_takes_connections_away_from_handlers_that_do_not_end(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_pg.connection.CLOSE_S", 0.05)
    async with place.opened() as store:
        await started(store)
        unentered = store.transaction(lease())
        async with store.transaction(lease()) as transaction:
            await transaction.conn.execute(INSERT, 1)
            await store.close()
            with pytest.raises(asyncpg.InterfaceError):
                await transaction.conn.execute(INSERT, 2)
            with pytest.raises(DurableError, match="was closed"):
                await transaction.commit(step())
        with pytest.raises(DurableError, match="not open"):
            async with unentered:
                raise AssertionError("the block must not run")
    await until(place.nobody_is_connected)
    assert await place.mine() == []


# --- loops and processes ---------------------------------------------------------------------


async def test_another_event_loop_is_refused(place: Place) -> None:
    async with place.opened() as store:
        await store.create([new_run()])

        async def astray() -> None:
            verbs = (store.get([]), store.create([]), store.deliver([]), store.wait_for_work(0))
            for verb in (*verbs, claim(store), store.open(), store.close()):
                with pytest.raises(DurableError, match=r"event loop.*twin"):
                    await verb

        async def at_home() -> list[str]:
            twin = store.twin()
            await twin.open()
            try:
                return ids(await claim(twin))
            finally:
                await twin.close()

        await asyncio.to_thread(asyncio.run, astray())
        assert await asyncio.to_thread(asyncio.run, at_home()) == ["r1"]
        assert set(await store.get(["r1"])) == {"r1"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
async def test_use_after_a_fork_is_refused(place: Place) -> None:
    async with place.opened() as store:
        await store.create([new_run()])
        await store.wait_for_work(0)
        child = os.fork()
        if child == 0:
            # In the child nothing may be awaited but what fails at once; leave without cleanup.
            code = 1
            try:
                store.get(["r1"]).send(None)
            except DurableError as error:
                code = 0 if "fork" in str(error) else 2
            try:
                store.close().send(None)  # and says goodbye to nobody in the parent's name
            except StopIteration:
                pass
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert set(await store.get(["r1"])) == {"r1"}
        assert ids(await claim(store)) == ["r1"]


# --- cancelled verbs -------------------------------------------------------------------------


@pytest.mark.parametrize(("way", "times"), [("functions", 300), ("plain", 100), ("pooler", 100)])
async def test_cancelling_verbs_at_any_moment_tears_nothing(
    place: Place, way: str, times: int
) -> None:
    """Cancelled batches: each is whole or absent, and no transaction stays open."""
    chance = random.Random(7)
    landed = after = mail = 0
    async with place.opened(plain=way == "plain", pooler=way == "pooler") as store:
        await started(store, "held")
        for number in range(times):
            children = tuple(new_run(f"{number}-{i}", attributes={"k": "1"}) for i in range(5))
            run_ids = [child.run_id for child in children]
            steps = step("held", after_seq=after, children=children, n=2)
            messages = [signal("held")] * 3
            verbs: list[tuple[Callable[..., Any], Any]] = [
                (store.create, children),
                (store.commit, [steps]),
                (store.deliver, messages),
                (store.claim, request(worker=f"w{number}", limit=5)),
            ]
            verb, argument = chance.choice(verbs)
            await cancelled(verb(argument), chance.randrange(9))
            if number % 10 == 0:
                await place.comes_to_rest()
            await all_done(store)
            there = await store.get(run_ids)
            entries = (await store.get(["held"]))["held"].entry_count
            arrived = len((await store.inbox([lease("held")])).get("held", ()))
            owned = await place.eyes.fetchval(
                "SELECT count(*) FROM lease WHERE owner = $1", f"w{number}"
            )
            left = await place.eyes.fetchval("SELECT count(*) FROM lease WHERE owner IS NULL")
            assert len(there) in (0, 5)
            assert (entries - after, len(there)) in ((0, 0), (2, 5), (0, 5))
            assert arrived - mail in (0, 3)
            assert owned in (0, 5) or left == 0
            landed += bool(there) + (arrived > mail) + (owned > 0)
            after, mail = entries, arrived
        assert [e.seq for e in await store.journal("held", limit=10_000)] == [*range(1, after + 1)]
        assert times / 6 < landed < times, "to cancel is not to roll back"
    await until(place.nobody_is_connected)


async def test_cancelled_commits_can_be_asked_about(place: Place) -> None:
    async with place.opened() as store:
        await started(store)
        for number in range(30):
            commit = step(after_seq=number)
            await cancelled(store.commit([commit]), 2 + number % 7)
            await all_done(store)
            (verdict,) = await store.settled([commit])
            if verdict.value == "conflict":
                await store.commit([commit])
            assert len(await store.journal("r1")) == number + 1
