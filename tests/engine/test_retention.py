"""Retention: ended runs are removed when asked, and by workers on a schedule, on virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.engine.stage import ONCE

from durable_core import (
    DurableError,
    Engine,
    Host,
    Retention,
    RunNotFoundError,
    StepContext,
    StoreUnavailableError,
    TerminalError,
    Workflow,
)
from durable_core.store import Store
from durable_core.testing.memory import MemoryStore
from durable_core.testing.virtual_time import VirtualTime
from durable_sqlite import SqliteStore

Ctx = StepContext[Any, Any]
DAY_S = 24 * 60 * 60


async def one(ctx: Ctx) -> int:
    return 1


async def fails(ctx: Ctx) -> None:
    raise TerminalError("no")


PLAIN = Workflow("plain").step("a", one)
BROKEN = Workflow("broken").step("a", fails, retry=ONCE)


class Counting:
    """A store whose calls are counted and take no virtual time; notes when it was to prune."""

    def __init__(self, store: Store, time: VirtualTime) -> None:
        self._store = store
        self._time = time
        self.calls = 0
        self.pruned_at_s: list[float] = []
        self.faults: list[Exception] = []
        self.takes_s = 0.0

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        return self._outside(verb) if asyncio.iscoroutinefunction(verb) else verb

    def _outside(self, verb: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            self._time.outside += 1
            try:
                return await verb(*args, **kwargs)
            finally:
                self._time.outside -= 1

        return call

    async def wait_for_work(self, timeout_ms: int | None) -> bool:
        """Nobody else is there who could change anything."""
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def prune(self, **facts: Any) -> int:
        self.pruned_at_s.append(self._time.seconds)
        if self.faults:
            raise self.faults.pop(0)
        await asyncio.sleep(self.takes_s)
        removed: int = await self._outside(self._store.prune)(**facts)
        return removed


class Simulation:
    """One database of each kind, on virtual time."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.time = VirtualTime()
        clock = self.time.now_ms
        store: Store = MemoryStore(clock=clock)
        if kind == "sqlite":
            store = SqliteStore(folder / "a.db", clock=clock, synchronous="OFF")
        self.store: Any = Counting(store, self.time)
        self.bytes = iter(range(1 << 30))
        self.host = Host(entropy=self.entropy, fallback_poll_s=None, renew_in_thread=False)

    def entropy(self, count: int) -> bytes:
        """Numbers that are all different, and spread."""
        number = next(self.bytes) * 0x9E3779B97F4A7C15
        return (number % (1 << 8 * count)).to_bytes(count, "big")

    def engine(self, *workflows: Any) -> Engine:
        return Engine(self.store, list(workflows) or [PLAIN, BROKEN], host=self.host)

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Everything in ``main``, in virtual time."""
        loop = self.time.loop()
        try:
            loop.run_until_complete(main())
        finally:
            loop.close()


@pytest.fixture(params=["memory", "sqlite"])
def sim(request: pytest.FixtureRequest, tmp_path: Path) -> Simulation:
    return Simulation(request.param, tmp_path)


async def end(engine: Engine, workflow: Any, run_id: str) -> None:
    """Start it, and wait for its end."""
    run = await engine.start(workflow, id=run_id)
    await run.wait()


async def left(engine: Engine) -> set[str]:
    """Ids of all runs that are there."""
    return {info.id async for info in engine.runs()}


# --- engine.prune ------------------------------------------------------------------------------


def test_runs_that_ended_longer_ago_are_removed(sim: Simulation) -> None:
    async def main() -> None:
        waits = Workflow("waits").wait_for_signal("go")
        async with sim.engine(PLAIN, waits) as engine, engine.worker():
            await engine.start(waits, id="live")
            await end(engine, PLAIN, "old")
            await asyncio.sleep(3_600)
            await end(engine, PLAIN, "young")
            await asyncio.sleep(60)
            assert await engine.prune(older_than=timedelta(hours=2)) == 0
            assert await engine.prune(older_than=timedelta(minutes=30)) == 1
            assert await left(engine) == {"live", "young"}
            for ask in (engine.get, engine.journal, engine.explain, engine.retry, engine.cancel):
                with pytest.raises(RunNotFoundError):
                    await ask("old")
            with pytest.raises(RunNotFoundError):
                await engine.run("old").result()
            assert await engine.prune(older_than=59.5) == 1
            assert await left(engine) == {"live"}

    sim.run(main)


def test_only_runs_that_ended_so_are_removed(sim: Simulation) -> None:
    async def main() -> None:
        async with sim.engine() as engine, engine.worker():
            await end(engine, PLAIN, "good")
            await end(engine, BROKEN, "bad")
            await asyncio.sleep(10)
            assert await engine.prune(older_than=1, status="cancelled") == 0
            assert await engine.prune(older_than=1, status=[]) == 0
            assert await engine.prune(older_than=1, status="failed") == 1
            assert await left(engine) == {"good"}
            assert await engine.prune(older_than=1, status=("failed", "completed")) == 1

    sim.run(main)


def test_what_cannot_be_meant_is_refused(sim: Simulation) -> None:
    async def main() -> None:
        async with sim.engine() as engine:
            for options, about in (
                ({"older_than": -1}, "older_than must not be negative"),
                ({"older_than": float("nan")}, "older_than must be finite"),
                ({"older_than": "30 days"}, "older_than must be a timedelta"),
                ({"older_than": None}, "older_than must be a timedelta"),
                ({"older_than": 1, "status": "running"}, "'cancelled', not 'running'"),
                ({"older_than": 1, "status": ["completed", "gone"]}, "not 'gone'"),
                ({"older_than": 1, "status": 7}, "status must be a status or several"),
                ({"older_than": 1, "batch": 0}, "batch must be between 1"),
                ({"older_than": 1, "batch": True}, "batch must be an int"),
            ):
                with pytest.raises(DurableError, match=about):
                    await engine.prune(**options)
        assert sim.store.pruned_at_s == []

    sim.run(main)


def test_an_engine_that_is_not_open_prunes_nothing(sim: Simulation) -> None:
    async def main() -> None:
        with pytest.raises(DurableError, match="not open"):
            await sim.engine().prune(older_than=1)

    sim.run(main)


@pytest.mark.parametrize("batch", [1, 2, 1_000])
def test_families_go_as_a_whole_whatever_the_batch(sim: Simulation, batch: int) -> None:
    leaf = Workflow("leaf").step("a", one)
    middle = Workflow("middle").child("leaf", leaf)
    root = Workflow("root").child("one", middle).child("two", middle)

    async def main() -> None:
        async with sim.engine(root, middle, leaf) as engine, engine.worker():
            await end(engine, root, "r1")
            await end(engine, root, "r2")
            await asyncio.sleep(10)
            assert await engine.prune(older_than=1, batch=batch) == 10
            assert await left(engine) == set()

    sim.run(main)


def test_what_a_live_parent_may_need_is_kept(sim: Simulation) -> None:
    """The rollback of a parent undoes its completed child, however long that has ended."""
    undone: list[str] = []

    async def undo(ctx: Ctx) -> None:
        undone.append(ctx.unit)

    child = Workflow("child").step("a", one, compensate=undo)
    parent = Workflow("parent").child("c", child).wait_for_signal("go").step("b", fails, retry=ONCE)

    async def main() -> None:
        async with sim.engine(parent, child) as engine, engine.worker():
            run = await engine.start(parent)
            await asyncio.sleep(30 * DAY_S)
            assert await engine.prune(older_than=1) == 0
            await run.signal("go")
            assert (await run.wait()).status == "failed"
            assert undone == ["a"]
            await asyncio.sleep(10)
            assert await engine.prune(older_than=1) == 2

    sim.run(main)


def test_a_new_run_of_a_removed_id_does_not_meet_the_old_ones_children(sim: Simulation) -> None:
    """A child can survive its parent. It must not be taken for the child of another run."""
    calls: list[str] = []

    async def flaky(ctx: Ctx) -> int:
        calls.append(ctx.run_id)
        if len(calls) == 1:
            raise TerminalError("no")
        return 2

    child = Workflow("child").step("a", flaky, retry=ONCE)
    parent = Workflow("parent").child("c", child)

    async def main() -> None:
        async with sim.engine(parent, child) as engine, engine.worker():
            await end(engine, parent, "p")
            await asyncio.sleep(10)
            await engine.retry("p")  # its second child completes
            assert await engine.run("p").result() == {"c": {"a": 2}}
            await asyncio.sleep(10)
            assert await engine.prune(older_than=1, status="completed") == 2
            survivors = await left(engine)
            assert survivors == {calls[0]}  # the child that failed
            run = await engine.start(parent, id="p")
            assert await run.result(timeout=60) == {"c": {"a": 2}}
            assert len(set(calls)) == 3
            await asyncio.sleep(10)
            assert await engine.prune(older_than=1) == 3

    sim.run(main)


def test_a_removed_id_is_started_anew(sim: Simulation) -> None:
    async def main() -> None:
        waits = Workflow("waits").wait_for_signal("go", type=int)
        async with sim.engine(waits) as engine, engine.worker():
            for payload in (1, 2):
                run = await engine.start(waits, payload, id="r")
                await run.signal("go", payload, dedupe_id="once")
                assert await run.result() == {"go": payload}
                assert (await run.info()).input == payload
                await asyncio.sleep(10)
                assert await engine.prune(older_than=1) == 1

    sim.run(main)


def test_others_have_half_of_the_time(sim: Simulation) -> None:
    async def main() -> None:
        async with sim.engine() as engine, engine.worker():
            for number in range(5):
                await end(engine, PLAIN, f"r{number}")
            await asyncio.sleep(10)
            sim.store.takes_s = 2
            began_at = sim.time.seconds
            assert await engine.prune(older_than=1, batch=2) == 5
        begun_at = [round(at - began_at) for at in sim.store.pruned_at_s]
        assert begun_at == [0, 4, 8, 12]  # the last one finds nothing

    sim.run(main)


def test_what_ends_meanwhile_is_not_waited_for(sim: Simulation) -> None:
    """The moment is set at the beginning, so pruning comes to an end on a busy system."""

    async def main() -> None:
        async with sim.engine() as engine, engine.worker():
            await end(engine, PLAIN, "old")
            await asyncio.sleep(1)
            sim.store.takes_s = 5
            pruning = asyncio.ensure_future(engine.prune(older_than=0))
            await asyncio.sleep(2)
            await end(engine, PLAIN, "young")
            assert await pruning == 1
            assert await left(engine) == {"young"}

    sim.run(main)


def test_giving_up_leaves_whole_runs_only(sim: Simulation) -> None:
    async def main() -> None:
        async with sim.engine() as engine, engine.worker():
            for number in range(6):
                await end(engine, PLAIN, f"r{number}")
            await asyncio.sleep(10)
            sim.store.takes_s = 2
            pruning = asyncio.ensure_future(engine.prune(older_than=1, batch=2))
            await asyncio.sleep(5)
            pruning.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pruning
            assert len(await left(engine)) == 4
            for run_id in await left(engine):
                assert await engine.run(run_id).result() == {"a": 1}

    sim.run(main)


# --- worker(retention=...) -----------------------------------------------------------------------


def test_a_worker_removes_what_ended_long_ago(sim: Simulation) -> None:
    async def main() -> None:
        async with sim.engine() as engine, engine.worker(retention=timedelta(days=30)):
            await end(engine, PLAIN, "good")
            await end(engine, BROKEN, "bad")
            await asyncio.sleep(29.9 * DAY_S)
            await end(engine, PLAIN, "young")
            assert await left(engine) == {"good", "bad", "young"}
            await asyncio.sleep(0.1 * DAY_S + 2 * 3_600)
            assert await left(engine) == {"young"}

    sim.run(main)


def test_a_worker_removes_only_what_its_retention_says(sim: Simulation) -> None:
    async def main() -> None:
        retention = Retention(DAY_S, status=["completed", "cancelled"])
        async with sim.engine() as engine, engine.worker(retention=retention):
            await end(engine, PLAIN, "good")
            await end(engine, BROKEN, "bad")
            await asyncio.sleep(2 * DAY_S)
            assert await left(engine) == {"bad"}

    sim.run(main)


@pytest.mark.parametrize(
    ("retention_s", "every_s"), [(60, 6), (3_600, 360), (10 * 3_600, 3_600), (90 * DAY_S, 3_600)]
)
def test_it_looks_at_irregular_times_but_often_enough(
    sim: Simulation, retention_s: float, every_s: float
) -> None:
    async def main() -> None:
        async with sim.engine() as engine, engine.worker(retention=retention_s):
            await asyncio.sleep(100 * every_s)
        times = sim.store.pruned_at_s
        pauses = [after - before for before, after in pairwise(times)]
        assert times[0] <= every_s
        assert all(0.5 * every_s <= pause <= 1.5 * every_s for pause in pauses)
        assert len({round(pause / every_s, 3) for pause in pauses}) > 50
        assert 80 < len(times) < 120

    sim.run(main)


def test_a_draining_worker_prunes_no_more(sim: Simulation) -> None:
    async def sleeps(ctx: Ctx) -> None:
        await asyncio.sleep(600)

    async def main() -> None:
        slow = Workflow("slow").step("a", sleeps)
        async with sim.engine(slow) as engine:
            async with engine.worker(retention=60, grace=1_000):
                await engine.start(slow)
                await asyncio.sleep(100)
                before = len(sim.store.pruned_at_s)
                left_at_s = sim.time.seconds
            assert sim.time.seconds - left_at_s > 400
            assert len(sim.store.pruned_at_s) == before > 0

    sim.run(main)


def test_a_worker_can_be_left_in_the_middle_of_a_batch(sim: Simulation) -> None:
    async def main() -> None:
        async with sim.engine() as engine:
            async with engine.worker():
                await end(engine, PLAIN, "old")
            await asyncio.sleep(1_000)
            sim.store.takes_s = 100
            async with engine.worker(retention=60):
                await asyncio.sleep(10)
                assert len(sim.store.pruned_at_s) == 1
                left_at_s = sim.time.seconds
            assert sim.time.seconds - left_at_s < 1
            assert await left(engine) == {"old"}

    sim.run(main)


def test_a_store_that_cannot_prune_is_complained_about_and_asked_again(
    sim: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        sim.store.faults = [StoreUnavailableError("away"), KeyError("what"), *[OSError()] * 20]
        async with sim.engine() as engine, engine.worker(retention=60):
            await end(engine, PLAIN, "r")
            await asyncio.sleep(60)
            assert 0 < len(sim.store.faults) < 20
            await end(engine, PLAIN, "alive")
            await asyncio.sleep(600)
            assert sim.store.faults == []
            assert await left(engine) == set()

    with caplog.at_level(logging.INFO):
        sim.run(main)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "cannot remove old runs, and tries again later: away" in warnings[0]
    assert "OSError" in warnings[-1]
    assert 3 <= len(warnings) <= 6  # of 22
    infos = [r.getMessage() for r in caplog.records if r.name == "durable.retention"]
    assert any("removed 2 runs that ended more than 0:01:00 ago" in text for text in infos)


def test_without_a_retention_nothing_is_done_ever(sim: Simulation) -> None:
    async def main() -> None:
        async with sim.engine() as engine, engine.worker():
            await end(engine, PLAIN, "r")
            await asyncio.sleep(3_600)  # until no lease ever taken could still be of interest
            calls = sim.store.calls
            await asyncio.sleep(1_000 * DAY_S)
            assert sim.store.calls == calls
            assert await left(engine) == {"r"}

    sim.run(main)


@pytest.mark.parametrize(
    ("retention", "about"),
    [
        (0, "at least 0:01:00, not 0:00:00"),
        (timedelta(seconds=59), "at least 0:01:00, not 0:00:59"),
        (-5, "must not be negative"),
        ("30 days", "must be a timedelta or a number of seconds, not str"),
        (True, "must be a timedelta or a number of seconds, not bool"),
        (Retention, "must be a timedelta or a number of seconds, not type"),
    ],
)
def test_a_retention_that_cannot_be_meant_is_refused(retention: Any, about: str) -> None:
    with pytest.raises(DurableError, match=f"retention .*{about}"):
        Engine(MemoryStore()).worker(retention=retention)


def test_a_retention_is_checked_when_it_is_made() -> None:
    assert Retention(60) == Retention(timedelta(minutes=1))
    assert Retention(60, status="failed").status == ("failed",)
    with pytest.raises(DurableError, match="not 'suspended'"):
        Retention(60, status="suspended")
