"""Zombies: what comes late, from before a lease ended, changes nothing and begins nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import attrs
import pytest
from tests.engine.stage import AT_ONCE, PATIENCE_S, Stage, Watch, execute

from durable_core import Engine, Host, Limits, RunCancelled, StepContext, Workflow
from durable_core.engine.worker.lease import Holder, LeaseKeeper
from durable_core.errors import StoreUnavailableError
from durable_core.store import (
    ClaimBatch,
    ClaimRequest,
    Commit,
    CommitResult,
    CreateResult,
    EntryRecord,
    Lease,
    NewRun,
    RenewResult,
)
from durable_core.testing.memory import MemoryStore
from durable_core.testing.virtual_time import VirtualTime

Ctx = StepContext[Any, Any]


async def one(ctx: Ctx) -> int:
    return 1


class SlowAnswers(MemoryStore):
    """Answers to the first call of ``verb`` come ``seconds`` later than they are true; meanwhile
    nothing is claimed or renewed here."""

    def __init__(self, time: VirtualTime, verb: str, seconds: float) -> None:
        super().__init__(clock=time.now_ms)
        self.verb = verb
        self.seconds = seconds
        self.frozen = False

    async def _late(self, verb: str) -> None:
        if self.verb == verb:
            self.verb = ""
            self.frozen = True
            await asyncio.sleep(self.seconds)
            self.frozen = False

    async def create(self, runs: Sequence[NewRun], *, conn: Any = None) -> tuple[CreateResult, ...]:
        results = await super().create(runs, conn=conn)
        await self._late("create")
        return results

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        if self.frozen:
            await asyncio.sleep(self.seconds)
        batch = await super().claim(request)
        if batch.runs:
            await self._late("claim")
        return batch

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        result = await super().commit(commits)
        await self._late("commit")
        return result

    async def renew(self, leases: Sequence[Lease], *, lease_ms: int) -> RenewResult:
        if self.frozen:
            await asyncio.sleep(self.seconds)
        return await super().renew(leases, lease_ms=lease_ms)


@pytest.mark.parametrize("verb", ["create", "claim", "commit"])
def test_an_answer_that_comes_after_the_lease_begins_no_handler(verb: str) -> None:
    calls: list[tuple[str, str]] = []

    async def step(ctx: Ctx) -> int:
        calls.append((ctx.unit, ctx.deps))
        return 1

    workflow = Workflow("w").step("a", step, retry=AT_ONCE).step("b", step)

    async def main(time: VirtualTime) -> None:
        store = SlowAnswers(time, verb, 100)
        host = Host(renew_in_thread=False)
        slow = Engine(store, [workflow], host=host, lifespan=lambda: _deps("slow"))
        quick = Engine(store.twin(), [workflow], host=host, lifespan=lambda: _deps("quick"))
        async with slow, quick:
            async with slow.worker(lease=10):
                await asyncio.sleep(1)
                # Where its own worker works, it is leased to that at once.
                starting = asyncio.create_task(
                    (quick if verb == "claim" else slow).start(workflow, id="r")
                )
                await asyncio.sleep(1)
                async with quick.worker(lease=10):
                    await quick.run("r").result()
                await asyncio.sleep(200)
            assert await (await starting).result() == {"a": 1, "b": 1}
        assert store.verb == ""

    time = VirtualTime()
    loop = time.loop()
    loop.run_until_complete(main(time))
    loop.close()
    late = [("a", "slow")] if verb == "commit" else []
    assert [call for call in calls if call[1] == "slow"] == late


@contextlib.asynccontextmanager
async def _deps(name: str) -> Any:
    yield name


# --- renewals that cross a hand-over --------------------------------------------------------------


@attrs.define(eq=False)
class Held:
    lease: Lease


async def test_a_renewal_of_a_lease_given_up_names_its_holder_and_not_who_holds_it_now() -> None:
    lost: asyncio.Future[list[Holder]] = asyncio.get_running_loop().create_future()
    old, new = (Held(Lease(run_id="r", epoch=epoch)) for epoch in (1, 2))

    class Store(MemoryStore):
        async def renew(self, leases: Sequence[Lease], *, lease_ms: int) -> RenewResult:
            keeper.let_go("r", old)
            keeper.hold("r", new, keeper.now())  # claimed again while the renewal is under way
            return RenewResult(lost=frozenset({"r"}), mail=frozenset(), now_ms=0)

    keeper = LeaseKeeper(
        Store(),
        lease_ms=100,
        stall_limit_s=60,
        on_result=lambda result, holders: lost.set_result(holders),
        on_expired=lambda holders: None,
        in_thread=False,
    )
    keeper.hold("r", old, keeper.now() - 0.09)
    assert await asyncio.wait_for(lost, PATIENCE_S) == [old]
    assert not keeper.lasts("r", old)
    await keeper.stop()


async def test_a_committed_end_is_told_although_the_lease_was_lost_before_the_answer() -> None:
    workflow = Workflow("w").step("a", one)

    class Store(MemoryStore):
        async def commit(self, commits: Sequence[Commit]) -> CommitResult:
            result = await super().commit(commits)
            if commits[0].finished:
                for runner in list(worker._running._held):  # type: ignore[union-attr]
                    runner.lease_is_gone()
                    runner.lose("as in a renewal that crossed")
            return result

        async def wait_for_work(self, timeout_ms: int | None) -> bool:
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    engine = Engine(Store(), [workflow])
    async with engine, (worker := engine.worker()):
        run = await engine.start(workflow)
        assert await run.result(timeout=PATIENCE_S) == {"a": 1}


# --- claims that the machine of the store has lost ------------------------------------------------


def lose_the_claim(store: MemoryStore, run_id: str) -> None:
    """The run is as it was before its first claim."""
    run = store._shared.state.runs[run_id]
    run.epoch, run.owner, run.status, run.due_at_ms = 0, None, "pending", run.created_at_ms


async def test_whoever_has_a_lost_claim_cannot_commit_beside_the_next_owner() -> None:
    opened, called = {name: asyncio.Event() for name in ("first", "second")}, asyncio.Queue[str]()

    async def step(ctx: Ctx) -> str:
        name: str = ctx.deps
        called.put_nowait(name)
        await opened[name].wait()
        return name

    workflow = Workflow("w").step("a", step).step("b", step)
    store, watch = MemoryStore(), Watch()
    first = Engine(store, [workflow], lifespan=lambda: _deps("first"), observers=[watch])
    second = Engine(store.twin(), [workflow], lifespan=lambda: _deps("second"))
    async with asyncio.timeout(PATIENCE_S), second, first, first.worker(lease=600):
        run = await second.start(workflow)
        assert await called.get() == "first"
        lose_the_claim(store, run.id)
        async with second.worker(lease=600):
            assert await called.get() == "second"
            opened["first"].set()
            await watch.until("LeaseLost", run.id)
            opened["second"].set()
            assert await run.result() == {"a": "second", "b": "second"}
    assert called.get_nowait() == "second" and called.empty()


async def test_a_worker_takes_its_own_run_again_although_the_later_mark_is_lower() -> None:
    began, calls = asyncio.Event(), itertools.count(1)
    marks = iter(range(2**32 - 1, 0, -1))

    async def step(ctx: Ctx) -> int:
        call = next(calls)
        if call == 1:
            began.set()
            await asyncio.Event().wait()
        return call

    def entropy(count: int) -> bytes:
        return next(marks).to_bytes(4, "big") if count == 4 else secrets.token_bytes(count)

    workflow, store = Workflow("w").step("a", step), MemoryStore()
    engine = Engine(store, [workflow], host=Host(entropy=entropy))
    async with asyncio.timeout(PATIENCE_S), engine:
        run = await engine.start(workflow)
        async with engine.worker(lease=600):
            await began.wait()
            lose_the_claim(store, run.id)
            engine._shared.local.runs_are_due()
            assert await run.result() == {"a": 2}


# --- transactions and their time-outs -------------------------------------------------------------


async def test_a_transactional_handler_that_was_abandoned_commits_nothing(stage: Stage) -> None:
    if stage.kind == "memory":
        pytest.skip("a MemoryStore has no transactions of the user's")
    go_on = asyncio.Event()

    async def stubborn(ctx: Ctx) -> int:
        await execute(ctx.conn, "create table if not exists paid (attempt int)")
        await execute(ctx.conn, "insert into paid values ($1)", ctx.attempt)
        while ctx.attempt == 1 and not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()
        return ctx.attempt

    async def read(ctx: Ctx) -> list[int]:
        return [row[0] for row in await execute(ctx.conn, "select attempt from paid")]

    workflow = (
        Workflow("w")
        .step("a", stubborn, transactional=True, timeout=0.2, retry=AT_ONCE)
        .step("b", read, transactional=True)
    )
    limits = Limits(cancel_grace=timedelta(milliseconds=20))
    async with stage.running(workflow, limits=limits) as engine:
        run = await engine.start(workflow)
        asyncio.get_running_loop().call_later(0.4, go_on.set)
        assert await run.result(timeout=PATIENCE_S) == {"a": 2, "b": [2]}
        kinds = [entry.kind for entry in await run.journal()]
        assert kinds == ["attempt_failed", "unit_completed", "unit_completed", "run_completed"]


# --- what cannot be read --------------------------------------------------------------------------


class Damaged(MemoryStore):
    """Claims of run ``bad`` come with a journal nobody can read, or cannot be completed."""

    def __init__(self) -> None:
        super().__init__()
        self.unreachable = asyncio.Event()

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        batch = await super().claim(request)
        runs = []
        for claimed in batch.runs:
            if claimed.run.run_id == "bad":
                entry = EntryRecord(seq=1, kind="?", unit="?", attempt=1, at_ms=0, format=99)
                claimed = attrs.evolve(claimed, entries=(entry,) * claimed.run.entry_count)
            if claimed.run.run_id == "far":
                claimed = attrs.evolve(
                    claimed, run=attrs.evolve(claimed.run, entry_count=1), entries=()
                )
            runs.append(claimed)
        return attrs.evolve(batch, runs=tuple(runs))

    async def journal(
        self, run_id: str, *, after_seq: int = 0, limit: int = 1_000
    ) -> tuple[EntryRecord, ...]:
        if run_id == "far":
            self.unreachable.set()
            raise StoreUnavailableError("the page cannot be read now")
        return await super().journal(run_id, after_seq=after_seq, limit=limit)


async def test_a_run_that_cannot_be_read_can_be_terminated() -> None:
    workflow = Workflow("w").sleep("nap", 3600).step("a", one)
    watch = Watch()
    engine = Engine(Damaged(), [workflow], observers=[watch])
    async with engine, engine.worker():
        run = await engine.start(workflow, id="bad")
        await watch.until("RunSuspended", "bad")
        await run.cancel(mode="terminate", reason="it is damaged")
        with pytest.raises(RunCancelled, match="it is damaged"):
            await run.result(timeout=PATIENCE_S)


async def test_a_run_whose_journal_cannot_be_fetched_does_not_keep_others_from_being_claimed() -> (
    None
):
    workflow = Workflow("w").step("a", one)
    store = Damaged()
    engine = Engine(store, [workflow])
    async with engine:
        runs = [await engine.start(workflow, id=run_id) for run_id in ("far", "x", "y")]
        async with engine.worker(lease=600):
            for run in runs[1:]:
                assert await run.result(timeout=PATIENCE_S) == {"a": 1}
            await asyncio.wait_for(store.unreachable.wait(), PATIENCE_S)
