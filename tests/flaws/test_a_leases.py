"""A, flaws 1 to 7: duplicate delivery, leases, fencing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.flaws.stage import AT_ONCE, ONCE, PATIENCE_S, Ctx, Stage, kinds, kinds_of, units, writes

from durable_core import Engine, Retry, RunFailed, Workflow
from durable_core.engine.observer import LeaseLost, ObservedEvent
from durable_core.store import ClaimRequest, CommitVerdict


async def test_flaw_1_a_second_delivery_of_a_failing_step_starts_no_second_retry_chain(
    stage: Stage,
) -> None:
    """Of two deliveries only one may write, so a step of four attempts records four, and the
    lost delivery costs at most the one call it had begun."""
    calls: list[int] = []

    async def fails(ctx: Ctx) -> None:
        calls.append(ctx.attempt)
        raise ConnectionError("down")

    workflow = Workflow("w").step("a", fails, retry=Retry(max_attempts=4, initial=0))
    store = stage.store()
    async with Engine(store, [workflow]) as first, first.worker():
        with store.tap.freezing(before=writes("a")) as frozen:
            run = await first.start(workflow, id="r")
            await frozen.wait()
            stage.clock.forward(minutes=5)
            async with Engine(stage.store(), [workflow]) as second, second.worker():
                with pytest.raises(RunFailed, match="down"):
                    await second.run("r").result(timeout=PATIENCE_S)
        recorded = [entry.attempt for entry in await run.journal() if str(entry.unit) == "a"]
    assert recorded == [1, 2, 3, 4]
    assert calls == [1, 1, 2, 3, 4]
    assert CommitVerdict.FENCED in store.tap.verdicts
    assert store.tap.applied == []


async def test_flaw_2_the_loser_of_two_deliveries_writes_nothing(stage: Stage) -> None:
    """When the holder's delivery fails terminally, the success of the one that lost its lease
    changes nothing, and both were given the same idempotency key."""
    keys: list[str] = []

    async def charge(ctx: Ctx) -> str:
        keys.append(ctx.idempotency_key)
        if len(keys) > 1:
            raise ValueError("card refused")
        return "charged"

    workflow = Workflow("w").step("pay", charge, retry=ONCE)
    store = stage.store()
    async with Engine(store, [workflow]) as first, first.worker():
        with store.tap.freezing(before=writes("pay")) as frozen:
            run = await first.start(workflow, id="r")
            await frozen.wait()
            stage.clock.forward(minutes=5)
            async with Engine(stage.store(), [workflow]) as second, second.worker():
                await stage.until(second.run("r"), "failed")
        assert (await run.info()).status == "failed"
        assert "unit_completed" not in await kinds(run)
    assert len(set(keys)) == 1


async def test_flaw_2_a_success_that_comes_late_is_recorded_and_compensated(stage: Stage) -> None:
    """A handler that succeeds although the run was cancelled meanwhile is on record, and so its
    effect is undone."""
    begun = asyncio.Event()
    undone: list[Any] = []

    async def stubborn(ctx: Ctx) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        raise AssertionError("unreachable")

    async def undo(ctx: Ctx) -> None:
        undone.append(ctx.value)

    workflow = Workflow("w").step("a", stubborn, compensate=undo)
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        await begun.wait()
        await run.cancel()
        await stage.until(run, "cancelled")
        assert (await units(run, "unit_completed"), await units(run, "unit_compensated")) == (
            ["a"],
            ["a"],
        )
    assert undone == ["done all the same"]


async def test_flaw_3_a_handler_that_ran_out_of_time_is_cancelled_before_the_next_try(
    stage: Stage,
) -> None:
    """An attempt's time limit ends its handler, so that attempts never run beside each other."""
    running: list[int] = []
    ended: list[str] = []

    async def hangs_once(ctx: Ctx) -> str:
        running.append(ctx.attempt)
        assert len(running) == 1
        try:
            if ctx.attempt == 1:
                await asyncio.Event().wait()
            return "in time"
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        finally:
            running.remove(ctx.attempt)

    workflow = Workflow("w").step(
        "a", hangs_once, retry=AT_ONCE, timeout=timedelta(milliseconds=20)
    )
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        assert await run.result(timeout=PATIENCE_S) == {"a": "in time"}
        assert (await kinds(run)).count("attempt_failed") == 1
    assert ended == ["cancelled"]


async def test_flaw_3_a_lost_lease_stops_the_handler_and_is_taken_over_in_seconds(
    stage: Stage,
) -> None:
    """Leases are short and renewed in the background; a worker that lost one cancels its handler
    as soon as a renewal tells it so."""
    begun, stopped = asyncio.Event(), asyncio.Event()
    seen: list[ObservedEvent] = []

    class Watcher:
        def on_event(self, event: ObservedEvent) -> None:
            seen.append(event)

    async def hangs(ctx: Ctx) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    workflow = Workflow("w").step("a", hangs)
    lease = timedelta(milliseconds=300)
    other = stage.store()
    await other.open()
    engine = Engine(stage.store(), [workflow], observers=[Watcher()])
    async with engine, engine.worker(lease=lease, grace=timedelta(0)):
        run = await engine.start(workflow)
        await begun.wait()
        request = ClaimRequest(
            worker="other",
            lease_ms=3_600_000,
            limit=1,
            queues=("default",),
            kinds=await kinds_of(other, run.id),
        )
        async with asyncio.timeout(PATIENCE_S):
            taken = False
            while not taken:  # a renewal may come in between
                stage.clock.forward(seconds=1)
                taken = bool((await other.claim(request)).runs)
            await stopped.wait()
    await other.close()
    assert any(isinstance(event, LeaseLost) for event in seen)


async def test_flaw_4_a_run_that_kills_its_workers_is_held_and_visible(stage: Stage) -> None:
    """Deaths of workers are counted, and after five without progress the run is held as poisoned
    until an operator lets it go on."""
    calls: list[int] = []

    async def a(ctx: Ctx) -> int:
        calls.append(ctx.attempt)
        return 1

    workflow = Workflow("w").step("a", a)
    store = stage.store()
    async with Engine(store, [workflow]) as engine:
        run = await engine.start(workflow)
        for _ in range(5):
            await stage.die_holding(run, store)
        async with engine.worker():
            await stage.until_recorded(run, "run_parked")
            (wait,) = (await run.info()).waiting_for
            assert (wait.kind, wait.reason) == ("operator", "poisoned")
            assert "operator" in str(await run.explain())
            assert calls == []
            await engine.retry(run.id)
            assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    assert calls == [1]


def _boom(*_: Any) -> Any:
    raise ZeroDivisionError("a mistake of the author")


async def _one(ctx: Ctx) -> int:
    return 1


async def _again(ctx: Ctx, value: Any) -> int:
    return 1


async def _unserialisable(ctx: Ctx) -> Any:
    return object()


LEAF = Workflow("leaf").step("a", _one)

MISTAKES = {
    "until": Workflow("w").loop("a", _again, until=_boom),
    "feedback": Workflow("w").loop("a", _again, feedback=_boom, max_iterations=3),
    "initial": Workflow("w").loop("a", _again, initial=_boom),
    "items": Workflow("w").map("a", _boom, _one),
    "select": Workflow("w").route("a", _boom, {"k": _one}),
    "duration": Workflow("w").sleep("a", _boom),
    "signal name": Workflow("w").wait_for_signal("a", _boom),
    "child input": Workflow("w").child("a", LEAF, input=_boom),
    "returns": Workflow("w").step("a", _one).returns(_boom),
    "unserialisable result": Workflow("w").step("a", _unserialisable),
    "handler": Workflow("w").step("a", _boom, retry=ONCE),
    "retry predicate": Workflow("w").step("a", _boom, retry=Retry(on=_boom)),
}


@pytest.mark.parametrize("workflow", MISTAKES.values(), ids=MISTAKES.keys())
async def test_flaw_5_a_mistake_in_any_callable_ends_the_run_and_says_so(
    stage: Stage, workflow: Workflow[Any, Any]
) -> None:
    """Whatever raises, or gives what cannot be stored, is an outcome of that run alone."""
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        with pytest.raises(RunFailed) as caught:
            await run.result(timeout=PATIENCE_S)
        failure = caught.value.failure
        info = await run.info()
    assert info.status == "failed"
    assert info.failure is not None
    assert failure.type in ("ZeroDivisionError", "EncodingError")


async def test_flaw_5_a_run_of_an_unknown_workflow_waits_visibly_and_burns_nothing(
    stage: Stage,
) -> None:
    """A worker that does not know a workflow never claims its runs, and ``explain`` says what
    is missing."""
    known, unknown = Workflow("known").step("a", _one), Workflow("unknown").step("a", _one)
    async with Engine(stage.store(), [unknown]) as starter:
        await starter.start(unknown, id="waits")
    async with Engine(stage.store(), [known]) as engine:
        async with engine.worker():
            other = await engine.start(known)
            await other.result(timeout=PATIENCE_S)
        waits = engine.run("waits")
        assert (await waits.info()).status == "pending"
        assert "needs a worker that knows this workflow" in str(await waits.explain())
    async with Engine(stage.store(), [unknown]) as engine, engine.worker():
        assert await engine.run("waits").result(timeout=PATIENCE_S) == {"a": 1}


async def test_flaw_6_attempts_and_their_errors_outlive_the_worker(stage: Stage) -> None:
    """The attempt's number, its error and when the next one is due stand in the journal, and
    whoever takes the run over counts on."""
    calls: list[int] = []

    async def fails(ctx: Ctx) -> None:
        calls.append(ctx.attempt)
        raise ConnectionError(f"down, {ctx.attempt}")

    retry = Retry(max_attempts=2, initial=timedelta(days=1), max_delay=timedelta(days=1))
    workflow = Workflow("w").step("a", fails, retry=retry)
    async with Engine(stage.store(), [workflow]) as engine:
        async with engine.worker():
            run = await engine.start(workflow)
            info = await stage.until(run, "suspended")
        (wait,) = info.waiting_for
        assert (wait.kind, wait.unit) == ("retry", "a")
        (failed,) = [e for e in await run.journal() if e.kind == "attempt_failed"]
        assert (failed.attempt, str(failed.failure)) == (1, "ConnectionError: down, 1")
    stage.clock.forward(days=2)
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        with pytest.raises(RunFailed, match="down, 2"):
            await engine.run(run.id).result(timeout=PATIENCE_S)
    assert calls == [1, 2]


async def test_flaw_7_journal_and_result_cannot_disagree(stage: Stage) -> None:
    """Of two deliveries with two results, the one that is recorded is the one that everybody
    sees: later steps, the journal, and the caller."""
    drawn: list[str] = []
    seen: list[str] = []

    async def draw(ctx: Ctx) -> str:
        drawn.append(f"X{len(drawn) + 1}")
        return drawn[-1]

    async def look(ctx: Ctx) -> None:
        seen.append(ctx.results["draw"])

    workflow = Workflow("w").step("draw", draw).step("look", look)
    store = stage.store()
    async with Engine(store, [workflow]) as first, first.worker():
        with store.tap.freezing(before=writes("draw")) as frozen:
            await first.start(workflow, id="r")
            await frozen.wait()
            stage.clock.forward(minutes=5)
            async with Engine(stage.store(), [workflow]) as second, second.worker():
                result = await second.run("r").result(timeout=PATIENCE_S)
        journal = await first.run("r").journal()
    assert drawn == ["X1", "X2"]
    assert seen == ["X2"]
    assert result["draw"] == "X2"
    assert [e.value for e in journal if str(e.unit) == "draw"] == ["X2"]
