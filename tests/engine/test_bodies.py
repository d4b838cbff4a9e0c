"""Bodies of code on real stores: transactions, cancelling, suspending, going on elsewhere."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import attrs
import pytest
from tests.engine.stage import AT_ONCE, ONCE, PATIENCE_S, Stage, execute

from durable_core import (
    TIMED_OUT,
    RunCancelled,
    RunFailed,
    StepContext,
    Suspend,
    WorkflowContext,
    current_step,
    step,
    workflow,
)

lines: list[str] = []


@pytest.fixture(autouse=True)
def _no_lines() -> None:
    lines.clear()


@attrs.frozen
class Review:
    by: str
    stars: int = 5


async def unhold(ctx: StepContext[Any, Any]) -> None:
    lines.append(f"undo {ctx.unit} {ctx.args}")


@step(compensate=unhold)
async def hold(what: str) -> str:
    lines.append(f"hold {what}")
    return what


async def write(conn: Any, run: str, fails: int = 0) -> int:
    await execute(conn, "create table if not exists paid (run text)")
    await execute(conn, "insert into paid values ($1)", run)
    if current_step().attempt <= fails:
        raise ValueError("rolled back")
    return 7


async def read(conn: Any) -> list[str]:
    return [row[0] for row in await execute(conn, "select run from paid")]


paying = step(retry=AT_ONCE)(write)


@workflow
async def pays(ctx: WorkflowContext) -> list[Any]:
    first = await ctx.transact(paying, ctx.run_id, fails=2)
    again = await ctx.transact(write, "again")
    return [first, again, await ctx.transact(read)]


async def test_rows_and_entry_of_a_transaction_are_one_commit(stage: Stage) -> None:
    if stage.kind == "memory":
        pytest.skip("a MemoryStore has no transactions of the user's")
    async with stage.running(pays) as engine:
        run = await engine.start(pays, id="r")
        assert await run.result(timeout=PATIENCE_S) == [7, 7, ["r", "again"]]


@workflow
async def reviewed(ctx: WorkflowContext, what: str) -> Review | None:
    await ctx.step(hold, what)
    review = await ctx.wait_for_signal("review", Review, timeout=timedelta(hours=1))
    return None if review is TIMED_OUT else review


async def test_a_signal_may_hold_the_class_that_the_body_waits_for(stage: Stage) -> None:
    async with stage.running(reviewed) as engine:
        run = await engine.start(reviewed, "tea")
        await stage.watch.until("RunSuspended", run.id)
        await run.signal("review", Review("ann"))
        assert await run.result(timeout=PATIENCE_S) == Review("ann")
        plain = await engine.start(reviewed, "tea")
        await plain.signal("review", {"by": "bob", "stars": 3})
        assert await plain.result(timeout=PATIENCE_S) == Review("bob", 3)


async def test_an_ill_typed_signal_is_rejected_and_the_wait_goes_on(stage: Stage) -> None:
    async with stage.running(reviewed) as engine:
        run = await engine.start(reviewed, "tea")
        await run.signal("review", ["nonsense"])
        await run.signal("review", Review("ann"))
        assert await run.result(timeout=PATIENCE_S) == Review("ann")
        kinds = [entry.kind for entry in await run.journal()]
        assert kinds.count("signal_rejected") == 1


async def test_another_worker_goes_on_where_the_first_left_off(stage: Stage) -> None:
    async with stage.engine(reviewed) as client:
        run = await client.start(reviewed, "tea")
        async with stage.running(reviewed):
            await stage.watch.until("RunSuspended", run.id)
        await run.signal("review", Review("ann"))
        async with stage.running(reviewed):
            assert await run.result(timeout=PATIENCE_S) == Review("ann")
    assert lines == ["hold tea"]


async def test_a_cancelled_run_undoes_what_its_body_did(stage: Stage) -> None:
    async with stage.running(reviewed) as engine:
        run = await engine.start(reviewed, "tea")
        await stage.watch.until("RunSuspended", run.id)
        await run.cancel(reason="enough")
        with pytest.raises(RunCancelled, match="enough"):
            await run.result(timeout=PATIENCE_S)
    assert lines == ["hold tea", "undo hold ('tea',)"]


async def test_cancelling_reaches_a_step_and_no_line_of_the_body_runs_after_it(
    stage: Stage,
) -> None:
    begun = asyncio.Event()

    @step
    async def long() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lines.append("cancelled")
            raise

    @workflow
    async def waiting(ctx: WorkflowContext) -> None:
        await ctx.step(hold, "tea")
        try:
            await ctx.step(long)
        except Exception:
            lines.append("the body caught it")
        lines.append("the body went on")

    async with stage.running(waiting) as engine:
        run = await engine.start(waiting)
        await begun.wait()
        await run.cancel()
        assert (await run.wait(timeout=PATIENCE_S)).status == "cancelled"
    assert lines == ["hold tea", "cancelled", "undo hold ('tea',)"]


async def test_a_deadline_fails_the_run_with_compensation(stage: Stage) -> None:
    async with stage.running(reviewed) as engine:
        run = await engine.start(reviewed, "tea", deadline=0.3)
        with pytest.raises(RunFailed, match="DeadlineExceeded") as failed:
            await run.result(timeout=PATIENCE_S)
    assert failed.value.compensated == ("hold",)


async def test_a_suspended_step_of_a_body_is_resumed_by_token(stage: Stage) -> None:
    @step
    async def ask(question: str) -> str | Suspend:
        resumption = current_step().resumption
        if resumption is None:
            return Suspend({"asked": question})
        return f"{resumption.snapshot['asked']} {resumption.data}"

    @workflow
    async def agent(ctx: WorkflowContext) -> list[str]:
        one, two = ask.with_options(key="a"), ask.with_options(key="b")
        return list(await ctx.all(ctx.step(one, "one?"), ctx.step(two, "two?")))

    async with stage.running(agent) as engine:
        run = await engine.start(agent)
        await stage.watch.until("RunSuspended", run.id)
        tokens = {wait.unit: wait.token for wait in (await run.info()).waiting_for}
        await engine.resume(run.id, "no", token=tokens["b"])
        await engine.resume(run.id, "yes", token=tokens["a"])
        assert await run.result(timeout=PATIENCE_S) == ["one? yes", "two? no"]


async def test_a_body_that_continues_keeps_its_id_and_its_inbox(stage: Stage) -> None:
    @workflow
    async def counting(ctx: WorkflowContext, n: int) -> str:
        got = await ctx.wait_for_signal("go", int)
        if n < 4:
            ctx.continue_as_new(n + 1)
        return f"{n} {got}"

    async with stage.running(counting) as engine:
        run = await engine.start(counting, 0, id="cron")
        for number in range(5):
            await run.signal("go", number)
        assert await run.result(timeout=PATIENCE_S) == "4 4"
        entries = await run.journal()
        assert entries[0].kind == "run_continued" and len(entries) == 4
        assert (await run.info()).attempt == 5


async def test_a_plain_function_may_be_a_step_and_a_failure_is_caught(stage: Stage) -> None:
    @step(retry=ONCE)
    def broken() -> None:
        raise LookupError("nothing there")

    @workflow
    async def caring(ctx: WorkflowContext) -> list[str]:
        ends = await ctx.settle(ctx.step(broken), ctx.step(hold, "cup"))
        return [str(end) for end in ends]

    async with stage.running(caring) as engine:
        run = await engine.start(caring)
        assert await run.result(timeout=PATIENCE_S) == ["LookupError: nothing there", "cup"]


async def test_a_fork_goes_on_from_a_step_of_the_body(stage: Stage) -> None:
    async with stage.running(reviewed) as engine:
        run = await engine.start(reviewed, "tea")
        await run.signal("review", Review("ann"))
        await run.result(timeout=PATIENCE_S)
        fork = await engine.fork(run.id, from_step="review")
        await fork.signal("review", Review("bob"))
        assert await fork.result(timeout=PATIENCE_S) == Review("bob")
    assert lines == ["hold tea"]


@workflow
async def begins_a_task(ctx: WorkflowContext) -> None:
    asyncio.create_task(ctx.sleep(1))  # type: ignore[arg-type]  # noqa: RUF006


async def test_a_task_of_what_ctx_gives_is_refused_with_what_to_write(stage: Stage) -> None:
    async with stage.running(begins_a_task) as engine:
        ended = await (await engine.start(begins_a_task)).wait(timeout=PATIENCE_S)
        assert ended.failure is not None and ended.failure.type == "NondeterminismError"
        assert "create_task" in ended.failure.message
