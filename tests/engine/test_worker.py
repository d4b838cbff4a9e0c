"""Worker: claiming, draining, leases, transactions, and several workers on one database."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from tests.engine.stage import AT_ONCE, ONCE, PATIENCE_S, Stage, execute

from durable_core import (
    DurableError,
    Engine,
    Limits,
    Retry,
    RunCancelled,
    StepContext,
    Workflow,
)
from durable_core.store import ClaimRequest, Kind
from durable_core.testing.memory import MemoryStore

Ctx = StepContext[Any, Any]
QUICK = Limits(cancel_grace=timedelta(milliseconds=30))


class Gate:
    """A handler that says it has begun, and waits."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.calls = 0
        self.cancelled = 0

    async def __call__(self, ctx: Ctx) -> int:
        self.calls += 1
        self.begun.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return ctx.attempt


async def one(ctx: Ctx) -> int:
    return 1


# --- draining ----------------------------------------------------------------------------------


async def test_draining_lets_handlers_end_and_begins_nothing_new(stage: Stage) -> None:
    gate = Gate()
    after = []

    async def second(ctx: Ctx) -> int:
        after.append(ctx.attempt)
        return 2

    workflow = Workflow("w").step("a", gate).step("b", second)
    async with stage.engine(workflow) as engine:
        async with engine.worker():
            run = await engine.start(workflow)
            await gate.begun.wait()
            asyncio.get_running_loop().call_later(0.02, gate.open.set)
        assert (gate.cancelled, after) == (0, [])
        assert [entry.kind for entry in await run.journal()] == ["unit_completed"]
        assert (await run.info()).status == "suspended"
        async with engine.worker():
            assert await run.result(timeout=PATIENCE_S) == {"a": 1, "b": 2}
    assert gate.calls == 1


async def test_after_the_grace_handlers_are_cancelled_and_the_run_is_due_at_once(
    stage: Stage,
) -> None:
    gate = Gate()
    workflow = Workflow("w").step("a", gate, retry=ONCE)
    async with stage.engine(workflow) as engine:
        async with engine.worker(grace=0):
            run = await engine.start(workflow)
            await gate.begun.wait()
        assert gate.cancelled == 1
        gate.open.set()
        async with engine.worker():
            assert await run.result(timeout=PATIENCE_S) == {"a": 1}  # the same attempt again


async def test_draining_does_not_wait_for_a_handler_that_never_ends(stage: Stage) -> None:
    release = threading.Event()
    begun = threading.Event()

    def blocking(ctx: Ctx) -> None:
        begun.set()
        release.wait(PATIENCE_S)

    workflow = Workflow("w").step("a", blocking)
    async with stage.engine(workflow, limits=QUICK) as engine:
        async with engine.worker(grace=0):
            run = await engine.start(workflow)
            await asyncio.to_thread(begun.wait, PATIENCE_S)
            before = time.monotonic()
        assert time.monotonic() - before < 2
        assert (await run.info()).status == "suspended"
        release.set()


async def test_cancelling_whoever_leaves_a_worker_cuts_the_grace_short(stage: Stage) -> None:
    gate = Gate()
    workflow = Workflow("w").step("a", gate)

    async def work(engine: Engine) -> None:
        async with engine.worker(grace=1_000):
            await gate.begun.wait()

    async with stage.engine(workflow) as engine:
        working = asyncio.ensure_future(work(engine))
        run = await engine.start(workflow)
        await gate.begun.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert gate.cancelled == 1
        assert (await run.info()).status == "suspended"


def test_the_end_of_the_event_loop_is_no_failure_of_a_handler(stage: Stage) -> None:
    gate: list[Gate] = []

    async def handler(ctx: Ctx) -> int:
        return await gate[-1](ctx)

    workflow = Workflow("w").step("a", handler, retry=ONCE)

    async def ends() -> str:
        gate.append(Gate())
        engine = stage.engine(workflow)
        working = asyncio.ensure_future(engine.worker().run_forever())
        async with engine:
            run = await engine.start(workflow)
            await gate[-1].begun.wait()
            assert not working.done()
            gate.append(gate[-1])
            return run.id

    async def goes_on(run_id: str) -> Any:
        gate[-1].open = asyncio.Event()
        gate[-1].open.set()
        async with stage.running(workflow) as engine:
            return await engine.run(run_id).result(timeout=PATIENCE_S)

    run_id = asyncio.run(ends())
    assert asyncio.run(goes_on(run_id)) == {"a": 1}


# --- leases ------------------------------------------------------------------------------------


async def test_a_lost_lease_stops_the_handlers_and_commits_nothing(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    gate = Gate()
    workflow = Workflow("w").step("a", gate)
    thief = stage.store()
    async with stage.running(workflow, worker={"lease": 0.4}) as engine:
        await thief.open()
        run = await engine.start(workflow)
        await gate.begun.wait()
        await take_over(thief, run.id, workflow)
        await stage.watch.until("LeaseLost", run.id)
        assert "lease" in caplog.text
        assert await run.journal() == ()
        await thief.close()
    assert gate.cancelled == 1


async def take_over(store: Any, run_id: str, workflow: Workflow[Any, Any]) -> None:
    """Claim a run that another worker holds, by a clock that is a day ahead."""
    kind = Kind(workflow=workflow.name, version=workflow.version, fingerprint=workflow.fingerprint)
    ahead = store.twin()
    day_ms = 86_400_000
    if isinstance(ahead, MemoryStore):
        shared = ahead._shared
        clock, shared.clock = shared.clock, lambda: int(time.time() * 1000) + day_ms
    else:
        ahead._clock = lambda: int(time.time() * 1000) + day_ms
    await ahead.open()
    try:
        batch = await ahead.claim(
            ClaimRequest(
                worker="thief", lease_ms=60_000, limit=1, queues=("default",), kinds=(kind,)
            )
        )
    finally:
        if isinstance(ahead, MemoryStore):
            shared.clock = clock
        await ahead.close()
    assert [claimed.run.run_id for claimed in batch.runs] == [run_id]


# --- several workers, several engines ------------------------------------------------------------


async def test_two_workers_share_the_runs_and_none_is_executed_twice(stage: Stage) -> None:
    calls: list[str] = []

    async def note(ctx: Ctx) -> None:
        calls.append(ctx.idempotency_key)

    workflow = Workflow("w").step("a", note).step("b", note)
    async with stage.running(workflow) as first, stage.running(workflow) as second:
        runs = [await (first, second)[n % 2].start(workflow, id=f"r{n}") for n in range(30)]
        for run in runs:
            await run.result(timeout=PATIENCE_S)
    assert len(calls) == len(set(calls)) == 60


async def test_a_client_hears_of_an_end_elsewhere(stage: Stage) -> None:
    workflow = Workflow("w").wait_for_signal("go").step("a", one)
    async with stage.engine(workflow, observers=()) as client:
        run = await client.start(workflow)
        waiting = asyncio.ensure_future(run.result(timeout=PATIENCE_S))
        async with stage.running(workflow):
            await run.signal("go", 5)
            assert await waiting == {"go": 5, "a": 1}


async def test_a_message_reaches_a_run_held_elsewhere_while_it_works(stage: Stage) -> None:
    gate = Gate()
    workflow = Workflow("w").step("a", gate)
    async with stage.running(workflow), stage.engine(workflow, observers=()) as client:
        run = await client.start(workflow)
        await gate.begun.wait()
        await run.cancel(reason="enough")
        with pytest.raises(RunCancelled, match="enough"):
            await run.result(timeout=PATIENCE_S)
    assert gate.cancelled == 1


async def test_queues_and_kinds_decide_who_may_claim(stage: Stage) -> None:
    workflow = Workflow("w").step("a", one)
    async with stage.engine(workflow) as engine, engine.worker(queues=["other"]):
        run = await engine.start(workflow, queue="mine")
        with pytest.raises(TimeoutError):
            await run.result(timeout=0.05)
        async with engine.worker(queues=["mine"]):
            assert await run.result(timeout=PATIENCE_S) == {"a": 1}


# --- transactions --------------------------------------------------------------------------------


async def test_rows_and_entry_of_a_transactional_step_are_one_commit(stage: Stage) -> None:
    if stage.kind == "memory":
        pytest.skip("a MemoryStore has no transactions of the user's")
    tries = []

    async def write(ctx: Ctx) -> int:
        await execute(ctx.conn, "create table if not exists paid (run text)")
        await execute(ctx.conn, "insert into paid values ($1)", ctx.run_id)
        tries.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError("rolled back")
        return 7

    async def read(ctx: Ctx) -> list[str]:
        return [row[0] for row in await execute(ctx.conn, "select run from paid")]

    workflow = (
        Workflow("w")
        .step("pay", write, transactional=True, retry=AT_ONCE)
        .step("look", read, transactional=True)
    )
    async with stage.running(workflow) as engine:
        run = await engine.start(workflow, id="r")
        assert await run.result(timeout=PATIENCE_S) == {"pay": 7, "look": ["r"]}
    assert tries == [1, 2]


async def test_a_handler_that_makes_its_commit_impossible_fails_its_attempt(stage: Stage) -> None:
    if stage.kind == "memory":
        pytest.skip("a MemoryStore has no transactions of the user's")
    tries = []

    async def swallow(ctx: Ctx) -> None:
        tries.append(ctx.attempt)
        await execute(ctx.conn, "create table if not exists once (x int unique)")
        with contextlib.suppress(Exception):
            await execute(ctx.conn, "insert into once values (1)")
            again = "insert into once values (1)"
            if stage.kind == "sqlite":
                again = "insert or rollback into once values (1)"
            await execute(ctx.conn, again)

    retry = Retry(max_attempts=2, initial=0, jitter=0)
    workflow = Workflow("w").step("a", swallow, transactional=True, retry=retry)
    async with stage.running(workflow) as engine:
        run = await engine.start(workflow)
        info = await run.wait(timeout=PATIENCE_S)
    assert (info.status, tries) == ("failed", [1, 2])
    assert "transaction" in str(info.failure)


async def test_what_comes_during_a_transaction_is_taken_in_afterwards(stage: Stage) -> None:
    gate = Gate()
    workflow = Workflow("w").step("a", gate, transactional=True).wait_for_signal("go")
    async with stage.running(workflow) as engine:
        run = await engine.start(workflow)
        await gate.begun.wait()
        if stage.kind != "sqlite":  # there nobody else can write meanwhile
            await run.signal("go", 1)
        gate.open.set()
        if stage.kind == "sqlite":
            await run.signal("go", 1)
        assert await run.result(timeout=PATIENCE_S) == {"a": 1, "go": 1}


async def test_a_transaction_that_takes_too_long_fails_its_attempt(stage: Stage) -> None:
    gate = Gate()
    workflow = Workflow("w").step("a", gate, transactional=True, retry=ONCE)
    async with stage.running(workflow, worker={"lease": 0.3}) as engine:
        run = await engine.start(workflow)
        info = await run.wait(timeout=PATIENCE_S)
    assert info.status == "failed"
    assert info.failure is not None and info.failure.type == "TimeoutError"
    assert gate.cancelled == 1


# --- the engine itself ---------------------------------------------------------------------------


async def test_an_engine_that_is_not_entered_refuses(stage: Stage) -> None:
    workflow = Workflow("w").step("a", one)
    engine = stage.engine(workflow)
    with pytest.raises(DurableError, match="async with engine"):
        await engine.start(workflow)
    async with engine:
        run = await engine.start(workflow)
    with pytest.raises(DurableError, match="async with engine"):
        await run.info()


def test_an_engine_belongs_to_one_event_loop(stage: Stage) -> None:
    workflow = Workflow("w").step("a", one)
    engine = stage.engine(workflow)

    async def elsewhere() -> None:
        with pytest.raises(DurableError, match="event loop"):
            await engine.start(workflow)

    async def here() -> None:
        async with engine:
            await asyncio.to_thread(asyncio.run, elsewhere())

    asyncio.run(here())


def test_an_engine_can_be_entered_again_in_another_loop(stage: Stage) -> None:
    workflow = Workflow("w").step("a", one)
    engine = stage.engine(workflow)

    async def whole() -> Any:
        async with engine, engine.worker():
            return await (await engine.start(workflow)).result(timeout=PATIENCE_S)

    assert [asyncio.run(whole()), asyncio.run(whole())] == [{"a": 1}] * 2


async def test_nothing_is_left_behind(stage: Stage) -> None:
    workflow = Workflow("w").step("a", one).step("b", lambda ctx: 2)
    before = set(threading.enumerate())
    async with stage.running(workflow) as engine:
        await (await engine.start(workflow)).result(timeout=PATIENCE_S)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in left)
