"""A SqliteStore's threads, tasks and processes: nothing is torn, left behind, or used astray."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from pathlib import Path

import pytest
from tests.stores.sqlite_kit import locked, nobody_holds_the_lock, opened

from durable_core.errors import DurableError
from durable_core.testing.contract_kit import (
    claim,
    finish,
    ids,
    let_go,
    new_run,
    signal,
    started,
    step,
)
from durable_sqlite import SqliteStore
from durable_sqlite.connection import in_thread


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


async def test_closing_ends_every_thread(tmp_path: Path) -> None:
    before = threads()
    async with opened(tmp_path / "a.db") as store:
        assert len(threads() - before) == 2
        await store.create([new_run()])
    for thread in threads() - before:
        thread.join(10)
    assert threads() <= before


async def test_a_store_that_could_not_open_leaves_nothing(tmp_path: Path) -> None:
    before = threads()
    for path in (tmp_path, tmp_path / "nowhere" / "a.db"):
        with pytest.raises(DurableError):
            await SqliteStore(path).open()
    for thread in threads() - before:
        thread.join(10)
    assert threads() <= before


async def test_a_cancelled_open_leaves_nothing(tmp_path: Path) -> None:
    before = threads()
    for turns in range(30):
        store = SqliteStore(tmp_path / "a.db", synchronous="OFF")
        task = asyncio.ensure_future(store.open())
        for _ in range(turns):
            await asyncio.wait({task}, timeout=0.0002)
        task.cancel()
        await asyncio.wait({task})
        await store.close()
    async with opened(tmp_path / "a.db") as store:
        await store.create([new_run()])
    while asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
    for thread in threads() - before:
        thread.join(10)
    assert threads() <= before


async def test_closing_lets_what_is_under_way_finish(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as store:
        creating = asyncio.ensure_future(store.create([new_run(f"r{i}") for i in range(200)]))
        await asyncio.sleep(0)
        await store.close()
        assert len(await creating) == 200
    async with opened(path) as store:
        assert len(await store.get([f"r{i}" for i in range(200)])) == 200


async def test_closing_does_not_wait_long_for_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_sqlite.connection.LAST_TRIES_S", 0.01)
    path = tmp_path / "a.db"
    async with opened(path) as store:
        with locked(path):
            creating = asyncio.ensure_future(store.create([new_run()]))
            await asyncio.sleep(0)
            await store.close()
            with pytest.raises(DurableError, match="locked"):
                await creating


async def test_cancelling_verbs_at_any_moment_tears_nothing(tmp_path: Path) -> None:
    """600 cancelled batches: each is whole or absent, and none holds the lock afterwards."""
    path = tmp_path / "a.db"
    chance = random.Random(7)
    landed = after = 0
    async with opened(path) as store:
        await started(store, "held")
        for number in range(600):
            children = tuple(new_run(f"{number}-{i}", attributes={"k": "1"}) for i in range(5))
            steps = step("held", after_seq=after, children=children, n=2)
            commits = chance.random() < 0.5
            task: asyncio.Future[object] = asyncio.ensure_future(
                store.commit([steps]) if commits else store.create(children)
            )
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            if number % 20 == 0:
                assert not await in_thread(store._checked().writer, lambda c: c.in_transaction)
                assert nobody_holds_the_lock(path)
            await store.settled([])  # behind whatever is under way
            there = await store.get([child.run_id for child in children])
            entries = (await store.get(["held"]))["held"].entry_count
            assert len(there) in (0, 5)
            assert entries - after == (2 if there and commits else 0)
            landed += bool(there)
            after = entries
        assert [e.seq for e in await store.journal("held", limit=10_000)] == [*range(1, after + 1)]
        assert 100 < landed < 600, "to cancel is not to roll back"


async def test_cancelled_commits_can_be_asked_about(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        await started(store)
        for number in range(30):
            commit = step(after_seq=number)
            task = asyncio.ensure_future(store.commit([commit]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            (verdict,) = await store.settled([commit])
            if verdict.value == "conflict":
                await store.commit([commit])
            assert len(await store.journal("r1")) == number + 1


async def test_another_event_loop_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        await store.create([new_run()])

        async def astray() -> None:
            for verb in (store.get(["r1"]), store.claim, store.wait_for_work(0), store.open()):
                with pytest.raises(DurableError, match=r"event loop.*twin"):
                    await (claim(store) if callable(verb) else verb)

        async def at_home() -> list[str]:
            twin = store.twin()
            await twin.open()
            try:
                return ids(await claim(twin))
            finally:
                await twin.close()

        await asyncio.to_thread(asyncio.run, astray())
        assert await asyncio.to_thread(asyncio.run, at_home()) == ["r1"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
async def test_use_after_a_fork_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        await store.create([new_run()])
        child = os.fork()
        if child == 0:
            # In the child nothing may be awaited but what fails at once; leave without cleanup.
            code = 1
            try:
                store.get(["r1"]).send(None)
            except DurableError as error:
                code = 0 if "fork" in str(error) else 2
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert set(await store.get(["r1"])) == {"r1"}


# --- waiting ---------------------------------------------------------------------------------


async def test_own_commits_wake_nobody(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        assert not await store.wait_for_work(0)
        await started(store)
        await store.commit([let_go()])
        await store.deliver([signal()])
        assert not await store.wait_for_work(0)


@pytest.mark.parametrize("memory", [False, True])
async def test_every_waiter_hears_of_one_change(tmp_path: Path, memory: bool) -> None:
    async with opened(":memory:" if memory else tmp_path / "a.db") as store:
        twin = store.twin()
        await twin.open()
        while await store.wait_for_work(0):
            pass
        waiting = [asyncio.ensure_future(store.wait_for_work(None)) for _ in range(3)]
        await asyncio.sleep(0)
        await twin.create([new_run()])
        assert await asyncio.gather(*waiting) == [True, True, True]
        await twin.close()


async def test_twins_in_memory_share_the_database() -> None:
    async with opened(":memory:") as store, opened(":memory:") as stranger:
        twin = store.twin()
        await twin.open()
        await started(store)
        await store.close()
        assert set(await twin.get(["r1"])) == {"r1"}
        assert (await twin.commit([finish()])).verdicts[0].value == "applied"
        assert await stranger.get(["r1"]) == {}
        await twin.close()
