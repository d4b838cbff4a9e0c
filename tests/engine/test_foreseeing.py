"""Foreseeing: a message to a run that was given up here lands with what comes of it.

What holds for a message to any run that is leased by its delivery is in ``test_eager_deliveries``,
where the run is kept and where it is not.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.engine.stage import PATIENCE_S, Stage
from tests.engine.test_eager import LONG, caught_up, listening
from tests.engine.test_eager_deliveries import (
    Gate,
    Log,
    Scene,
    claims,
    forget,
    lost,
    refused,
    scene,
    working,
)

from durable_core import Engine, Run, StepContext, Suspend, Workflow, workflow
from durable_core.engine.observer import LeaseLost
from durable_core.engine.worker import worker as worker_module
from durable_core.engine.worker.foreseeing import KEPT
from durable_core.engine.worker.runner import Runner
from durable_core.errors import StoreUnavailableError

Ctx = StepContext[Any, Any]
__all__ = ["scene"]


def warm(engine: Engine) -> set[str]:
    """The runs that the worker here keeps."""
    (worker,) = engine._shared.local._workers
    assert isinstance(worker, worker_module.Worker)
    return set(worker._warm._runs)


def writes(calls: list[str]) -> list[str]:
    """Without what may go on beside it, if a test takes long."""
    return [verb for verb in calls if verb not in ("claim", "inbox", "get")]


async def woken(scene: Scene, run: Run[Any]) -> None:
    """It goes on to its end, and its handler was called once."""
    result = await run.result(timeout=PATIENCE_S)
    assert result["wake"] == 1
    assert scene.woken == [run.id]


async def test_a_signal_is_one_transaction_away_from_its_handler(
    stage: Stage, scene: Scene
) -> None:
    async with working(stage, scene) as engine:
        for _ in range(3):
            run = await scene.idle(stage, engine, warm=True)
            scene.before_handler.clear()
            await engine.signal(run.id, "go", {"n": 1})
            result = await run.result(timeout=PATIENCE_S)
            assert result == {"go": {"n": 1}, "wake": 1}
            assert writes(scene.before_handler) == ["deliver_and_claim"]
    assert scene.log.claimed == scene.log.taken == []
    assert claims(stage) == [0] * 6


async def test_a_conversation_takes_a_transaction_for_each_message(
    stage: Stage, scene: Scene
) -> None:
    scene.workflow = Workflow("w").wait_for_signal("a").wait_for_signal("b").wait_for_signal("c")
    async with working(stage, scene) as engine:
        run = await scene.idle(stage, engine, warm=True)
        for name in "abc":
            await engine.signal(run.id, name, name)
        assert await run.result(timeout=PATIENCE_S) == {"a": "a", "b": "b", "c": "c"}
        assert writes(scene.log.calls) == ["deliver_and_claim"] * 3
        assert warm(engine) == set()


async def test_what_nobody_waits_for_yet_is_kept_in_its_order(stage: Stage, scene: Scene) -> None:
    scene.workflow = Workflow("w").wait_for_signal("first").wait_for_signal("later")
    async with working(stage, scene) as engine:
        run = await scene.idle(stage, engine, warm=True)
        await engine.signal(run.id, "later", 1)
        await engine.signal(run.id, "later", 2)
        await engine.signal(run.id, "first", 3)
        assert await run.result(timeout=PATIENCE_S) == {"first": 3, "later": 1}
        assert writes(scene.log.calls) == ["deliver_and_claim"] * 3


async def test_any_message_may_be_foreseen(stage: Stage, scene: Scene) -> None:
    async def asks(ctx: Ctx) -> Any:
        return Suspend("?") if ctx.resumption is None else ctx.resumption.data

    asking = Workflow("asking").step("ask", asks)
    store = stage.store()
    log = scene.log = Log(store)
    async with stage.running(scene.workflow, asking, store=store) as engine:
        asked = await engine.start(asking)
        await stage.watch.until("RunSuspended", asked.id)
        run = await scene.idle(stage, engine, warm=True)
        await engine.resume(asked.id, 7)
        assert await asked.result(timeout=PATIENCE_S) == {"ask": 7}
        await caught_up(engine)
        await engine.pause(run.id)
        await caught_up(engine)
        await engine.signal(run.id, "go")
        await caught_up(engine)
        assert scene.woken == []
        await engine.unpause(run.id)
        await woken(scene, run)
        other = await scene.idle(stage, engine, warm=True)
        await engine.cancel(other.id)
        await engine.end_of(other.id, timeout=PATIENCE_S)
        assert writes(log.calls) == ["deliver_and_claim"]
        assert (await other.info()).status == "cancelled"


async def test_a_used_token_and_a_used_key_are_answered_as_ever(stage: Stage, scene: Scene) -> None:
    scene.workflow = Workflow("w").wait_for_signal("go").wait_for_signal("on")
    async with working(stage, scene) as engine:
        run = await scene.idle(stage, engine, warm=True)
        for _ in range(2):
            await engine.signal(run.id, "go", 1, dedupe_id="k")
        await engine.signal(run.id, "on", 2, dedupe_id="k")
        assert await run.result(timeout=PATIENCE_S) == {"go": 1, "on": 2}


# --- where it cannot be foreseen -----------------------------------------------------------------


async def test_what_came_from_elsewhere_goes_before(stage: Stage, scene: Scene) -> None:
    scene.workflow = Workflow("w").wait_for_signal("go").step("wake", scene.wake)
    async with (
        stage.engine(scene.workflow, observers=[]) as other,
        working(stage, scene, **LONG) as engine,
    ):
        run = await scene.idle(stage, engine, warm=True)
        assert warm(engine) == {run.id}
        gate = scene.log.slow = Gate()  # the worker hears of it, and comes too late

        async def between() -> None:
            await other.signal(run.id, "go", "theirs")

        scene.log.before = between
        await engine.signal(run.id, "go", "ours")
        gate.opened.set()
        result = await run.result(timeout=PATIENCE_S)
        assert result == {"go": "theirs", "wake": 1}
    assert scene.log.taken == [run.id] == scene.woken


async def test_a_run_that_went_on_elsewhere_is_read_again(stage: Stage, scene: Scene) -> None:
    scene.workflow = Workflow("w").wait_for_signal("a").wait_for_signal("b").step("x", scene.wake)
    async with working(stage, scene, **LONG) as engine:
        run = await scene.idle(stage, engine, warm=True)
        waits = (await run.info()).waiting_for
        async with stage.engine(scene.workflow, observers=[]) as other:
            (here,) = engine._shared.local._workers
            engine._shared.local.leave(here)
            engine._shared.listener.remove(here._heard)  # type: ignore[attr-defined]
            async with other.worker():
                await other.signal(run.id, "a", 1)
                async with asyncio.timeout(PATIENCE_S):
                    while (await run.info()).waiting_for[:1] == waits:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
            engine._shared.local.join(here)
        assert warm(engine) == {run.id}
        await engine.signal(run.id, "b", 2)
        assert await run.result(timeout=PATIENCE_S) == {"a": 1, "b": 2, "x": 1}
    assert scene.log.taken == [run.id]


async def test_another_run_of_the_same_name_is_another_run(stage: Stage, scene: Scene) -> None:
    """It ended elsewhere, was removed, and was started anew with another input."""
    scene.workflow = Workflow("w").wait_for_signal("go").returns(lambda ctx: ctx.input)
    async with working(stage, scene, **LONG) as engine:
        run = await engine.start(scene.workflow, "old", id="x")
        await stage.watch.until("RunSuspended", run.id)
        await listening(engine)
        await caught_up(engine)
        async with stage.engine(scene.workflow, observers=[]) as other:
            (here,) = engine._shared.local._workers
            engine._shared.local.leave(here)
            engine._shared.listener.remove(here._heard)  # type: ignore[attr-defined]
            async with other.worker():
                await other.signal("x", "go")
                assert await other.run("x").result(timeout=PATIENCE_S) == "old"
                assert await engine._shared.store.prune(before_ms=2**53) == 1
                await other.start(scene.workflow, "new", id="x")
                async with asyncio.timeout(PATIENCE_S):
                    while (await run.info()).status != "suspended":  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
            engine._shared.local.join(here)
        assert warm(engine) == {"x"}
        await engine.signal("x", "go")
        result: Any = await run.result(timeout=PATIENCE_S)
        assert result == "new"
    assert scene.log.taken == ["x"]


async def test_a_message_that_is_delivered_after_the_moment_is_too_late(
    stage: Stage, scene: Scene
) -> None:
    """It was sent before, and the store took long."""
    wait = timedelta(milliseconds=400)
    scene.workflow = Workflow("w").wait_for_signal("go", timeout=wait, on_timeout="continue")
    store = stage.store()
    scene.log = Log(store)
    one = {**LONG, "concurrency": 1}  # the seat is kept: nobody claims the run meanwhile
    async with stage.running(scene.workflow, store=store, worker=one) as engine:
        await caught_up(engine)
        run = await scene.idle(stage, engine, warm=True)

        async def stalls() -> None:
            due_ms = (await store.get([run.id]))[run.id].created_at_ms + 500
            async with asyncio.timeout(PATIENCE_S):
                while await store.now_ms() < due_ms:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

        scene.log.before = stalls
        await engine.signal(run.id, "go", "too late")
        assert await run.result(timeout=PATIENCE_S) == {"go": None}
    assert scene.log.taken == [run.id]


async def test_branches_that_wait_for_one_name_are_served_in_their_order(
    stage: Stage, scene: Scene
) -> None:
    """By a cursor that was replayed without the message as by one that is replayed with it."""

    async def body(ctx: Any, input: Any) -> Any:
        plain = ctx.wait_for_signal("a", key="plain")
        timed = ctx.wait_for_signal("a", key="timed", timeout=timedelta(hours=1))
        return repr(await ctx.first(plain, timed))

    scene.workflow = workflow(name="w")(body)
    results = []
    async with working(stage, scene, **LONG) as engine:
        for is_warm in (False, True):
            run = await scene.idle(stage, engine)
            await engine.signal(run.id, "something else")
            async with asyncio.timeout(PATIENCE_S):
                while warm(engine) != {run.id}:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            await caught_up(engine)
            if not is_warm:
                forget(engine)
            await engine.signal(run.id, "a", 1)
            results.append(await run.result(timeout=PATIENCE_S))
    assert results[0] == results[1]


async def test_a_run_that_an_operator_has_to_see_to_is_not_kept(stage: Stage, scene: Scene) -> None:
    """Parked by code that did not fit, it was not replayed to its end; now the code fits again."""
    code = ["a"]

    async def a() -> int:
        return 1

    async def b() -> int:
        return 1

    async def body(ctx: Any, input: Any) -> Any:
        await ctx.step(a if code == ["a"] else b)
        return await ctx.wait_for_signal("go")

    scene.workflow = workflow(name="w")(body)
    async with working(stage, scene, **LONG) as engine:
        run = await scene.idle(stage, engine)
        code[0] = "b"
        await engine.signal(run.id, "other")
        await stage.watch.until("RunSuspended", run.id, times=2)
        assert (await run.info()).waiting_for[0].kind == "operator"
        assert warm(engine) == set()
        code[0] = "a"
        await caught_up(engine)
        await engine.signal(run.id, "go", 1)
        assert await run.result(timeout=PATIENCE_S) == 1


async def test_the_newest_few_are_kept(stage: Stage, scene: Scene) -> None:
    async with working(stage, scene) as engine:
        runs = [await scene.idle(stage, engine, warm=True) for _ in range(KEPT + 1)]
        assert warm(engine) == {run.id for run in runs[1:]}
        for run in runs:
            await engine.signal(run.id, "go")
            await run.result(timeout=PATIENCE_S)
            await caught_up(engine)
        assert warm(engine) == set()
    assert scene.log.taken == [runs[0].id]


async def test_what_fails_here_is_tried_as_ever(
    stage: Stage, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> Any:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(Runner, "foresee", fails)
    async with working(stage, scene) as engine:
        run = await scene.idle(stage, engine, warm=True)
        await engine.signal(run.id, "go")
        await woken(scene, run)
    assert scene.log.taken == [run.id]


async def test_a_body_that_is_kept_is_closed(stage: Stage, scene: Scene) -> None:
    """Its coroutine ends with its worker, or where it was foreseen in vain."""
    ended: list[str] = []

    async def body(ctx: Any, input: Any) -> Any:
        try:
            await ctx.wait_for_signal("go")
            return await ctx.wait_for_signal("on")
        except GeneratorExit:
            ended.append(ctx.run_id)
            raise

    scene.workflow = workflow(name="w")(body)
    async with working(stage, scene) as engine:
        run = await scene.idle(stage, engine, warm=True)
        assert ended == []
        scene.log.before = refused
        await engine.signal(run.id, "go")
        assert ended == [run.id]
        async with asyncio.timeout(PATIENCE_S):
            while warm(engine) != {run.id}:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await engine.signal(run.id, "on", 1)
        assert await run.result(timeout=PATIENCE_S) == 1
        assert ended == [run.id]
        other = await scene.idle(stage, engine, warm=True)
    assert ended == [run.id, other.id]


# --- errors --------------------------------------------------------------------------------------


async def test_a_lost_answer_is_given_up_and_worked_on_once(stage: Stage, scene: Scene) -> None:
    async with working(stage, scene, **LONG) as engine:
        run = await scene.idle(stage, engine, warm=True)
        scene.log.after = lost
        with pytest.raises(StoreUnavailableError, match="lost"):
            await engine.signal(run.id, "go")
        await woken(scene, run)
    assert scene.log.claimed == [run.id]
    assert claims(stage) == [0] * 2


async def test_a_lost_answer_of_what_had_ended_the_run(stage: Stage, scene: Scene) -> None:
    scene.workflow = Workflow("w").wait_for_signal("go")
    async with working(stage, scene, **LONG) as engine:
        run = await scene.idle(stage, engine, warm=True)
        scene.log.after = lost
        with pytest.raises(StoreUnavailableError, match="lost"):
            await engine.signal(run.id, "go", 1)
        assert await run.result(timeout=PATIENCE_S) == {"go": 1}
    assert scene.log.claimed == []


async def test_a_lost_answer_of_what_made_work_for_others(stage: Stage) -> None:
    child = Workflow("child").step("x", lambda ctx: 1)
    parent = Workflow("w").wait_for_signal("go").child("c", child)
    store = stage.store()
    log = Log(store)
    async with stage.running(parent, child, store=store, worker=LONG) as engine:
        await listening(engine)
        await caught_up(engine)
        run = await engine.start(parent)
        await stage.watch.until("RunSuspended", run.id)
        await caught_up(engine)
        assert warm(engine) == {run.id}
        for ear in list(engine._shared.listener._listeners):  # in memory it would hear itself
            engine._shared.listener.remove(ear)
        log.after = lost
        with pytest.raises(StoreUnavailableError, match="lost"):
            await engine.signal(run.id, "go")
        await run.result(timeout=2.0)  # and not with the fallback poll


async def test_who_speaks_of_the_last_lease_is_not_heard_of_the_next(
    stage: Stage, scene: Scene
) -> None:
    """A renewal was asked for while the run was held before, and is answered when it is again."""
    gate = Gate()

    async def wakes(ctx: Ctx) -> int:
        scene.woken.append(ctx.run_id)
        await gate()
        return 1

    scene.workflow = Workflow("w").wait_for_signal("go").step("wake", wakes)
    async with working(stage, scene, **LONG) as engine:
        (worker,) = engine._shared.local._workers
        assert isinstance(worker, worker_module.Worker)
        run = await scene.idle(stage, engine, warm=True)
        before, _ = worker._warm._runs[run.id]
        result = await engine._shared.store.renew([before.lease], lease_ms=60_000)
        assert run.id in result.lost
        await engine.signal(run.id, "go")
        await asyncio.wait_for(gate.reached.wait(), PATIENCE_S)
        worker._held._renewed(result, [before])
        gate.opened.set()
        await woken(scene, run)
    assert not [event for event in stage.watch.events if isinstance(event, LeaseLost)]


async def test_what_was_refused_is_sent_again_without_it(stage: Stage, scene: Scene) -> None:
    async with working(stage, scene, **LONG) as engine:
        run = await scene.idle(stage, engine, warm=True)
        scene.log.before = refused
        await engine.signal(run.id, "go")
        await woken(scene, run)
    assert len(claims(stage)) == 2


async def test_a_worker_that_leaves_hands_back_what_was_foreseen(
    stage: Stage, scene: Scene
) -> None:
    gate = Gate()
    store = stage.store()
    scene.log = Log(store)
    async with stage.engine(scene.workflow, store=store) as engine:
        async with engine.worker(lease=LONG["lease"]):
            await caught_up(engine)
            run = await scene.idle(stage, engine, warm=True)
            scene.log.after = gate
            sending = asyncio.create_task(engine.signal(run.id, "go"))
            await asyncio.wait_for(gate.reached.wait(), PATIENCE_S)
            asyncio.get_running_loop().call_soon(gate.opened.set)
        await sending
        assert scene.woken == []
        assert (await store.get([run.id]))[run.id].owner is None
        async with engine.worker():
            await woken(scene, run)
    assert claims(stage) == [0] * 3


async def test_a_warm_run_makes_of_its_messages_what_a_cold_one_makes(
    stage: Stage, scene: Scene
) -> None:
    """Messages of two names, more than are waited for, with and without what is kept."""
    scene.workflow = (
        Workflow("w")
        .wait_for_signal("a", timeout=timedelta(hours=1))
        .step("wake", scene.wake)
        .wait_for_signal("b")
        .wait_for_signal("again", "a")
    )
    results, journals = [], []
    async with working(stage, scene) as engine:
        for is_warm in (True, False):
            run = await scene.idle(stage, engine, warm=is_warm)
            for number, name in enumerate("bbaa"):
                if not is_warm:
                    forget(engine)
                await engine.signal(run.id, name, number)
                await caught_up(engine)
            results.append(await run.result(timeout=PATIENCE_S))
            entries = await engine._shared.store.journal(run.id)
            journals.append([(one.seq, one.kind, one.unit, one.payload) for one in entries])
    assert results[0] == results[1] == {"a": 2, "wake": 1, "b": 0, "again": 3}
    assert journals[0] == journals[1]
