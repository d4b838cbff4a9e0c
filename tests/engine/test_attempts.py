"""Attempts: whatever a handler does, it comes to exactly one report."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.engine.stage import AT_ONCE, ONCE, PATIENCE_S, Stage

from durable_core import (
    DurableError,
    Limits,
    Retry,
    RunFailed,
    StepContext,
    Suspend,
    Undo,
    Workflow,
)

Ctx = StepContext[Any, Any]
QUICK = Limits(cancel_grace=timedelta(milliseconds=30))


def raising(error: BaseException) -> Callable[[Ctx], Any]:
    async def handler(ctx: Ctx) -> None:
        raise error

    return handler


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(),
        StopAsyncIteration(),
        asyncio.CancelledError("mine"),
        TimeoutError(),
        MemoryError(),
        BaseExceptionGroup("several", [SystemExit(1), ValueError("x")]),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
async def test_whatever_a_handler_raises_fails_its_unit(
    stage: Stage, error: BaseException, plain: bool
) -> None:
    def in_thread(ctx: Ctx) -> None:
        raise error

    workflow = Workflow("w").step("a", in_thread if plain else raising(error), retry=ONCE)
    async with stage.running(workflow) as engine:
        run = await engine.start(workflow)
        with pytest.raises(RunFailed) as failed:
            await run.result(timeout=PATIENCE_S)
    # A coroutine turns StopIteration into a RuntimeError by itself.
    assert type(error).__name__ in (failed.value.failure.type, str(failed.value.failure.cause)[:13])


async def test_a_predicate_that_raises_fails_the_unit_for_good(stage: Stage) -> None:
    def on(error: BaseException) -> bool:
        raise LookupError("the predicate is broken")

    calls = []

    async def handler(ctx: Ctx) -> None:
        calls.append(ctx.attempt)
        raise ValueError("first")

    workflow = Workflow("w").step("a", handler, retry=Retry(max_attempts=5, initial=0, on=on))
    async with stage.running(workflow) as engine:
        run = await engine.start(workflow)
        with pytest.raises(RunFailed, match="LookupError: the predicate is broken") as failed:
            await run.result(timeout=PATIENCE_S)
    assert calls == [1]
    assert str(failed.value.failure.cause) == "ValueError: first"


async def test_a_value_that_cannot_be_stored_is_not_tried_again(stage: Stage) -> None:
    calls = []

    async def handler(ctx: Ctx) -> object:
        calls.append(ctx.attempt)
        return object()

    workflow = Workflow("w").step("a", handler, retry=AT_ONCE)
    async with stage.running(workflow) as engine:
        run = await engine.start(workflow)
        with pytest.raises(RunFailed, match="EncodingError"):
            await run.result(timeout=PATIENCE_S)
    assert calls == [1]


async def test_a_time_out_cancels_the_handler_and_is_retried(stage: Stage) -> None:
    cancelled = []

    async def handler(ctx: Ctx) -> str:
        if ctx.attempt == 1:
            assert ctx.deadline is not None
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(ctx.attempt)
                raise
        return "done"

    workflow = Workflow("w").step("a", handler, retry=AT_ONCE, timeout=0.02)
    async with stage.running(workflow) as engine:
        run = await engine.start(workflow)
        assert await run.result(timeout=PATIENCE_S) == {"a": "done"}
        failed = [entry for entry in await run.journal() if entry.kind == "attempt_failed"]
    assert cancelled == [1]
    assert [str(entry.failure)[:13] for entry in failed] == ["TimeoutError:"]


async def test_a_handler_that_does_not_stop_is_abandoned_and_its_late_value_ignored(
    stage: Stage,
) -> None:
    go_on = asyncio.Event()
    ended = asyncio.Event()
    refused: list[DurableError] = []

    async def stubborn(ctx: Ctx) -> str:
        if ctx.attempt > 1:
            return "second"
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        try:
            ctx.deps  # noqa: B018  # its context is revoked
        except DurableError as error:
            refused.append(error)
        ended.set()
        return "late"

    workflow = Workflow("w").step("a", stubborn, retry=AT_ONCE, timeout=0.02)
    async with stage.running(workflow, limits=QUICK) as engine:
        run = await engine.start(workflow)
        assert await run.result(timeout=PATIENCE_S) == {"a": "second"}
        go_on.set()
        await ended.wait()
        assert await run.result(timeout=PATIENCE_S) == {"a": "second"}
    assert ["was abandoned" in str(error) for error in refused] == [True]


async def test_an_abandoned_handler_keeps_its_slot_until_it_ends(stage: Stage) -> None:
    release = threading.Event()

    def blocking(ctx: Ctx) -> None:
        release.wait(PATIENCE_S)

    async def quick(ctx: Ctx) -> int:
        return 1

    stuck = Workflow("stuck").step("a", blocking, retry=ONCE, timeout=0.02)
    other = Workflow("other").step("a", quick)
    async with stage.running(stuck, other, limits=QUICK, worker={"concurrency": 1}) as engine:
        run = await engine.start(stuck)
        with pytest.raises(RunFailed, match="TimeoutError"):
            await run.result(timeout=PATIENCE_S)
        waiting = await engine.start(other)
        with pytest.raises(TimeoutError):
            await waiting.result(timeout=0.05)
        release.set()
        assert await waiting.result(timeout=PATIENCE_S) == {"a": 1}


async def test_plain_handlers_see_the_context_variables_and_run_side_by_side(
    stage: Stage,
) -> None:
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def meet(ctx: Ctx) -> bool:
        both.wait()
        return threading.current_thread() is not threading.main_thread()

    workflow = Workflow("w").parallel("p", {"a": meet, "b": meet})
    async with stage.running(workflow) as engine:
        run = await engine.start(workflow)
        assert await run.result(timeout=PATIENCE_S) == {"p": {"a": True, "b": True}}


async def test_a_handler_does_not_change_the_context_variables_of_another(stage: Stage) -> None:
    variable = contextvars.ContextVar("variable", default="clean")

    def first(ctx: Ctx) -> str:
        before = variable.get()
        variable.set("dirty")
        return before

    workflow = Workflow("w").step("a", first).step("b", first)
    async with stage.running(workflow) as engine:
        run = await engine.start(workflow)
        assert await run.result(timeout=PATIENCE_S) == {"a": "clean", "b": "clean"}


async def test_a_plain_function_may_give_an_awaitable(stage: Stage) -> None:
    async def later() -> int:
        return 7

    workflow = Workflow("w").step("a", lambda ctx: later())
    async with stage.running(workflow) as engine:
        run = await engine.start(workflow)
        assert await run.result(timeout=PATIENCE_S) == {"a": 7}


async def test_a_suspended_handler_holds_nothing_and_goes_on_where_it_stood(
    stage: Stage,
) -> None:
    async def ask(ctx: Ctx) -> Any:
        if ctx.resumption is None:
            return Suspend({"asked": 1})
        return [ctx.resumption.snapshot, ctx.resumption.data]

    workflow = Workflow("w").step("ask", ask)
    async with stage.running(workflow) as engine:
        run = await engine.start(workflow)
        await stage.watch.until("RunSuspended", run.id)
        (wait,) = (await run.info()).waiting_for
        assert (wait.kind, wait.unit) == ("resume", "ask")
        await run.resume("yes", token=wait.token)
        assert await run.result(timeout=PATIENCE_S) == {"ask": [{"asked": 1}, "yes"]}


async def test_concurrency_bounds_handlers_and_runs_take_turns(stage: Stage) -> None:
    running = most = 0
    order: list[str] = []

    async def item(ctx: Ctx) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(ctx.run_id)
        await asyncio.sleep(0)
        running -= 1

    wide = Workflow("wide").map("m", lambda ctx: list(range(60)), item)
    narrow = Workflow("narrow").step("a", item)
    async with stage.running(wide, narrow, worker={"concurrency": 3}) as engine:
        runs = [await engine.start(wide, id="wide")]
        runs += [await engine.start(narrow, id=f"narrow-{n}") for n in range(3)]
        for run in runs:
            await run.result(timeout=PATIENCE_S)
    assert most == 3
    assert order.count("wide") == 60


async def test_each_failed_attempt_is_logged_by_type_and_without_what_it_said(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def undo(ctx: Ctx) -> None:
        raise KeyError("secret of the undo")

    flow = (
        Workflow("flow")
        .step("a", lambda ctx: 1, compensate=Undo(undo, retry=ONCE))
        .step("b", raising(ValueError("a secret")), retry=Retry(max_attempts=2, initial=0))
    )
    async with stage.running(flow) as engine:
        await (await engine.start(flow, id="r")).wait(timeout=PATIENCE_S)
    said = [record for record in caplog.records if record.name == "durable.step"]
    assert [record.getMessage() for record in said] == [
        "attempt 1 of b in run r failed with ValueError",
        "attempt 2 of b in run r failed with ValueError",
        "attempt 1 of the compensator of a in run r failed with KeyError",
    ]
    assert {record.levelname for record in said} == {"WARNING"}
    assert getattr(said[0], "durable_unit", None) == "b"
    assert "secret" not in caplog.text
