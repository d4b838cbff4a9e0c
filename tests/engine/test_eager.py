"""Eager starts: what is started where a worker has room is created with its lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.engine.stage import PATIENCE_S, Stage

from durable_core import Engine, Start, StepContext, Workflow
from durable_core.engine.observer import RunClaimed
from durable_core.engine.worker import worker as worker_module
from durable_core.errors import StoreUnavailableError
from durable_core.store import (
    ClaimBatch,
    ClaimRequest,
    Commit,
    CommitResult,
    CreateResult,
    NewRun,
    Store,
)
from durable_pg import PgStore

Ctx = StepContext[Any, Any]


async def one(ctx: Ctx) -> int:
    return 1


WORKFLOW = Workflow("w").step("a", one)


class Ear:
    """What a store was asked for: the runs it created, and those its claims brought."""

    def __init__(self, store: Store) -> None:
        self.created: list[NewRun] = []
        self.claimed: list[str] = []
        self.committed: list[Commit] = []
        self.refusals = 0  # claims that are refused
        self.on_committed: Callable[[], object] = lambda: None
        self.before: Callable[[], Any] | None = None  # the next creation
        self.after: Callable[[], Any] | None = None
        self.late: Callable[[], Any] | None = None  # the next claim that finds something
        self._create, self._claim, self._commit = store.create, store.claim, store.commit
        store.create = self.create  # type: ignore[method-assign]
        store.claim = self.claim  # type: ignore[method-assign]
        store.commit = self.commit  # type: ignore[method-assign]

    async def create(self, runs: Sequence[NewRun], *, conn: Any = None) -> tuple[CreateResult, ...]:
        self.created += runs
        before, self.before = self.before, None
        if before is not None:
            await before()
        results = await self._create(runs, conn=conn)
        after, self.after = self.after, None
        if after is not None:
            await after()
        return results

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        if self.refusals:
            self.refusals -= 1
            raise REFUSED
        batch = await self._claim(request)
        self.claimed += [claimed.run.run_id for claimed in batch.runs]
        if batch.runs and self.late is not None:
            late, self.late = self.late, None
            await late()
        return batch

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        self.committed += commits
        result = await self._commit(commits)
        self.on_committed()
        return result

    @property
    def eager(self) -> list[bool]:
        return [new.owner is not None for new in self.created]


@asynccontextmanager
async def working(
    stage: Stage, *workflows: Any, **worker: Any
) -> AsyncIterator[tuple[Engine, Ear]]:
    """An engine whose worker has found that nothing is due."""
    store = stage.store()
    ear = Ear(store)
    async with stage.running(*workflows, store=store, worker=worker) as engine:
        await caught_up(engine)
        yield engine, ear


async def caught_up(engine: Engine) -> None:
    """Return when no claim is under way: one that listens to Postgres claims when it likes."""
    await listening(engine)
    (worker,) = engine._shared.local._workers
    assert isinstance(worker, worker_module.Worker)
    async with asyncio.timeout(PATIENCE_S):
        while not worker._claims.caught_up:  # noqa: ASYNC110  (it says nothing when it is)
            await asyncio.sleep(0.001)


async def listening(engine: Engine) -> None:
    """Return when the store hears of others, where it can: until then, whatever it has missed makes
    its worker look around once more."""
    store = engine._shared.store
    if isinstance(store, PgStore):
        async with asyncio.timeout(PATIENCE_S):
            while store._link is None or store._link.bell is None or not store._link.bell._heard:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        for _ in range(3):  # the worker is told in the next turns
            await asyncio.sleep(0.001)


async def test_a_run_that_is_started_where_there_is_room_needs_no_claim(stage: Stage) -> None:
    async with working(stage, WORKFLOW) as (engine, ear):
        for _ in range(3):
            await caught_up(engine)
            run = await engine.start(WORKFLOW)
            assert await run.result(timeout=PATIENCE_S) == {"a": 1}
            await stage.watch.until("RunFinished", run.id)
            assert stage.watch.names(run.id)[:2] == ["RunStarted", "RunClaimed"]
    assert ear.eager == [True] * 3
    assert ear.claimed == []
    claims = [event for event in stage.watch.events if isinstance(event, RunClaimed)]
    assert [event.deaths for event in claims] == [0] * 3


async def test_a_claim_that_took_all_there_was_leaves_nobody_behind(stage: Stage) -> None:
    """Also where it took as many as there was room for."""
    store = stage.store()
    ear = Ear(store)
    async with stage.engine(WORKFLOW, store=store) as engine:
        first = await engine.start(WORKFLOW)
        async with engine.worker(concurrency=1):
            assert await first.result(timeout=PATIENCE_S) == {"a": 1}
            for _ in range(2):
                await caught_up(engine)
                run = await engine.start(WORKFLOW)
                assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    assert ear.eager == [False, True, True]
    assert ear.claimed == [first.id]


async def test_what_is_not_for_now_or_not_for_this_worker_is_left_to_others(stage: Stage) -> None:
    async with working(stage, WORKFLOW) as (engine, ear):
        for options in ({"delay": 60}, {"queue": "other"}):
            run = await engine.start(WORKFLOW, **options)
            assert (await run.info()).status == "pending"
    assert ear.eager == [False] * 2


async def test_a_worker_keeps_no_places_that_it_does_not_have(stage: Stage) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def waits(ctx: Ctx) -> int:
        begun.set()
        await go_on.wait()
        return 1

    workflow = Workflow("w").step("a", waits)
    async with working(stage, workflow, concurrency=1) as (engine, ear):
        first = await engine.start(workflow)
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        second = await engine.start(workflow)
        assert (await second.info()).status == "pending"
        go_on.set()
        assert await first.result(timeout=PATIENCE_S) == {"a": 1}
        assert await second.result(timeout=PATIENCE_S) == {"a": 1}
    assert ear.eager == [True, False]
    assert ear.claimed == [second.id]


async def test_of_more_runs_than_there_are_places_the_most_urgent_come_first(stage: Stage) -> None:
    seen: list[int] = []

    async def sees(ctx: StepContext[int, Any]) -> None:
        seen.append(ctx.input)

    workflow = Workflow("w", input=int).step("a", sees)
    async with working(stage, workflow, concurrency=2) as (engine, ear):
        runs = await engine.start_many(Start(workflow, n, priority=n) for n in range(4))
        await asyncio.gather(*(run.result(timeout=PATIENCE_S) for run in runs))
    assert ear.eager == [False] * 4
    assert set(seen[:2]) == {2, 3}


async def test_nobody_who_waits_longer_is_overtaken(stage: Stage) -> None:
    """While it is not known what else is due, a new run waits behind it."""
    store = stage.store()
    ear = Ear(store)
    claiming, go_on = asyncio.Event(), asyncio.Event()
    claim = store.claim

    async def slow(request: ClaimRequest) -> ClaimBatch:
        claiming.set()
        await go_on.wait()
        return await claim(request)

    store.claim = slow  # type: ignore[method-assign]
    async with stage.running(WORKFLOW, store=store) as engine:
        await asyncio.wait_for(claiming.wait(), PATIENCE_S)
        run = await engine.start(WORKFLOW)
        go_on.set()
        assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    assert ear.eager == [False]


LOST = StoreUnavailableError("the answer is lost", outcome_unknown=True)
REFUSED = StoreUnavailableError("not now", outcome_unknown=False)
LONG = {"lease": 3 * PATIENCE_S}
"""With it, whoever waits for a lease to expire waits too long."""


async def lost() -> None:
    raise LOST


@pytest.mark.parametrize("claims", ["answer", "fail"])
async def test_a_start_whose_answer_is_lost_is_worked_on_once(stage: Stage, claims: str) -> None:
    """What the lost try has leased is given up, whether or not the next one finds a place."""
    calls: list[str] = []

    async def counts(ctx: Ctx) -> int:
        calls.append(ctx.run_id)
        return 1

    async def lost_and_away() -> None:
        ear.refusals = 2 if claims == "fail" else 0
        raise LOST

    workflow = Workflow("w").step("a", counts)
    async with working(stage, workflow, **LONG) as (engine, ear):
        ear.after = lost_and_away
        run = await engine.start(workflow)
        assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    assert ear.eager[0]
    assert ear.claimed == calls == [run.id]
    claims_ = [event for event in stage.watch.events if isinstance(event, RunClaimed)]
    assert [event.deaths for event in claims_] == [0]


async def test_a_start_that_may_not_be_tried_again_is_given_up_too(stage: Stage) -> None:
    async with working(stage, WORKFLOW, **LONG) as (engine, ear):
        ear.after = lost
        with pytest.raises(StoreUnavailableError, match="lost"):
            await engine.start(WORKFLOW, id="x", on_duplicate="reject")
        assert await engine.run("x").result(timeout=PATIENCE_S) == {"a": 1}
    assert ear.eager == [True] and ear.claimed == ["x"]


async def test_a_start_that_was_certainly_refused_gives_nothing_up(stage: Stage) -> None:
    async def refused() -> None:
        raise REFUSED

    async with working(stage, WORKFLOW, **LONG) as (engine, ear):
        ear.before = refused
        run = await engine.start(WORKFLOW)
        assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    assert len(ear.committed) == 1


async def test_no_lease_but_its_own_is_given_up(stage: Stage) -> None:
    """Another engine created the run, this worker's claim has it, and the answer is on its way
    when its own start comes to nothing."""
    calls: list[str] = []

    async def counts(ctx: Ctx) -> int:
        calls.append(ctx.run_id)
        return 1

    workflow = Workflow("w").step("a", counts)
    async with (
        stage.engine(workflow, observers=[]) as other,
        working(stage, workflow, **LONG) as (engine, ear),
    ):
        claimed, given_up = asyncio.Event(), asyncio.Event()

        async def late() -> None:
            claimed.set()
            await given_up.wait()

        async def behind() -> None:
            await other.start(workflow, id="x")
            engine._shared.local.runs_are_due()
            await asyncio.wait_for(claimed.wait(), PATIENCE_S)
            raise LOST

        ear.late, ear.before, ear.on_committed = late, behind, given_up.set
        run = await engine.start(workflow, id="x")
        assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    assert ear.eager[0]
    assert [commit.release is None for commit in ear.committed] == [False, True]
    assert ear.claimed == calls == ["x"]


async def test_two_starts_of_one_id_are_one_run(stage: Stage) -> None:
    calls: list[str] = []

    async def counts(ctx: Ctx) -> int:
        calls.append(ctx.run_id)
        return 1

    workflow = Workflow("w").step("a", counts)
    async with working(stage, workflow) as (engine, ear):
        runs = await asyncio.gather(*(engine.start(workflow, id="x") for _ in range(3)))
        for run in runs:
            assert await run.result(timeout=PATIENCE_S) == {"a": 1}
        joined = await engine.start(workflow, id="x")
        assert await joined.result(timeout=PATIENCE_S) == {"a": 1}
    assert calls == ["x"]
    assert any(ear.eager)


async def test_a_run_whose_starter_is_cancelled_is_worked_on(stage: Stage) -> None:
    async with working(stage, WORKFLOW) as (engine, ear):
        creating, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            creating.set()
            await go_on.wait()

        ear.before = slow
        starting = asyncio.create_task(engine.start(WORKFLOW, id="x"))
        await asyncio.wait_for(creating.wait(), PATIENCE_S)
        starting.cancel()
        go_on.set()
        await stage.watch.until("RunFinished", "x")
    assert ear.eager == [True] and ear.claimed == []


async def test_runs_whose_starter_is_cancelled_are_worked_on_at_once(stage: Stage) -> None:
    """Also where nobody gathers the starts, and the answer is on its way."""
    async with working(stage, WORKFLOW, **LONG) as (engine, ear):
        created, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> None:
            created.set()
            await go_on.wait()

        ear.after = slow
        ids = ["x", "y"]
        starts = [Start(WORKFLOW, id=run_id) for run_id in ids]
        starting = asyncio.create_task(engine.start_many(starts))
        await asyncio.wait_for(created.wait(), PATIENCE_S)
        starting.cancel()
        await asyncio.wait([starting])
        go_on.set()
        for run_id in ids:
            await stage.watch.until("RunFinished", run_id)
    assert ear.eager == [True] * 2 and ear.claimed == []


async def test_places_of_starts_that_fail_are_free_again(stage: Stage) -> None:
    async def refused() -> None:
        raise ValueError("the store does not like it")

    async with working(stage, WORKFLOW, concurrency=1) as (engine, ear):
        for _ in range(3):
            ear.before = refused
            with pytest.raises(ValueError, match="does not like"):
                await engine.start(WORKFLOW)
        await caught_up(engine)
        run = await engine.start(WORKFLOW)
        assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    assert ear.eager[-1] and ear.claimed == []


async def test_a_worker_that_leaves_hands_back_what_was_being_created(stage: Stage) -> None:
    store = stage.store()
    ear = Ear(store)
    creating, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        creating.set()
        await go_on.wait()

    async with stage.engine(WORKFLOW, store=store) as engine:
        async with engine.worker():
            await caught_up(engine)
            ear.after = slow
            starting = asyncio.create_task(engine.start(WORKFLOW))
            await asyncio.wait_for(creating.wait(), PATIENCE_S)
            asyncio.get_running_loop().call_soon(go_on.set)
        run = await starting
        info = await run.info()
        assert info.status in ("pending", "suspended")
        async with engine.worker():
            assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    assert ear.eager == [True]
    claims = [event for event in stage.watch.events if isinstance(event, RunClaimed)]
    assert [event.deaths for event in claims] == [0, 0]


async def test_a_worker_that_is_gone_adopts_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store took longer than the worker could wait for it: the lease expires."""
    monkeypatch.setattr(worker_module, "STORE_GRACE_S", 0.01)
    store = stage.store()
    ear = Ear(store)
    creating, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        creating.set()
        await go_on.wait()

    async with stage.engine(WORKFLOW, store=store) as engine:
        async with engine.worker(lease=0.2):
            await caught_up(engine)
            ear.after = slow
            starting = asyncio.create_task(engine.start(WORKFLOW))
            await asyncio.wait_for(creating.wait(), PATIENCE_S)
        go_on.set()
        run = await starting
        assert stage.watch.names(run.id) == ["RunStarted"]
        async with engine.worker():
            assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    assert ear.eager == [True] and ear.claimed == [run.id]
