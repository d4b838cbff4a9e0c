"""F, flaws 34 to 42: starting, recovering, watching and operating runs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import attrs
import pytest
from tests.flaws.stage import AT_ONCE, ONCE, PATIENCE_S, Ctx, Stage, kinds, kinds_of, units

from durable_core import (
    DuplicateRunError,
    DurableError,
    Engine,
    Retry,
    RunFailed,
    RunFinishedError,
    TerminalError,
    Workflow,
)
from durable_core.engine.observer import AttemptEnded, ObservedEvent, RunFinished
from durable_core.store import ClaimRequest


async def one(ctx: Ctx) -> int:
    return 1


async def test_flaw_34_the_callers_id_makes_a_start_idempotent(stage: Stage) -> None:
    """Starting twice under one id joins the run; another input or workflow is refused, and so is
    any second start for whoever asks for that."""
    w, other = Workflow("w").step("a", one), Workflow("other").step("a", one)
    async with Engine(stage.store(), [w, other]) as engine:
        runs = await asyncio.gather(*(engine.start(w, {"n": 1}, id="order-17") for _ in range(5)))
        assert {run.id for run in runs} == {"order-17"}
        assert len([info async for info in engine.runs()]) == 1
        for workflow, given in ((w, {"n": 2}), (other, {"n": 1})):
            with pytest.raises(DuplicateRunError):
                await engine.start(workflow, given, id="order-17")
        with pytest.raises(DuplicateRunError):
            await engine.start(w, {"n": 1}, id="order-17", on_duplicate="reject")


async def test_flaw_35_an_orphan_is_recovered_by_exactly_one_of_many_workers(
    stage: Stage,
) -> None:
    """Recovery is claiming: of concurrent claims one gets the run whose lease has run out."""
    workflow = Workflow("w").step("a", one)
    stores = [stage.store() for _ in range(4)]
    async with Engine(stage.store(), [workflow]) as engine:
        run = await engine.start(workflow)
        for store in stores:
            await store.open()
        await stage.die_holding(run, stores[0])
        kinds_known = await kinds_of(stores[0], run.id)
        batches = await asyncio.gather(
            *(
                store.claim(
                    ClaimRequest(
                        worker=f"w{n}",
                        lease_ms=60_000,
                        limit=10,
                        queues=("default",),
                        kinds=kinds_known,
                    )
                )
                for n, store in enumerate(stores)
            )
        )
        for store in stores:
            await store.close()
    assert sorted(len(batch.runs) for batch in batches) == [0, 0, 0, 1]


async def test_flaw_35_a_parent_is_told_of_its_childs_end_in_the_same_commit(
    stage: Stage,
) -> None:
    """There is no moment in which a child has ended and its waiting parent will not hear of it."""
    leaf = Workflow("leaf").step("a", one)
    workflow = Workflow("w").child("c", leaf)
    store = stage.store()
    async with Engine(store, [workflow, leaf]) as engine, engine.worker():
        run = await engine.start(workflow)
        await run.result(timeout=PATIENCE_S)
    (end,) = [c for c in store.tap.applied if c.finished and c.run_id != run.id]
    assert [(m.run_id, m.kind) for m in end.messages] == [(run.id, "child_ended")]


async def test_flaw_36_one_claim_carries_a_run_through_all_its_steps(stage: Stage) -> None:
    """The next step goes on where the last one ended, without a queue and a poll between, and
    many runs are in hand at once."""
    together = asyncio.Barrier(10)

    async def meet(ctx: Ctx) -> None:
        await together.wait()

    workflow: Workflow[Any, Any] = Workflow("w")
    for n in range(10):
        workflow = workflow.step(f"s{n}", one)
    workflow = workflow.step("meet", meet)
    store = stage.store()
    async with Engine(store, [workflow]) as engine:
        runs = await asyncio.gather(*(engine.start(workflow) for _ in range(10)))
        async with engine.worker(concurrency=10):
            await asyncio.gather(*(run.result(timeout=PATIENCE_S) for run in runs))
            epochs = {record.epoch for record in (await store.get([r.id for r in runs])).values()}
    assert {epoch // 2**32 for epoch in epochs} == {1}


async def test_flaw_36_higher_priority_goes_first_and_concurrency_is_bounded(
    stage: Stage,
) -> None:
    """A worker takes the more urgent run first and calls no more handlers than it may."""
    order: list[int] = []
    running: list[int] = []

    async def note(ctx: Ctx) -> None:
        running.append(1)
        assert len(running) == 1
        order.append(ctx.input)
        await asyncio.sleep(0)
        running.pop()

    workflow = Workflow("w").step("a", note)
    async with Engine(stage.store(), [workflow]) as engine:
        runs = [await engine.start(workflow, n, priority=n) for n in (0, 5, 1, 9)]
        async with engine.worker(concurrency=1):
            for run in runs:
                await run.result(timeout=PATIENCE_S)
    assert order == [9, 5, 1, 0]


async def test_flaw_37_the_last_step_and_the_end_are_one_commit(stage: Stage) -> None:
    """Completing costs no extra delivery, and a retry shows in ``updated_at``."""
    updated: list[Any] = []

    async def flaky(ctx: Ctx) -> int:
        stage.clock.forward(seconds=1)
        updated.append((await engine.get(ctx.run_id)).updated_at)
        if ctx.attempt < 3:
            raise ConnectionError("again")
        return 1

    workflow = Workflow("w").step("a", flaky, retry=AT_ONCE)
    store = stage.store()
    async with Engine(store, [workflow]) as engine, engine.worker():
        await (await engine.start(workflow)).result(timeout=PATIENCE_S)
    assert [[e.kind for e in c.entries] for c in store.tap.applied if c.entries] == [
        ["attempt_failed"],
        ["attempt_failed"],
        ["unit_completed", "run_completed"],
    ]
    assert updated[0] < updated[1] < updated[2]


async def test_flaw_37_observers_the_journal_and_explain_tell_what_happens(stage: Stage) -> None:
    """There are hooks for every attempt and end, a journal, and a sentence about any run; the
    command line, the dashboard and OpenTelemetry come with later releases."""
    seen: list[ObservedEvent] = []

    class Watcher:
        def on_event(self, event: ObservedEvent) -> None:
            seen.append(event)

    class Broken:
        def on_event(self, event: ObservedEvent) -> None:
            raise RuntimeError("observers hurt no run")

    workflow = Workflow("w").step("a", one).wait_for_signal("go")
    async with (
        Engine(stage.store(), [workflow], observers=[Broken(), Watcher()]) as engine,
        engine.worker(),
    ):
        run = await engine.start(workflow)
        await stage.until(run, "suspended")
        explanation = await run.explain()
        assert "waits" in str(explanation) and "'go'" in str(explanation)
        assert explanation.sentence == str(explanation)
        await run.signal("go")
        await run.result(timeout=PATIENCE_S)
        assert (await run.explain()).facts["status"] == "completed"
    ended = [event.outcome for event in seen if isinstance(event, AttemptEnded)]
    finished = [event.status for event in seen if isinstance(event, RunFinished)]
    assert (ended, finished) == (["succeeded"], ["completed"])


async def test_flaw_38_a_failed_run_can_be_retried_at_its_failed_unit(stage: Stage) -> None:
    """What needs no undoing is kept; the failed unit runs again in a new generation."""
    calls: list[str] = []
    mended: list[bool] = []

    async def a(ctx: Ctx) -> int:
        calls.append(ctx.unit)
        return 1

    async def b(ctx: Ctx) -> int:
        calls.append(ctx.unit)
        if not mended:
            raise TerminalError("broken")
        return 2

    workflow = Workflow("w").step("a", a).step("b", b)
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        await stage.until(run, "failed")
        mended.append(True)
        await engine.retry(run.id)
        assert await run.result(timeout=PATIENCE_S) == {"a": 1, "b": 2}
    assert calls == ["a", "b", "b"]


async def test_flaw_38_a_run_can_be_forked_from_a_step(stage: Stage) -> None:
    """The fork has the journal up to there and goes its own way; the source is untouched."""
    calls: list[str] = []

    async def note(ctx: Ctx) -> str:
        calls.append(f"{ctx.run_id}:{ctx.unit}")
        return ctx.run_id

    workflow = Workflow("w").step("a", note).step("b", note).step("c", note)
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow, id="source")
        await run.result(timeout=PATIENCE_S)
        before = await kinds(run)
        fork = await engine.fork("source", from_step="b", id="fork")
        assert await fork.result(timeout=PATIENCE_S) == {"a": "source", "b": "fork", "c": "fork"}
        assert await kinds(run) == before
    assert calls == ["source:a", "source:b", "source:c", "fork:b", "fork:c"]


async def test_flaw_38_a_run_can_be_paused(stage: Stage) -> None:
    """No attempt begins while it is paused, running ones may commit, and it goes on after."""
    gate, begun = asyncio.Event(), asyncio.Event()
    calls: list[str] = []

    async def waits(ctx: Ctx) -> None:
        calls.append(ctx.unit)
        begun.set()
        await gate.wait()

    workflow = Workflow("w").step("a", waits).step("b", waits)
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        await begun.wait()
        await engine.pause(run.id)
        await stage.until_recorded(run, "run_paused")
        gate.set()
        info = await stage.until(run, "suspended")
        assert [(wait.kind, wait.reason) for wait in info.waiting_for] == [("operator", "paused")]
        assert await units(run, "unit_completed") == ["a"]
        await engine.unpause(run.id)
        await run.result(timeout=PATIENCE_S)
    assert calls == ["a", "b"]


async def test_flaw_39_errors_are_classified_and_kept_whole(stage: Stage) -> None:
    """What cannot get better is not tried again, and type, message, traceback and cause of an
    error are on record."""
    calls: list[str] = []

    async def terminal(ctx: Ctx) -> None:
        calls.append("terminal")
        raise TerminalError("pointless")

    async def hopeless(ctx: Ctx) -> None:
        calls.append("hopeless")
        raise PermissionError("no")

    async def caused(ctx: Ctx) -> None:
        calls.append("caused")
        try:
            raise KeyError("sku-1")
        except KeyError as error:
            raise LookupError("no such item") from error

    retry = Retry(max_attempts=3, initial=0, give_up_on=(PermissionError,))
    workflows = [
        Workflow(handler.__name__).step("a", handler, retry=retry)
        for handler in (terminal, hopeless, caused)
    ]
    async with Engine(stage.store(), workflows) as engine, engine.worker():
        for workflow in workflows:
            run = await engine.start(workflow)
            with pytest.raises(RunFailed) as caught:
                await run.result(timeout=PATIENCE_S)
    assert calls == ["terminal", "hopeless", "caused", "caused", "caused"]
    failure = caught.value.failure
    assert str(failure) == "LookupError: no such item"
    assert "in caused" in failure.traceback
    assert str(failure.cause) == "KeyError: 'sku-1'"


async def test_flaw_39_a_deadline_bounds_the_whole_run(stage: Stage) -> None:
    """A run that has not ended by its deadline fails, with its work undone."""
    undone: list[str] = []

    async def undo(ctx: Ctx) -> None:
        undone.append(ctx.unit)

    workflow = Workflow("w").step("a", one, compensate=undo).wait_for_signal("go")
    async with Engine(stage.store(), [workflow]) as engine:
        async with engine.worker():
            run = await engine.start(workflow, deadline=timedelta(hours=1))
            await stage.until(run, "suspended")
        stage.clock.forward(hours=2)
        async with engine.worker():
            with pytest.raises(RunFailed, match="deadline"):
                await run.result(timeout=PATIENCE_S)
    assert undone == ["a"]


def test_flaw_39_delays_are_capped_spread_and_never_early() -> None:
    """Jitter only lengthens, is derived and not drawn, and the cap holds."""
    retry = Retry(max_attempts=50, initial=1, factor=2, max_delay=60, jitter=0.5)
    for attempt in range(1, 50):
        base_ms = min(1_000 * 2 ** (attempt - 1), 60_000)
        delays = {retry.delay_ms(attempt, seed) for seed in "abcdefgh"}
        assert all(base_ms <= delay <= base_ms * 1.5 for delay in delays)
        assert len(delays) > 1
        assert retry.delay_ms(attempt, "a") == retry.delay_ms(attempt, "a")
    linear = Retry.linear(step=5, jitter=0)
    assert [linear.delay_ms(n, "") // 1_000 for n in (1, 2, 3)] == [5, 10, 15]


async def test_flaw_40_retrying_a_run_keeps_its_policies(stage: Stage) -> None:
    """Time limits and attempts of a retried run are those of its definition, not some default."""
    seen: list[tuple[int, bool]] = []

    async def fails(ctx: Ctx) -> None:
        assert ctx.deadline is not None
        left = ctx.deadline.timestamp() - stage.clock.ms / 1_000
        seen.append((ctx.attempt, 19 * 60 < left <= 20 * 60 + 60))
        raise ConnectionError("down")

    retry = Retry(max_attempts=2, initial=0)
    workflow = Workflow("w").step("a", fails, timeout=timedelta(minutes=20), retry=retry)
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        await stage.until(run, "failed")
        await engine.retry(run.id)
        await stage.until_recorded(run, "run_retried")
        await stage.until(run, "failed")
    assert seen == [(1, True), (2, True), (1, True), (2, True)]


async def test_flaw_41_what_one_reads_of_a_run_cannot_change_it(stage: Stage) -> None:
    """There is no model to move by hand: reads give frozen values, and changes are commands."""
    async with Engine(stage.store(), [Workflow("w").step("a", one)]) as engine, engine.worker():
        run = await engine.start("w")
        await run.result(timeout=PATIENCE_S)
        info = await run.info()
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            info.status = "running"  # type: ignore[misc]
        for entry in await run.journal():
            with pytest.raises(attrs.exceptions.FrozenInstanceError):
                entry.seq = 0  # type: ignore[misc]
        for command in (engine.pause, engine.unpause, lambda run_id: engine.signal(run_id, "go")):
            with pytest.raises(RunFinishedError):
                await command(run.id)
        await run.cancel()  # cancelling what has ended changes nothing
        assert await run.info() == info


async def test_flaw_42_entries_cannot_disturb_each_other_through_the_context(
    stage: Stage,
) -> None:
    """Each handler has its own copies of input and results, and the mapping is read-only."""
    both = asyncio.Barrier(2)

    async def base(ctx: Ctx) -> list[int]:
        return [1]

    async def spoil(ctx: Ctx) -> Any:
        ctx.results["base"].append(2)
        ctx.input["list"].append(2)
        with pytest.raises((TypeError, AttributeError)):
            ctx.results["base"] = []  # type: ignore[index]
        await both.wait()
        await both.wait()
        return [ctx.results["base"], ctx.input["list"]]

    async def look(ctx: Ctx) -> Any:
        await both.wait()
        seen = [list(ctx.results["base"]), list(ctx.input["list"])]
        await both.wait()
        return seen

    workflow = (
        Workflow("w")
        .step("base", base)
        .parallel(
            "p",
            {"spoil": spoil, "look": look},
        )
        .step("after", look_after)
    )
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow, {"list": [1]})
        result = await run.result(timeout=PATIENCE_S)
    assert result["p"]["look"] == [[1], [1]]
    assert result["after"] == [[1], [1]]


async def look_after(ctx: Ctx) -> Any:
    return [ctx.results["base"], ctx.input["list"]]


def test_flaw_39_one_attempt_means_one() -> None:
    """``max_attempts`` counts the first try, and less than one is refused."""
    assert ONCE.max_attempts == 1
    with pytest.raises(DurableError):
        Retry(max_attempts=0)
