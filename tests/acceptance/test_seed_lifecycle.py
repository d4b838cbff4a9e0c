"""Cases S25-S29: looking at runs, cancelling, taking over, in our meaning."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.acceptance.stage import PATIENCE_S, Calls, Stage, units

from durable_core import RunCancelled, RunFinishedError, RunNotFoundError, Workflow
from durable_core.store import MARKS, ClaimRequest, Kind, next_epoch


async def test_s25_a_snapshot_says_everything_about_a_run(stage: Stage, calls: Calls) -> None:
    """``RunInfo`` has the facts, the status, what is waited for, and at the end the result."""
    wf = Workflow("order", version="7").step("a", calls.noting("a", 1)).wait_for_signal("go")
    async with stage.running(wf) as engine:
        run = await engine.start(
            wf, {"n": 1}, id="order-17", priority=3, attributes={"tenant": "acme"}
        )
        await stage.watch.suspended(run.id)
        info = await engine.get("order-17")
        assert (info.id, info.workflow, info.version) == ("order-17", "order", "7")
        assert (info.status, info.input, info.result, info.failure) == (
            "suspended",
            {"n": 1},
            None,
            None,
        )
        assert [wait.kind for wait in info.waiting_for] == ["signal"]
        assert info.created_at <= info.updated_at
        assert info.created_at.utcoffset() == timedelta(0)
        assert info.finished_at is None
        assert (info.parent_id, info.queue, info.priority) == (None, "default", 3)
        assert dict(info.attributes) == {"tenant": "acme"}
        assert info.deadline is None
        await run.signal("go", "!")
        await run.result(timeout=PATIENCE_S)
        info = await run.info()
        assert (info.status, info.result) == ("completed", {"a": 1, "go": "!"})
        assert info.finished_at is not None
        assert info.waiting_for == ()


async def test_s26_an_unknown_id_is_an_error(stage: Stage, calls: Calls) -> None:
    """Every look at a run that does not exist raises ``RunNotFoundError`` naming the id."""
    wf = Workflow("order").step("a", calls.noting("a"))
    async with stage.engine(wf) as engine:
        run = engine.run("nobody")
        for look in (run.info, run.status, run.journal, run.explain, run.result, run.wait):
            with pytest.raises(RunNotFoundError, match="nobody"):
                await look()
        with pytest.raises(RunNotFoundError, match="nobody"):
            await engine.get("nobody")


async def test_s27_runs_are_found_by_status_workflow_and_attributes(
    stage: Stage, calls: Calls
) -> None:
    """Ours has no run model with transitions to misuse: ``engine.runs`` finds, newest first."""
    done = Workflow("done").step("a", calls.noting("a"))
    open_ = Workflow("open").wait_for_signal("go")
    async with stage.running(done, open_) as engine:
        finished = [
            await engine.start(done, id=f"d{n}", attributes={"even": str(n % 2 == 0)})
            for n in range(4)
        ]
        for run in finished:
            await run.wait(timeout=PATIENCE_S)
        waiting = await engine.start(open_, id="o")
        await stage.watch.suspended(waiting.id)

        async def ids(**query: Any) -> set[str]:
            return {info.id async for info in engine.runs(**query)}

        assert await ids(status="completed") == {"d0", "d1", "d2", "d3"}
        assert await ids(status="suspended") == {"o"}
        assert await ids(status=["completed", "suspended"]) == {"d0", "d1", "d2", "d3", "o"}
        assert await ids(workflow="open") == {"o"}
        assert await ids(attributes={"even": "True"}) == {"d0", "d2"}
        assert len(await ids(limit=2)) == 2


async def test_s28_a_cancelled_run_takes_no_signal(stage: Stage, calls: Calls) -> None:
    """A suspended run is cancelled; a later signal is refused, cancelling again changes nothing.

    Ours undoes what was done before it is ``cancelled``, where the reference abandons it.
    """
    wf = (
        Workflow("order")
        .step("a", calls.noting("a"), compensate=calls.noting("undo a"))
        .wait_for_signal("go")
    )
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        await stage.watch.suspended(run.id)
        await run.cancel(reason="the customer left")
        with pytest.raises(RunCancelled, match="the customer left"):
            await run.result(timeout=PATIENCE_S)
        before = await run.journal()
        with pytest.raises(RunFinishedError):
            await run.signal("go")
        await run.cancel()
        assert await run.journal() == before
        assert await run.status() == "cancelled"
    assert calls.made == ["a", "undo a"]


async def test_s29_a_run_whose_worker_died_is_taken_over(stage: Stage, calls: Calls) -> None:
    """When the holder's lease has expired any worker goes on; until then nobody else may.

    Ours needs no call to recover: an expired lease makes exactly that run claimable again.
    """
    clock = stage.stop_the_clock()
    wf = Workflow("order").step("a", calls.noting("a", 1)).step("b", calls.noting("b", 2))
    async with stage.engine(wf) as engine:
        run = await engine.start(wf, id="orphan")
        store = stage.store()
        await store.open()
        dead = await store.claim(
            ClaimRequest(
                worker="dead",
                lease_ms=30_000,
                limit=10,
                queues=("default",),
                kinds=(Kind(workflow=wf.name, version=wf.version, fingerprint=wf.fingerprint),),
            )
        )
        assert [claimed.run.run_id for claimed in dead.runs] == ["orphan"]
        async with engine.worker():
            other = await engine.start(wf, id="healthy")
            await other.result(timeout=PATIENCE_S)
        assert (await run.status(), calls.made) == ("running", ["a", "b"])

        clock.forward(30_001)
        async with engine.worker():
            assert await run.result(timeout=PATIENCE_S) == {"a": 1, "b": 2}
        record = (await store.get(["orphan"]))["orphan"]
        assert record.epoch == next_epoch(dead.runs[0].run.epoch, record.epoch % MARKS)
        assert units(await run.journal(), "unit_completed") == ["a", "b"]
        await store.close()
