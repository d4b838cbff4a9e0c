"""Refusals: what a body must not do is refused at once, with a sentence that names the mend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest

from durable_core import (
    DefinitionError,
    DurableError,
    Engine,
    Retry,
    StepContext,
    WorkflowContext,
    current_step,
    step,
    workflow,
)
from durable_core.testing import simulate

undone: list[str] = []


async def unbook(ctx: StepContext[Any, Any]) -> None:
    undone.append(ctx.unit)


@step(retry=Retry(max_attempts=1), compensate=unbook)
async def book(what: str) -> str:
    return what


async def bare_sleep(ctx: WorkflowContext) -> None:
    await asyncio.sleep(0)


async def sleep(ctx: WorkflowContext) -> None:
    await asyncio.sleep(1)


async def gather(ctx: WorkflowContext) -> None:
    await asyncio.gather(book.function("a"))


async def task(ctx: WorkflowContext) -> None:
    await asyncio.create_task(book.function("a"))


async def group(ctx: WorkflowContext) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(book.function("a"))


async def time_limit(ctx: WorkflowContext) -> None:
    async with asyncio.timeout(3):
        await ctx.step(book, "a")


async def future(ctx: WorkflowContext) -> None:
    await asyncio.get_running_loop().create_future()


async def thread(ctx: WorkflowContext) -> None:
    await asyncio.to_thread(print)


async def lock(ctx: WorkflowContext) -> None:
    event = asyncio.Event()
    await event.wait()


class Own:
    def __await__(self) -> Generator[Any, Any, Any]:
        yield "something"


async def own(ctx: WorkflowContext) -> None:
    await Own()


async def unawaited(ctx: WorkflowContext) -> None:
    await ctx.step(book, "a")
    ctx.step(book, "b")


async def direct(ctx: WorkflowContext) -> None:
    await book("a")


async def coroutine_in_all(ctx: WorkflowContext) -> None:
    await ctx.all(book.function("a"))


async def twice_in_all(ctx: WorkflowContext) -> None:
    once = ctx.step(book, "a")
    await ctx.all(once, once)


async def no_step(ctx: WorkflowContext) -> None:
    await ctx.step(lambda: 1)


async def swallowed(ctx: WorkflowContext) -> str:
    try:
        await asyncio.sleep(0)
    except Exception:
        await ctx.step(book, "in spite of it")
    return "as if nothing had been"


async def swallowed_and_returned(ctx: WorkflowContext) -> str:
    try:
        await asyncio.sleep(0)
    except BaseException:
        return "as if nothing had been"
    return "?"


async def kept(ctx: WorkflowContext) -> None:
    try:
        ctx.continue_as_new(None)
    except BaseException:
        await ctx.step(book, "b")


async def kept_and_returned(ctx: WorkflowContext) -> None:
    try:
        ctx.continue_as_new(None)
    except BaseException:
        return


REFUSED = [
    (bare_sleep, "ctx.sleep"),
    (sleep, "ctx.sleep"),
    (gather, "ctx.all"),
    (task, "ctx.all"),
    (group, "ctx.step"),
    (time_limit, "ctx."),
    (future, "ctx.wait_for_signal"),
    (thread, "ctx.step"),
    (lock, "ctx.wait_for_signal"),
    (own, "ctx.step"),
    (unawaited, "await ctx.step"),
    (direct, "await ctx.step(book"),
    (coroutine_in_all, "ctx.step(function"),
    (twice_in_all, "ask for it anew"),
    (swallowed, "ctx.sleep"),
    (swallowed_and_returned, "ctx.sleep"),
    (kept, "let it pass"),
    (kept_and_returned, "let it pass"),
]


@pytest.mark.parametrize(("body", "instead"), REFUSED, ids=lambda one: getattr(one, "__name__", ""))
def test_it_is_refused_with_what_to_write_instead(body: Any, instead: str) -> None:
    undone.clear()
    sim = simulate(workflow(body), None)
    failure = sim.failure
    assert (sim.status, failure and failure.type) == ("failed", "NondeterminismError")
    assert failure is not None and instead in failure.message
    assert "in spite of it" not in [entry.value for entry in sim.journal]


def test_what_was_done_before_is_undone() -> None:
    async def body(ctx: WorkflowContext) -> None:
        await ctx.step(book, "a")
        await asyncio.sleep(1)

    undone.clear()
    simulate(workflow(body), None)
    assert undone == ["book"]


@pytest.mark.parametrize("body", [sleep, gather, future])
async def test_it_is_refused_on_a_real_event_loop_too(body: Any) -> None:
    refused = workflow(body)
    async with Engine("memory://", [refused]) as engine, engine.worker():
        info = await (await engine.start(refused)).wait(timeout=10)
        assert info.status == "failed"
        assert info.failure is not None and info.failure.type == "NondeterminismError"


def test_a_step_that_has_no_name_is_refused() -> None:
    failure = simulate(workflow(no_step), None).failure
    assert failure is not None and "lambda" in failure.message


def test_a_context_is_of_use_in_its_own_body_only() -> None:
    kept: list[WorkflowContext] = []

    @step
    async def steal() -> str:
        try:
            kept[0].step(book, "a")
        except DurableError as error:
            return str(error)
        return "?"

    @workflow
    async def outer(ctx: WorkflowContext) -> str:
        kept.append(ctx)
        return await ctx.step(steal)

    assert "outside of its body" in simulate(outer, None).result

    @workflow
    async def other(ctx: WorkflowContext) -> None:
        await kept[0].sleep(1)

    failure = simulate(other, None).failure
    assert failure is not None and "outside of its body" in failure.message


def test_a_pending_of_another_run_is_refused() -> None:
    kept: list[Any] = []

    @workflow
    async def child(ctx: WorkflowContext) -> None:
        await kept[0]

    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        kept.append(ctx.sleep(1))
        await ctx.child(child)

    failure = simulate(parent, None).failure
    assert failure is not None and failure.cause is not None
    assert "of another run" in failure.cause.message


async def test_a_body_that_goes_on_when_it_is_dropped_is_told_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @workflow
    async def stubborn(ctx: WorkflowContext) -> None:
        for _ in range(5):
            try:
                await ctx.wait_for_signal("go")
            except BaseException as error:
                assert isinstance(error, GeneratorExit)

    async with Engine("memory://", [stubborn]) as engine:
        run = await engine.start(stubborn)
        async with engine.worker():
            with pytest.raises(TimeoutError):
                await run.wait(timeout=0.2)
    assert any("let GeneratorExit pass" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (lambda ctx: None, "async def"),
        (3, "before a function"),
        (lambda: None, "async def"),
    ],
)
def test_what_is_no_body_is_refused_when_it_is_defined(body: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        workflow(body)


def test_a_generator_is_no_body_and_no_step() -> None:
    async def yields(ctx: WorkflowContext) -> AsyncIterator[int]:
        yield 1

    with pytest.raises(DefinitionError, match="generator"):
        workflow(yields)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="generator"):
        step(yields)


async def two(ctx: WorkflowContext, a: int, b: int) -> None: ...


async def none() -> None: ...


@pytest.mark.parametrize("body", [two, none])
def test_a_body_takes_a_context_and_an_input(body: Any) -> None:
    with pytest.raises(DefinitionError, match=r"\(ctx, input\) or \(ctx\)"):
        workflow(body)


def test_a_workflow_of_code_takes_no_declared_steps() -> None:
    @workflow
    async def coded(ctx: WorkflowContext) -> None: ...

    with pytest.raises(DefinitionError, match="its body is code"):
        coded.step("a", lambda ctx: 1)
    with pytest.raises(DefinitionError, match="its body is code"):
        coded.returns(lambda ctx: 1)


@pytest.mark.parametrize(
    "options", [{"key": "a/b"}, {"key": ""}, {"retry": 3}, {"timeout": -1}, {"compensate": 3}]
)
def test_bad_options_of_a_step_are_refused(options: Any) -> None:
    with pytest.raises(DefinitionError):
        book.with_options(**options)


def test_current_step_is_there_only_in_steps() -> None:
    with pytest.raises(DurableError, match="only while a step runs"):
        current_step()
