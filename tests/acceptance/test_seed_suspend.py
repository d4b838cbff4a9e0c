"""Cases S17-S20: suspending, as the reference's first line asserts it, in our meaning."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.acceptance.stage import PATIENCE_S, Calls, Stage, units

from durable_core import RunFinishedError, StepContext, Suspend, Workflow

Ctx = StepContext[Any, Any]


async def test_s17_a_wait_suspends_until_its_signal_comes(stage: Stage, calls: Calls) -> None:
    """The run is suspended, nobody holds it and nothing is due; its own signal resumes it.

    A signal of another name is not refused, as in the reference: it waits in the inbox for a
    step that may ask for it later, and this wait goes on unchanged.
    """
    wf = (
        Workflow("approve")
        .step("ask", calls.noting("ask"))
        .wait_for_signal("approval", "risk.approved")
        .step("after", calls.noting("after", lambda ctx: ctx.signal("risk.approved")))
    )
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        await stage.watch.suspended(run.id)
        info = await run.info()
        assert info.status == "suspended"
        (wait,) = info.waiting_for
        assert (wait.kind, wait.name, wait.unit) == ("signal", "risk.approved", "approval")
        assert wait.until is None
        before = await run.journal()
        await run.signal("another", {"ok": False})
        await stage.watch.suspended(run.id, times=2)
        assert await run.journal() == before
        await run.signal("risk.approved", {"ok": True})
        assert await run.result(timeout=PATIENCE_S) == {
            "ask": None,
            "approval": {"ok": True},
            "after": {"ok": True},
        }
    assert calls.made == ["ask", "after"]


async def test_s18_a_finished_run_takes_no_signal(stage: Stage) -> None:
    """Signalling again after completion raises ``RunFinishedError`` and changes nothing."""
    wf = Workflow("approve").wait_for_signal("approval")
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        await run.signal("approval", 1)
        assert await run.result(timeout=PATIENCE_S) == {"approval": 1}
        before = await run.journal()
        with pytest.raises(RunFinishedError, match=run.id):
            await run.signal("approval", 2)
        assert await run.journal() == before
        assert await run.result(timeout=PATIENCE_S) == {"approval": 1}


async def test_s19_a_sleep_holds_until_the_clock_has_passed(stage: Stage, calls: Calls) -> None:
    """The run is suspended with its due time until the database's clock says so, never earlier.

    Ours shows ``suspended`` waiting for a ``timer`` where the reference shows ``running``.
    """
    clock = stage.stop_the_clock()
    start = datetime.fromtimestamp(clock.now_ms / 1000, UTC)
    wf = Workflow("nap").sleep("rest", timedelta(hours=1)).step("up", calls.noting("up", "awake"))
    async with stage.engine(wf) as engine:
        run = await engine.start(wf)
        async with engine.worker():
            await stage.watch.suspended(run.id)
        info = await run.info()
        assert info.status == "suspended"
        (wait,) = info.waiting_for
        assert (wait.kind, wait.unit) == ("timer", "rest")
        assert wait.until is not None
        assert timedelta(0) <= wait.until - start - timedelta(hours=1) < timedelta(seconds=10)
        due_ms = round(wait.until.timestamp() * 1000)

        clock.now_ms = due_ms - 60_000
        async with engine.worker():
            other = await engine.start(wf, id="another")  # the worker is alive, and claims
            await stage.watch.suspended(other.id)
        assert await run.status() == "suspended"
        assert calls.made == []

        clock.now_ms = due_ms
        async with engine.worker():
            assert await run.result(timeout=PATIENCE_S) == {"up": "awake"}
        fired = [entry for entry in await run.journal() if entry.kind == "timer_fired"]
        assert [entry.at >= wait.until for entry in fired] == [True]


async def test_s20_an_agent_step_suspends_and_goes_on_with_snapshot_and_data(stage: Stage) -> None:
    """The same handler is called again with its snapshot and the data; its result replaces both.

    Ours suspends by returning ``Suspend``, not by the shape of a result, and in any unit.
    """
    seen: list[Any] = []

    async def agent(ctx: Ctx) -> Any:
        seen.append(
            None if ctx.resumption is None else (ctx.resumption.snapshot, ctx.resumption.data)
        )
        if ctx.resumption is None:
            return Suspend({"messages": ["hello"]})
        return {"answer": ctx.resumption.data}

    wf = Workflow("agent").step("think", agent)
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        await stage.watch.suspended(run.id)
        (wait,) = (await run.info()).waiting_for
        assert (wait.kind, wait.unit) == ("resume", "think")
        assert wait.token
        await run.resume({"tool": 42}, token=wait.token)
        assert await run.result(timeout=PATIENCE_S) == {"think": {"answer": {"tool": 42}}}
        assert units(await run.journal(), "unit_completed") == ["think"]
    assert seen == [None, ({"messages": ["hello"]}, {"tool": 42})]
