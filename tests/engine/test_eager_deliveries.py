"""Eager deliveries: a run that a message wakes is leased by the transaction that delivers it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
from tests.engine.stage import PATIENCE_S, Stage
from tests.engine.test_eager import LONG, LOST, REFUSED, caught_up, listening

from durable_core import Engine, Run, StepContext, Suspend, Workflow
from durable_core.engine.observer import LeaseLost, RunClaimed
from durable_core.engine.worker import worker as worker_module
from durable_core.errors import StoreUnavailableError
from durable_core.store import Commit, Delivery, Store

Ctx = StepContext[Any, Any]
VERBS = ("claim", "commit", "create", "deliver", "deliver_and_claim", "inbox", "get")


async def nothing(*_: object) -> None:
    """Nothing goes wrong."""


class Log:
    """The calls of a store, by their verbs. ``before`` and ``after`` stand around the next
    delivery that may claim, ``looking`` around the next read of records, once each; ``slow``
    around all claims, and ``late`` comes after the next one that finds something."""

    def __init__(self, store: Store) -> None:
        self.calls: list[str] = []
        self.commits: list[Commit] = []
        self.claimed: list[str] = []
        self.taken: list[str] = []
        self.before: Callable[[], Awaitable[object]] = nothing
        self.after: Callable[[], Awaitable[object]] = nothing
        self.looking: Callable[[], Awaitable[object]] = nothing
        self.slow: Callable[[], Awaitable[object]] = nothing
        self.late: Callable[[], Awaitable[object]] = nothing
        for verb in VERBS:
            setattr(store, verb, self._logged(verb, getattr(store, verb)))

    def _logged(self, verb: str, call: Callable[..., Awaitable[Any]]) -> Any:
        async def logged(*args: Any, **options: Any) -> Any:
            self.calls.append(verb)
            if verb == "commit":
                self.commits += args[0]
            if verb == "claim":
                await self.slow()
            if verb == "get":
                looking, self.looking = self.looking, nothing
                await looking()
            if verb == "deliver_and_claim":
                before, self.before = self.before, nothing
                await before()
            answer = await call(*args, **options)
            if verb == "claim":
                self.claimed += [one.run.run_id for one in answer.runs]
                if answer.runs:
                    late, self.late = self.late, nothing
                    await late()
            if isinstance(answer, Delivery):
                self.taken += [one.run.run_id for one in answer.runs]
                after, self.after = self.after, nothing
                await after()
            return answer

        return logged


whether_or_not_it_is_kept = pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])


class Gate:
    """Whoever comes here waits until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.opened.wait()


async def lost() -> None:
    raise LOST


async def refused() -> None:
    raise REFUSED


class Scene:
    """A workflow that waits for a signal, and notes which calls of the store came before its
    handler."""

    def __init__(self) -> None:
        self.woken: list[str] = []
        self.before_handler: list[str] = []
        self.log: Log
        self.workflow = Workflow("w").wait_for_signal("go").step("wake", self.wake)

    async def wake(self, ctx: Ctx) -> int:
        self.woken.append(ctx.run_id)
        self.before_handler += self.log.calls
        return 1

    async def idle(
        self, stage: Stage, engine: Engine, run_id: str | None = None, *, warm: bool = False
    ) -> Run[Any]:
        """A run that waits, while its worker has nothing to do, and has forgotten it if not
        ``warm`` (what else there is, is in ``test_foreseeing``)."""
        run = await engine.start(self.workflow, id=run_id)
        await stage.watch.until("RunSuspended", run.id)
        await listening(engine)
        await caught_up(engine)
        if not warm:
            forget(engine)
        self.log.calls.clear()
        self.log.claimed.clear()  # its start was eager, unless the worker was still looking around
        return run


@pytest.fixture
def scene() -> Scene:
    return Scene()


@asynccontextmanager
async def working(stage: Stage, scene: Scene, **worker: Any) -> AsyncIterator[Engine]:
    """An engine whose worker has found that nothing is due."""
    store = stage.store()
    scene.log = Log(store)
    async with stage.running(scene.workflow, store=store, worker=worker) as engine:
        await listening(engine)
        await caught_up(engine)
        yield engine


def forget(engine: Engine) -> None:
    """The workers here keep no warm run."""
    for worker in engine._shared.local._workers:
        worker._warm.clear()  # type: ignore[attr-defined]


def claims(stage: Stage) -> list[int]:
    """How many deaths each claim knew of."""
    return [event.deaths for event in stage.watch.events if isinstance(event, RunClaimed)]


async def test_a_signal_is_two_transactions_away_from_its_handler(
    stage: Stage, scene: Scene
) -> None:
    async with working(stage, scene) as engine:
        for _ in range(3):
            run = await scene.idle(stage, engine)
            scene.before_handler.clear()
            await engine.signal(run.id, "go")
            result = await run.result(timeout=PATIENCE_S)
            assert result["wake"] == 1
            # What may go on beside it, if this takes long, is not on the way to the handler.
            beside = ("claim", "inbox", "get")
            calls = [verb for verb in scene.before_handler if verb not in beside]
            assert calls == ["deliver_and_claim", "commit"]
    assert len(scene.log.taken) == 3
    assert scene.log.claimed == []
    assert claims(stage) == [0] * 6


async def test_any_message_wakes_its_run_at_once(stage: Stage, scene: Scene) -> None:
    async def asks(ctx: Ctx) -> Any:
        return Suspend("?") if ctx.resumption is None else ctx.resumption.data

    asking = Workflow("asking").step("ask", asks)
    store = stage.store()
    log = scene.log = Log(store)
    async with stage.running(scene.workflow, asking, store=store) as engine:
        asked = await engine.start(asking)
        await stage.watch.until("RunSuspended", asked.id)
        cancelled = await scene.idle(stage, engine)
        await engine.cancel(cancelled.id)
        await engine.end_of(cancelled.id, timeout=PATIENCE_S)
        await caught_up(engine)
        forget(engine)
        await engine.resume(asked.id, 7)
        assert await asked.result(timeout=PATIENCE_S) == {"ask": 7}
    assert log.taken == [cancelled.id, asked.id]
    assert "deliver" not in log.calls


async def test_signals_at_one_time_find_places_together_or_not_at_all(
    stage: Stage, scene: Scene
) -> None:
    async with working(stage, scene, concurrency=3) as engine:
        runs = [await scene.idle(stage, engine) for _ in range(4)]
        await asyncio.gather(*(engine.signal(run.id, "go") for run in runs))
        await asyncio.gather(*(run.result(timeout=PATIENCE_S) for run in runs))
        assert scene.log.taken == []
        assert sorted(scene.log.claimed) == sorted(run.id for run in runs)
        runs = [await scene.idle(stage, engine) for _ in range(3)]
        await asyncio.gather(*(engine.signal(run.id, "go") for run in runs))
        await asyncio.gather(*(run.result(timeout=PATIENCE_S) for run in runs))
        assert sorted(scene.log.taken) == sorted(run.id for run in runs)


async def test_a_worker_keeps_no_seats_that_it_does_not_have(stage: Stage, scene: Scene) -> None:
    gate = Gate()

    async def waits(ctx: Ctx) -> None:
        await gate()

    busy = Workflow("busy").step("a", waits)
    store = stage.store()
    scene.log = Log(store)
    one: dict[str, Any] = {"concurrency": 1}
    async with stage.running(scene.workflow, busy, store=store, worker=one) as engine:
        await caught_up(engine)
        run = await scene.idle(stage, engine)
        other = await engine.start(busy)
        await asyncio.wait_for(gate.reached.wait(), PATIENCE_S)
        await engine.signal(run.id, "go")
        assert "deliver_and_claim" not in scene.log.calls
        gate.opened.set()
        await other.result(timeout=PATIENCE_S)
        await run.result(timeout=PATIENCE_S)
    assert scene.log.taken == [] and scene.log.claimed == [run.id]


async def test_nobody_who_waits_longer_is_overtaken(stage: Stage, scene: Scene) -> None:
    """While it is not known what else is due, a run that a message wakes waits behind it."""
    async with working(stage, scene) as engine:
        run = await scene.idle(stage, engine)
        gate = scene.log.slow = Gate()
        engine._shared.local.runs_are_due()
        await asyncio.wait_for(gate.reached.wait(), PATIENCE_S)
        await engine.signal(run.id, "go")
        assert "deliver" in scene.log.calls
        scene.log.slow = nothing
        gate.opened.set()
        await run.result(timeout=PATIENCE_S)
    assert scene.log.taken == [] and scene.log.claimed == [run.id]


async def test_a_run_that_is_held_is_told_and_not_claimed(stage: Stage) -> None:
    begun = Gate()

    async def waits(ctx: Ctx) -> None:
        await begun()

    workflow = Workflow("w").step("a", waits).wait_for_signal("go")
    store = stage.store()
    log = Log(store)
    async with stage.running(workflow, store=store) as engine:
        await caught_up(engine)
        run = await engine.start(workflow)
        await asyncio.wait_for(begun.reached.wait(), PATIENCE_S)
        await engine.signal(run.id, "go")
        begun.opened.set()
        await run.result(timeout=PATIENCE_S)
    assert "deliver_and_claim" not in log.calls


async def test_a_run_that_is_about_to_be_adopted_is_told_of_the_next_message(
    stage: Stage, scene: Scene
) -> None:
    """The sender is answered before the run is adopted here, and sends another one at once."""
    scene.workflow = Workflow("w").wait_for_signal("go").wait_for_signal("on")
    async with working(stage, scene) as engine:
        for _ in range(3):
            run = await scene.idle(stage, engine)
            await engine.signal(run.id, "go")
            await engine.signal(run.id, "on", dedupe_id="k")
            await run.result(timeout=PATIENCE_S)
            sent = [verb for verb in scene.log.calls if verb.startswith("deliver")]
            # In memory the first may have been taken, and the run given up again, in one turn.
            assert sent == ["deliver_and_claim", "deliver"] or stage.kind == "memory"


async def test_a_message_to_a_run_that_is_being_leased_waits_until_somebody_can_be_told(
    stage: Stage, scene: Scene
) -> None:
    """Else its handler would go on until the next renewal."""
    gate = Gate()

    async def waits(ctx: Ctx) -> None:
        await asyncio.sleep(10 * PATIENCE_S)

    scene.workflow = Workflow("w").wait_for_signal("go").step("a", waits)
    async with working(stage, scene) as engine:
        run = await scene.idle(stage, engine)
        scene.log.after = gate
        sending = asyncio.create_task(engine.signal(run.id, "go"))
        await asyncio.wait_for(gate.reached.wait(), PATIENCE_S)
        cancelling = asyncio.create_task(engine.cancel(run.id))
        await asyncio.sleep(0.01)
        assert [verb for verb in scene.log.calls if "deliver" in verb] == ["deliver_and_claim"]
        gate.opened.set()
        await asyncio.gather(sending, cancelling)
        await engine.end_of(run.id, timeout=PATIENCE_S)
        assert [verb for verb in scene.log.calls if "deliver" in verb][1:] == ["deliver"]
        assert (await run.info()).status == "cancelled"


async def test_a_run_in_other_hands_stays_there(stage: Stage) -> None:
    """It is held by another process, whose worker hears of the message as ever."""
    gate = Gate()

    async def waits(ctx: Ctx) -> None:
        await gate()

    workflow = Workflow("w").step("a", waits).wait_for_signal("go")
    store = stage.store()
    log = Log(store)
    async with stage.running(workflow) as other:
        run = await other.start(workflow)
        await asyncio.wait_for(gate.reached.wait(), PATIENCE_S)
        async with stage.running(workflow, store=store, observers=[]) as engine:
            await caught_up(engine)
            await engine.signal(run.id, "go")
            gate.opened.set()
            assert (await run.result(timeout=PATIENCE_S))["go"] is None
    assert "deliver_and_claim" in log.calls and log.taken == []
    assert set(claims(stage)) == {0}


async def test_the_callers_transaction_claims_nothing(stage: Stage, scene: Scene) -> None:
    if stage.kind != "postgres":
        pytest.skip("another connection of the caller's to the same database")
    import asyncpg

    async with working(stage, scene) as engine:
        run = await scene.idle(stage, engine)
        conn = await asyncpg.connect(stage.dsn)
        try:
            async with conn.transaction():
                await engine.signal(run.id, "go", conn=conn)
        finally:
            await conn.close()
        await run.result(timeout=PATIENCE_S)
    assert scene.log.taken == [] and scene.log.claimed == [run.id]


# --- errors ------------------------------------------------------------------------------------


async def test_runs_of_a_lost_answer_are_given_up_and_worked_on_once(
    stage: Stage, scene: Scene
) -> None:
    async with working(stage, scene, **LONG) as engine:
        run = await scene.idle(stage, engine)
        scene.log.after = lost
        with pytest.raises(StoreUnavailableError, match="lost"):
            await engine.signal(run.id, "go")
        await run.result(timeout=PATIENCE_S)
    assert scene.log.taken == scene.log.claimed == scene.woken == [run.id]
    assert claims(stage) == [0] * 2


@whether_or_not_it_is_kept
async def test_a_message_with_a_key_is_sent_again_and_its_run_worked_on_once(
    stage: Stage, scene: Scene, warm: bool
) -> None:
    async with working(stage, scene, **LONG) as engine:
        run = await scene.idle(stage, engine, warm=warm)
        scene.log.after = lost
        await engine.signal(run.id, "go", dedupe_id="k")
        await run.result(timeout=PATIENCE_S)
    assert scene.woken == [run.id]


async def test_what_was_never_written_is_given_up_by_nobody(stage: Stage, scene: Scene) -> None:
    """Also where nobody knows that: no lease bears the mark of the call."""
    async with working(stage, scene, concurrency=1, **LONG) as engine:
        run = await scene.idle(stage, engine)
        commits = len(scene.log.commits)
        scene.log.before = lost
        with pytest.raises(StoreUnavailableError, match="lost"):
            await engine.signal(run.id, "go")
        scene.log.before = refused
        await caught_up(engine)
        await engine.signal(run.id, "go")
        await run.result(timeout=PATIENCE_S)
    assert [one.release for one in scene.log.commits[commits:]] == [None] * 2
    assert scene.woken == [run.id]


async def test_no_lease_but_its_own_is_given_up(stage: Stage, scene: Scene) -> None:
    """Another process delivered meanwhile, this worker's claim has the run, and the answer is on
    its way when it is looked at what a lost delivery may have leased."""
    async with (
        stage.engine(scene.workflow, observers=[]) as other,
        working(stage, scene, **LONG) as engine,
    ):
        run = await scene.idle(stage, engine)
        gate = scene.log.late = Gate()
        commits = len(scene.log.commits)

        async def behind() -> None:
            await other.signal(run.id, "go")
            engine._shared.local.runs_are_due()
            await asyncio.wait_for(gate.reached.wait(), PATIENCE_S)
            raise LOST

        scene.log.before = behind
        with pytest.raises(StoreUnavailableError, match="lost"):
            await engine.signal(run.id, "go")
        async with asyncio.timeout(PATIENCE_S):
            while engine._outbox._delivering._tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        gate.opened.set()
        await run.result(timeout=PATIENCE_S)
    assert scene.woken == [run.id] == scene.log.claimed
    assert [one.release for one in scene.log.commits[commits:]] == [None] * 2
    assert claims(stage) == [0] * 2


async def test_seats_of_a_delivery_that_fails_are_free_again(stage: Stage, scene: Scene) -> None:
    async def disliked() -> None:
        raise ValueError("the store does not like it")

    async with working(stage, scene, concurrency=1) as engine:
        run = await scene.idle(stage, engine)
        for _ in range(3):
            scene.log.before = disliked
            with pytest.raises(ValueError, match="does not like"):
                await engine.signal(run.id, "go")
            await caught_up(engine)
        async with asyncio.timeout(PATIENCE_S):
            while scene.log.taken == []:
                await caught_up(engine)
                await engine.signal(run.id, "go")
        await run.result(timeout=PATIENCE_S)


async def test_a_lease_that_cannot_be_looked_at_expires(
    stage: Stage, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its place is free again."""
    monkeypatch.setattr("durable_core.engine.client.retrying.PATIENCE_S", 0.0)
    async with working(stage, scene, lease=0.5, concurrency=1) as engine:
        run = await scene.idle(stage, engine)
        scene.log.after, scene.log.looking = lost, refused
        with pytest.raises(StoreUnavailableError, match="lost"):
            await engine.signal(run.id, "go")
        await run.result(timeout=PATIENCE_S)
    assert scene.woken == [run.id]
    assert claims(stage) == [0] * 2


@whether_or_not_it_is_kept
async def test_an_answer_that_a_claim_has_overtaken_takes_nothing_away(
    stage: Stage, scene: Scene, warm: bool
) -> None:
    """It took longer than the lease; the run was claimed again, and is being worked on."""
    gate, slow = Gate(), Gate()

    async def wakes(ctx: Ctx) -> None:
        scene.woken.append(ctx.run_id)
        await gate()

    scene.workflow = Workflow("w").wait_for_signal("go").step("wake", wakes)
    async with working(stage, scene, lease=0.4) as engine:
        run = await scene.idle(stage, engine, warm=warm)
        scene.log.after = slow
        sending = asyncio.create_task(engine.signal(run.id, "go"))
        await asyncio.wait_for(slow.reached.wait(), PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            while not gate.reached.is_set():
                engine._shared.local.runs_are_due()
                await asyncio.sleep(0.02)
        slow.opened.set()
        await sending
        gate.opened.set()
        await run.result(timeout=PATIENCE_S)
    assert scene.woken == [run.id]
    assert not [event for event in stage.watch.events if isinstance(event, LeaseLost)]


# --- the end of the worker -----------------------------------------------------------------------


async def test_a_worker_that_leaves_hands_back_what_was_being_delivered(
    stage: Stage, scene: Scene
) -> None:
    gate = Gate()
    store = stage.store()
    scene.log = Log(store)
    async with stage.engine(scene.workflow, store=store) as engine:
        async with engine.worker(lease=LONG["lease"]):
            await caught_up(engine)
            run = await scene.idle(stage, engine)
            scene.log.after = gate
            sending = asyncio.create_task(engine.signal(run.id, "go"))
            await asyncio.wait_for(gate.reached.wait(), PATIENCE_S)
            asyncio.get_running_loop().call_soon(gate.opened.set)
        await sending
        assert scene.woken == []
        async with engine.worker():
            await run.result(timeout=PATIENCE_S)
    assert scene.log.taken == [run.id] == scene.woken
    assert claims(stage) == [0] * 3


async def test_a_worker_that_leaves_waits_until_a_lost_delivery_is_given_up(
    stage: Stage, scene: Scene
) -> None:
    gate = Gate()
    store = stage.store()
    scene.log = Log(store)
    async with stage.engine(scene.workflow, store=store) as engine:
        async with engine.worker(lease=LONG["lease"]):
            await caught_up(engine)
            run = await scene.idle(stage, engine)
            scene.log.after, scene.log.looking = lost, gate
            with pytest.raises(StoreUnavailableError, match="lost"):
                await engine.signal(run.id, "go")
            await asyncio.wait_for(gate.reached.wait(), PATIENCE_S)
            asyncio.get_running_loop().call_soon(gate.opened.set)
        record = (await store.get([run.id]))[run.id]
        assert record.owner is None
        async with engine.worker():
            await run.result(timeout=PATIENCE_S)
    assert scene.woken == [run.id]


@whether_or_not_it_is_kept
async def test_a_worker_that_is_gone_adopts_nothing(
    stage: Stage, scene: Scene, monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    """The store took longer than the worker could wait for it: the lease expires."""
    monkeypatch.setattr(worker_module, "STORE_GRACE_S", 0.01)
    gate = Gate()
    store = stage.store()
    scene.log = Log(store)
    async with stage.engine(scene.workflow, store=store) as engine:
        async with engine.worker(lease=0.3):
            await caught_up(engine)
            run = await scene.idle(stage, engine, warm=warm)
            scene.log.after = gate
            sending = asyncio.create_task(engine.signal(run.id, "go"))
            await asyncio.wait_for(gate.reached.wait(), PATIENCE_S)
        gate.opened.set()
        await sending
        assert scene.woken == []
        assert stage.watch.names(run.id).count("RunClaimed") == 1
        async with engine.worker():
            await run.result(timeout=PATIENCE_S)
    assert scene.woken == [run.id]


async def test_a_worker_that_is_gone_adopts_nothing_that_it_was_still_reading(
    stage: Stage, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "STORE_GRACE_S", 0.01)
    gate = Gate()
    store = stage.store()
    scene.log = Log(store)
    delivering, reading = store.deliver_and_claim, store.journal

    async def without_entries(*args: Any, **options: Any) -> Delivery:
        delivery: Delivery = await delivering(*args, **options)
        runs = tuple(attrs.evolve(claimed, entries=()) for claimed in delivery.runs)
        return attrs.evolve(delivery, runs=runs)

    async def slowly(*args: Any, **options: Any) -> Any:
        await gate()
        return await reading(*args, **options)

    async with stage.engine(scene.workflow, store=store) as engine:
        async with engine.worker(lease=0.3):
            await caught_up(engine)
            run = await scene.idle(stage, engine)
            with monkeypatch.context() as patch:
                patch.setattr(store, "deliver_and_claim", without_entries)
                patch.setattr(store, "journal", slowly)
                sending = asyncio.create_task(engine.signal(run.id, "go"))
                await asyncio.wait_for(gate.reached.wait(), PATIENCE_S)
        gate.opened.set()
        await sending
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert scene.woken == []
        assert stage.watch.names(run.id).count("RunClaimed") == 1
        async with engine.worker():
            await run.result(timeout=PATIENCE_S)
    assert scene.woken == [run.id]


async def test_a_worker_that_drains_takes_nothing(stage: Stage, scene: Scene) -> None:
    gate = Gate()

    async def waits(ctx: Ctx) -> None:
        await gate()

    busy = Workflow("busy").step("a", waits)
    store = stage.store()
    scene.log = Log(store)
    async with stage.engine(scene.workflow, busy, store=store) as engine:
        async with engine.worker():
            await caught_up(engine)
            run = await scene.idle(stage, engine)
            await engine.start(busy)
            await asyncio.wait_for(gate.reached.wait(), PATIENCE_S)
            (worker,) = engine._shared.local._workers
            assert isinstance(worker, worker_module.Worker)
            draining = asyncio.create_task(worker.drain())
            await asyncio.sleep(0)
            await engine.signal(run.id, "go")
            assert worker.keep_seats(1) is None
            gate.opened.set()
            await draining
        assert "deliver_and_claim" not in scene.log.calls
        async with engine.worker():
            await run.result(timeout=PATIENCE_S)
