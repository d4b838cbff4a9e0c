"""G, flaws 43 to 51: what the second line of the reference engine added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from tests.flaws.stage import AT_ONCE, PATIENCE_S, Ctx, Stage, kinds, units, writes

from durable_core import Engine, RunNotFoundError, TerminalError, Workflow
from durable_core.store import Commit
from durable_sqlite import SqliteStore


async def one(ctx: Ctx) -> int:
    return 1


async def fails(ctx: Ctx) -> None:
    raise TerminalError("no")


async def test_flaw_43_no_transaction_is_open_while_a_handler_runs(stage: Stage) -> None:
    """A handler may start other runs, signal them and wait for them to end, on the same
    database and from another process, while it is running."""
    helper = Workflow("helper").wait_for_signal("go")

    async def busy(ctx: Ctx) -> Any:
        async with Engine(stage.store(), [helper]) as other:
            run = await other.start(helper, id="inner")
            await run.signal("go", ctx.run_id)
            return await run.result(timeout=PATIENCE_S)

    workflow = Workflow("w").step("a", busy)
    async with Engine(stage.store(), [workflow, helper]) as engine, engine.worker():
        run = await engine.start(workflow, id="outer")
        assert await run.result(timeout=PATIENCE_S) == {"a": {"go": "outer"}}


async def test_flaw_44_a_run_that_start_has_returned_is_there_for_everybody(
    stage: Stage,
) -> None:
    """Run and first delivery are one row in one transaction, so a worker can neither come too
    early nor too late."""
    workflow = Workflow("w").step("a", one)
    engine, other = Engine(stage.store(), [workflow]), Engine(stage.store(), [workflow])
    async with engine, other, other.worker():
        for n in range(20):
            run = await engine.start(workflow, id=f"r{n}")
            assert (await other.get(run.id)).id == run.id
            assert await run.result(timeout=PATIENCE_S) == {"a": 1}


async def test_flaw_44_a_start_in_the_callers_transaction_shares_its_fate(tmp_path: Path) -> None:
    """With ``conn=`` the run exists when the caller's transaction commits, and never did when it
    rolls back."""
    path = tmp_path / "app.db"
    workflow = Workflow("w").step("a", one)
    async with Engine(SqliteStore(path), [workflow]) as engine, engine.worker():
        async with aiosqlite.connect(path) as conn:
            await conn.execute("CREATE TABLE orders (id TEXT)")
            await conn.commit()
            for run_id, keep in (("kept", True), ("dropped", False)):
                await conn.execute("INSERT INTO orders VALUES (?)", (run_id,))
                await engine.start(workflow, id=run_id, conn=conn)
                with pytest.raises(RunNotFoundError):
                    await engine.get(run_id)
                await (conn.commit() if keep else conn.rollback())
        assert await engine.run("kept").result(timeout=PATIENCE_S) == {"a": 1}
        with pytest.raises(RunNotFoundError):
            await engine.get("dropped")


async def test_flaw_45_no_commit_leaves_a_run_that_nobody_will_move(stage: Stage) -> None:
    """After every commit a run has ended, is leased, is due, or visibly waits for something: what
    comes next is part of the commit, never a second act."""
    leaf = Workflow("leaf").step("a", one)
    workflow = (
        Workflow("w")
        .step("a", one, retry=AT_ONCE)
        .sleep("nap", 0.001)
        .child("c", leaf)
        .wait_for_signal("go")
        .step("b", one)
    )
    store = stage.store()
    async with Engine(store, [workflow, leaf]) as engine:
        async with engine.worker():
            run = await engine.start(workflow)
            await stage.until_recorded(run, "timer_started")
        assert (await run.info()).status == "suspended"
        stage.clock.forward(seconds=1)
        async with engine.worker():
            await stage.until_recorded(run, "signal_awaited")
            await run.signal("go")
            await run.result(timeout=PATIENCE_S)

    def alive(commit: Commit) -> bool:
        release = commit.release
        if commit.finished or release is None:
            return True  # ended, or still leased
        return release.due_at_ms is not None or commit.waiting is not None

    assert store.tap.applied
    assert all(alive(commit) for commit in store.tap.applied)


async def test_flaw_46_a_crash_loses_no_run(stage: Stage) -> None:
    """What a dead worker held is claimable when its lease ends, by the same claim as any other."""
    workflow = Workflow("w").step("a", one)
    store = stage.store()
    async with Engine(store, [workflow]) as engine:
        run = await engine.start(workflow)
        await stage.die_holding(run, store)
        async with engine.worker():
            assert await run.result(timeout=PATIENCE_S) == {"a": 1}


async def test_flaw_47_a_second_delivery_in_a_rollback_does_not_run_the_failed_unit_again(
    stage: Stage,
) -> None:
    """A run that is being rolled back goes on being rolled back, whoever holds it."""
    calls: list[str] = []

    async def a(ctx: Ctx) -> None:
        calls.append("a")

    async def undo(ctx: Ctx) -> None:
        calls.append("undo a")

    async def b(ctx: Ctx) -> None:
        calls.append("b")
        raise TerminalError("no")

    workflow = Workflow("w").step("a", a, compensate=undo).step("b", b)
    store = stage.store()
    async with Engine(store, [workflow]) as first, first.worker():
        with store.tap.freezing(before=writes("a", "unit_compensated")) as frozen:
            run = await first.start(workflow, id="r")
            await frozen.wait()
            assert (await run.info()).status == "compensating"
            stage.clock.forward(minutes=5)
            async with Engine(stage.store(), [workflow]) as second, second.worker():
                await stage.until(second.run("r"), "failed")
        assert (await kinds(run)).count("unit_compensated") == 1
    assert calls == ["a", "b", "undo a", "undo a"]


@pytest.mark.parametrize("on_exhausted", ["return", "fail"])
async def test_flaw_48_a_loop_that_is_done_exactly_at_its_cap_has_succeeded(
    stage: Stage, on_exhausted: Any
) -> None:
    """The condition is asked before the cap."""

    async def count(ctx: Ctx, value: Any) -> int:
        return ctx.iteration + 1

    workflow = Workflow("w").loop(
        "l", count, until=lambda r, n: n == 3, max_iterations=3, on_exhausted=on_exhausted
    )
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        assert await (await engine.start(workflow)).result(timeout=PATIENCE_S) == {"l": 3}


async def test_flaw_49_a_child_and_its_parents_wait_are_one_commit(stage: Stage) -> None:
    """A delivery that is fenced off leaves no orphan: the child is created by the commit that
    records it, or not at all, and it is the same child in every delivery."""
    leaf = Workflow("leaf").step("a", one)
    workflow = Workflow("w").child("c", leaf)
    store = stage.store()
    async with Engine(store, [workflow, leaf]) as first, first.worker():
        with store.tap.freezing(before=writes("c", "child_started")) as frozen:
            await first.start(workflow, id="r")
            await frozen.wait()
            assert [i.id async for i in first.runs(workflow="leaf")] == []
            stage.clock.forward(minutes=5)
            other = stage.store()
            async with Engine(other, [workflow, leaf]) as second, second.worker():
                assert await second.run("r").result(timeout=PATIENCE_S) == {"c": {"a": 1}}
        children = [info.id async for info in first.runs(workflow="leaf")]
    assert len(children) == 1
    (spawn,) = [commit for commit in other.tap.applied if commit.children]
    assert [entry.kind for entry in spawn.entries] == ["child_started"]
    assert spawn.release is not None


async def test_flaw_50_compensations_are_ordered_by_commit_not_by_time(stage: Stage) -> None:
    """With a clock that stands still every entry has the same time, and the order is exact all
    the same; each compensation is a commit of its own."""
    undone: list[str] = []

    async def undo(ctx: Ctx) -> None:
        undone.append(ctx.unit)

    workflow: Workflow[Any, Any] = Workflow("w")
    names = [f"s{n}" for n in range(12)]
    for name in names:
        workflow = workflow.step(name, one, compensate=undo)
    workflow = workflow.step("end", fails)
    store = stage.store()
    async with Engine(store, [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        await stage.until(run, "failed")
        assert await units(run, "unit_compensated") == names[::-1]
    assert undone == names[::-1]
    per_commit = [
        sum(entry.kind == "unit_compensated" for entry in commit.entries)
        for commit in store.tap.applied
    ]
    assert max(per_commit) == 1


async def test_flaw_51_attempts_are_counted_anew_in_every_iteration(stage: Stage) -> None:
    """A long loop whose every iteration fails twice and then succeeds gets through."""
    tries: dict[int, int] = {}

    async def third_time_lucky(ctx: Ctx, value: Any) -> int:
        tries[ctx.iteration] = ctx.attempt
        if ctx.attempt < 3:
            raise ConnectionError("again")
        return ctx.iteration

    workflow = Workflow("w").loop("l", third_time_lucky, retry=AT_ONCE, max_iterations=10)
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        assert await (await engine.start(workflow)).result(timeout=PATIENCE_S) == {"l": 9}
    assert tries == dict.fromkeys(range(10), 3)
