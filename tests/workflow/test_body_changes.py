"""Changes: what becomes of a run under way when the code of its body is another one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from durable_core import (
    TIMED_OUT,
    Engine,
    NondeterminismError,
    Run,
    StepContext,
    Workflow,
    WorkflowContext,
    step,
    workflow,
)

Body = Callable[[WorkflowContext], Coroutine[Any, Any, Any]]

called: list[str] = []


@step
async def first() -> str:
    called.append("first")
    return "one"


@step
async def second() -> str:
    called.append("second")
    return "two"


@step
def other() -> str:
    called.append("other")
    return "other"


async def old(ctx: WorkflowContext) -> list[str]:
    done = [await ctx.step(first)]
    await ctx.wait_for_signal("go")
    return [*done, await ctx.step(second)]


@pytest.fixture
def url(tmp_path: Path) -> str:
    called.clear()
    return f"sqlite:///{tmp_path / 'runs.db'}"


async def suspended(url: str, body: Body = old, *, version: str = "1") -> None:
    """A run of the old code waits for its signal; its worker is gone."""
    definition = workflow(name="w", version=version)(body)
    async with Engine(url, [definition]) as engine:
        run = await engine.start(definition, id="r")
        async with engine.worker():
            await waits(run, "signal")


async def waits(run: Run[Any], kind: str) -> str:
    """Wait until the run waits for this; the reason."""
    for _ in range(500):
        info = await run.info()
        found = [wait for wait in info.waiting_for if wait.kind == kind]
        if info.status == "suspended" and found:
            return found[0].reason or ""
        with pytest.raises(TimeoutError):
            await run.wait(timeout=0.02)
    raise AssertionError(f"it never waited for {kind}: {await run.explain()}")


async def under(url: str, body: Body) -> Any:
    """The result under this code; the signal comes when it is at work."""
    definition = workflow(name="w")(body)
    async with Engine(url, [definition]) as engine, engine.worker():
        await engine.signal("r", "go")
        return await engine.run("r").result(timeout=10)


async def parked(url: str, body: Body) -> str:
    """Why the run is held under this code."""
    definition = workflow(name="w")(body)
    async with Engine(url, [definition]) as engine, engine.worker():
        await engine.signal("r", "go")
        run = engine.run("r")
        assert await waits(run, "operator") == "definition_changed"
        failure = (await run.info()).failure
        entries = await run.journal()
        assert entries[-1].kind == "run_parked"
        return str(failure or entries[-1].failure)


async def test_another_worker_replays_the_body_and_calls_no_step_again(url: str) -> None:
    await suspended(url)
    assert await under(url, old) == ["one", "two"]
    assert called == ["first", "second"]


async def renamed(ctx: WorkflowContext) -> None:
    await ctx.step(other)
    await ctx.wait_for_signal("go")


async def of_another_kind(ctx: WorkflowContext) -> None:
    await ctx.sleep(1, key="first")
    await ctx.wait_for_signal("go")


async def of_another_name(ctx: WorkflowContext) -> None:
    await ctx.step(other.with_options(key="first"))
    await ctx.wait_for_signal("go")


async def for_another_signal(ctx: WorkflowContext) -> None:
    await ctx.step(first)
    await ctx.wait_for_signal("gone", key="go")


async def shorter(ctx: WorkflowContext) -> None:
    return


async def with_a_time(ctx: WorkflowContext) -> None:
    ctx.now()
    await ctx.step(first)
    await ctx.wait_for_signal("go")


async def swallowing(ctx: WorkflowContext) -> None:
    try:
        ctx.now()
    except NondeterminismError:
        await ctx.step(first)
    await ctx.wait_for_signal("go")


@pytest.mark.parametrize(
    ("body", "recorded", "asked"),
    [
        (renamed, "first", "asked for is 'other', which is not recorded"),
        (of_another_kind, "a call", "a timer"),
        (for_another_signal, "named 'go'", "named 'gone'"),
        (shorter, "first", "no longer asks"),
        (with_a_time, "nothing", "a value"),
        (swallowing, "nothing", "a value"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
async def test_code_that_does_not_fit_parks_the_run_and_runs_nothing(
    url: str, body: Body, recorded: str, asked: str
) -> None:
    await suspended(url)
    before = list(called)
    why = await parked(url, body)
    assert "run 'r'" in why and recorded in why and asked in why
    assert called == before
    async with Engine(url, [workflow(name="w")(old)]) as engine:
        await engine.retry("r")
        async with engine.worker():
            assert await engine.run("r").result(timeout=10) == ["one", "two"]


async def keyed(ctx: WorkflowContext) -> None:
    await ctx.step(second.with_options(key="first"))
    await ctx.wait_for_signal("go")


async def test_under_one_key_another_function_does_not_fit(url: str) -> None:
    await suspended(url, keyed)
    why = await parked(url, of_another_name)
    assert "a call named 'second'" in why and "a call named 'other'" in why
    assert called == ["second"]


async def longer(ctx: WorkflowContext) -> list[str]:
    done = [await ctx.step(first)]
    await ctx.wait_for_signal("go")
    return [*done, await ctx.step(other), await ctx.step(second)]


async def test_what_comes_after_where_the_run_stands_may_change_at_will(url: str) -> None:
    await suspended(url)
    assert await under(url, longer) == ["one", "other", "two"]


async def test_values_may_be_wanted_anew_behind_all_that_is_recorded(url: str) -> None:
    """A step in the air has left nothing yet when its worker goes, so the run stands before it."""
    begun = asyncio.Event()

    @step
    async def long() -> str:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return "long"

    async def before(ctx: WorkflowContext) -> list[str]:
        return [await ctx.step(first), await ctx.step(long)]

    async def after(ctx: WorkflowContext) -> list[str]:
        done = [await ctx.step(first)]
        ctx.now()
        ctx.compensate(called.append, "undone")
        return [*done, await ctx.step(long)]

    old_code, new_code = workflow(name="w")(before), workflow(name="w")(after)
    async with Engine(url, [old_code]) as engine, engine.worker(grace=0):
        await engine.start(old_code, id="r")
        await begun.wait()
    async with Engine(url, [new_code]) as engine, engine.worker():
        run = engine.run("r")
        assert await run.result(timeout=10) == ["one", "long"]
        kinds = [entry.kind for entry in await run.journal()]
        assert kinds[:3] == ["unit_completed", "value_recorded", "undo_registered"]
    assert called == ["first"]


async def patched(ctx: WorkflowContext) -> list[str]:
    done = []
    if ctx.patched("other-first"):
        done.append(await ctx.step(other))
    done.append(await ctx.step(first))
    await ctx.wait_for_signal("go")
    if ctx.patched("other-later"):
        done.append(await ctx.step(other))
    return [*done, await ctx.step(second), str(ctx.patched("other-first"))]


async def test_a_patch_is_taken_by_runs_that_come_to_it_first_by_the_new_code(url: str) -> None:
    await suspended(url)
    assert await under(url, patched) == ["one", "other", "two", "False"]


async def test_a_new_run_takes_every_patch_and_keeps_to_it(url: str) -> None:
    await suspended(url, patched)
    assert called == ["other", "first"]
    assert await under(url, patched) == ["other", "one", "other", "two", "True"]
    assert called == ["other", "first", "other", "second"]


async def test_versions_stand_side_by_side_and_each_run_keeps_its_own(url: str) -> None:
    await suspended(url)
    one = workflow(name="w", version="1")(old)
    two = workflow(name="w", version="2")(longer)
    async with Engine(url, [one, two]) as engine, engine.worker():
        young = await engine.start("w", id="young")
        for run_id in ("r", "young"):
            await engine.signal(run_id, "go")
        assert await engine.run("r").result(timeout=10) == ["one", "two"]
        assert await young.result(timeout=10) == ["one", "other", "two"]
        assert (await young.info()).version == "2"


async def test_two_bodies_of_one_name_and_version_are_refused() -> None:
    with pytest.raises(Exception, match="defined twice"):
        Engine("memory://", [workflow(name="w")(old), workflow(name="w")(longer)])


async def logging_body(ctx: WorkflowContext) -> None:
    ctx.log.info("before %s", "it", extra={"mine": 1})
    await ctx.step(first)
    await ctx.wait_for_signal("go")
    ctx.log.info("after")


async def test_a_body_says_each_line_once_however_often_it_is_replayed(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="durable.workflow"):
        await suspended(url, logging_body)
        await under(url, logging_body)
    lines = [record for record in caplog.records if record.name == "durable.workflow"]
    assert [line.getMessage() for line in lines] == ["before it", "after"]
    facts: Any = lines[0]
    assert (facts.durable_run, facts.durable_workflow, facts.mine) == ("r", "w", 1)


async def forked(ctx: WorkflowContext) -> list[Any]:
    drawn = [ctx.random(), str(ctx.uuid()), ctx.now().isoformat()]
    await ctx.step(first)
    return [*drawn, ctx.random(), await ctx.wait_for_signal("go", timeout=0.01) is TIMED_OUT]


async def test_a_fork_draws_what_its_original_drew(url: str) -> None:
    definition = workflow(name="w")(forked)
    async with Engine(url, [definition]) as engine, engine.worker():
        run = await engine.start(definition)
        fork = await engine.fork(run.id, from_step="go") if await run.result(timeout=9) else run
        assert await fork.result(timeout=9) == await run.result()
    assert called == ["first"]


async def failing(ctx: WorkflowContext) -> list[Any]:
    drawn = [ctx.random(), ctx.now().isoformat()]
    ctx.compensate(called.append, "undone")
    await ctx.step(first)
    if current := len([line for line in called if line == "undone"]):
        return [*drawn, current]
    raise ValueError("not yet")


async def test_a_retried_run_keeps_what_it_drew_and_registers_its_undos_again(url: str) -> None:
    definition = workflow(name="w")(failing)
    async with Engine(url, [definition]) as engine, engine.worker():
        run = await engine.start(definition)
        assert (await run.wait(timeout=9)).status == "failed"
        await engine.retry(run.id)
        assert (await run.result(timeout=9))[2] == 1
        kinds = [entry.kind for entry in await run.journal()]
        assert kinds.count("undo_registered") == 2
    assert called == ["first", "undone"]


async def broken(ctx: WorkflowContext) -> None:
    await ctx.step(first)
    await ctx.step(second)
    raise ValueError("not yet")


async def mended(ctx: WorkflowContext) -> list[bool]:
    early = ctx.patched("early")
    await ctx.step(first)
    between = ctx.patched("between")
    await ctx.step(second)
    return [early, between, ctx.patched("late")]


async def test_a_retried_run_takes_no_patch_where_it_has_been_before(url: str) -> None:
    async with Engine(url, [workflow(name="w")(broken)]) as engine, engine.worker():
        run = await engine.start("w", id="r")
        assert (await run.wait(timeout=9)).status == "failed"
    async with Engine(url, [workflow(name="w")(mended)]) as engine, engine.worker():
        await engine.retry("r")
        assert await engine.run("r").result(timeout=9) == [False, False, True]
    assert called == ["first", "second"]


@pytest.mark.parametrize("style", ["body", "declared"])
async def test_a_run_that_code_does_not_fit_is_taken_up_by_a_worker_whose_code_does(
    url: str, style: str
) -> None:
    """Both are at work, and nobody retries it."""
    before, after = both(style)
    async with Engine(url, [before]) as engine, engine.worker():
        await waits(await engine.start(before, id="r"), "signal")
    async with Engine(url, [after]) as engine, engine.worker():
        run = engine.run("r")
        await run.signal("go")
        assert await waits(run, "operator") == "definition_changed"
        async with Engine(url, [before]) as fitting, fitting.worker():
            assert (await fitting.run("r").wait(timeout=30)).status == "completed"
    assert called == ["first", "second"]


@pytest.mark.parametrize("style", ["body", "declared"])
async def test_what_does_not_fit_is_tried_again_until_it_is_mended(url: str, style: str) -> None:
    """Nothing is written meanwhile, and the mended code need not be that of the beginning."""
    before, after = both(style)
    mending = Workflow("w").step("first", told("first")).wait_for_signal("go")
    mend = {
        "body": workflow(name="w")(longer),
        "declared": mending.step("other", told("other")).returns(lambda ctx: list(called)),
    }
    async with Engine(url, [before]) as engine, engine.worker():
        await waits(await engine.start(before, id="r"), "signal")
    async with Engine(url, [after]) as engine, engine.worker():
        await engine.signal("r", "go")
        assert await waits(engine.run("r"), "operator") == "definition_changed"
    async with Engine(url, [mend[style]]) as engine, engine.worker():
        assert (await engine.run("r").wait(timeout=20)).status == "completed"
        kinds = [entry.kind for entry in await engine.run("r").journal()]
        assert kinds.count("run_parked") == kinds.count("run_unparked") == 1
    assert called[:2] == ["first", "other"]


def both(style: str) -> tuple[Any, Any]:
    """The definition of a run, and one that it does not fit."""
    if style == "body":
        return workflow(name="w")(old), workflow(name="w")(renamed)
    before = Workflow("w").step("first", told("first")).wait_for_signal("go")
    return (
        before.step("second", told("second")),
        Workflow("w").step("other", told("other")).wait_for_signal("go"),
    )


def told(name: str) -> Callable[[StepContext], str]:
    def handler(ctx: StepContext) -> str:
        called.append(name)
        return name

    return handler


@pytest.mark.parametrize("parked_before", [False, True])
@pytest.mark.parametrize("style", ["body", "declared"])
async def test_a_run_that_code_does_not_fit_can_be_terminated_and_paused(
    url: str, style: str, parked_before: bool
) -> None:
    """By the very worker that does not fit: neither needs a definition."""
    before, after = both(style)
    async with Engine(url, [before]) as engine, engine.worker():
        for run_id in ("paused", "over"):
            await waits(await engine.start(before, id=run_id), "signal")
    async with Engine(url, [after]) as engine, engine.worker():
        for run_id in ("paused", "over") if parked_before else ():
            await engine.signal(run_id, "go")
            await waits(engine.run(run_id), "operator")
        await engine.cancel("over", mode="terminate", reason="enough")
        await engine.run("over").wait(timeout=10)
        assert (await engine.get("over")).status == "cancelled"
        await engine.pause("paused")
        for _ in range(500):
            reasons = [wait.reason for wait in (await engine.get("paused")).waiting_for]
            if "paused" in reasons:
                break
            await asyncio.sleep(0.02)
        assert reasons[:2] == ["definition_changed", "paused"]
        await engine.cancel("paused", mode="terminate")
        await engine.run("paused").wait(timeout=10)
    assert called == ["first", "first"]
