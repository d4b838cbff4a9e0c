"""Cases R27-R47: running, as the reference's rewrite asserts it, in our meaning."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from tests.acceptance.stage import (
    AT_ONCE,
    ONCE,
    PATIENCE_S,
    Calls,
    Stage,
    count_runs,
    kinds,
    units,
)

from durable_core import (
    Branch,
    RunFailed,
    RunNotFoundError,
    StepContext,
    Undo,
    Workflow,
    WorkflowNotRegisteredError,
)
from durable_core.store import ClaimRequest, Kind

Ctx = StepContext[Any, Any]


async def test_r27_a_run_walks_every_step_to_its_end(stage: Stage, calls: Calls) -> None:
    """Started and advanced, the run is completed, its result is its results, without failure."""
    wf = Workflow("w").step("a", calls.noting("a", 1)).step("b", calls.noting("b", 2))
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        assert await run.result(timeout=PATIENCE_S) == {"a": 1, "b": 2}
        info = await run.info()
    assert (info.status, info.result, info.failure) == ("completed", {"a": 1, "b": 2}, None)


async def test_r28_a_start_makes_one_run_to_be_claimed_once(stage: Stage, calls: Calls) -> None:
    """Ours dispatches no job: the run itself is pending, and exactly one claim gets it."""
    wf = Workflow("w").step("a", calls.noting("a"))
    async with stage.engine(wf) as engine:
        run = await engine.start(wf, {"n": 1}, id="one")
        info = await run.info()
        assert (info.status, info.input, info.attempt) == ("pending", {"n": 1}, 1)
        assert len(await run.journal()) == 0
        assert await count_runs(engine) == 1
        store = stage.store()
        await store.open()
        request = ClaimRequest(
            worker="by hand",
            lease_ms=30_000,
            limit=10,
            queues=("default",),
            kinds=(Kind(workflow=wf.name, version=wf.version, fingerprint=wf.fingerprint),),
        )
        claims = [await store.claim(request) for _ in range(2)]
        assert [[one.run.run_id for one in claim.runs] for claim in claims] == [["one"], []]
        await store.close()
    assert calls.made == []


async def test_r29_a_journaled_step_is_not_run_again(stage: Stage, calls: Calls) -> None:
    """A run that is claimed again replays its journal: what is completed there is not called."""
    wf = (
        Workflow("w")
        .step("a", calls.noting("a", 1))
        .wait_for_signal("go")
        .step("b", calls.noting("b", lambda ctx: ctx.results["a"] + 1))
    )
    async with stage.engine(wf) as engine:
        run = await engine.start(wf)
        async with engine.worker():
            await stage.watch.suspended(run.id)
    async with stage.engine(wf) as engine:
        await engine.signal(run.id, "go")
        async with engine.worker():
            result = await engine.run(run.id).result(timeout=PATIENCE_S)
    assert result == {"a": 1, "go": None, "b": 2}
    assert calls.made == ["a", "b"]


async def test_r30_a_flaky_step_sees_its_attempts_counted_from_one(stage: Stage) -> None:
    """Attempts are counted from 1, also over workers, and the run completes."""
    attempts: list[int] = []

    async def flaky(ctx: Ctx) -> str:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise ConnectionError("not yet")
        return "ok"

    wf = Workflow("w").step("a", flaky, retry=AT_ONCE)
    assert await stage.result(wf) == {"a": "ok"}
    assert attempts == [1, 2, 3]


async def test_r31_exhausted_attempts_start_the_rollback_with_the_last_error(
    stage: Stage, calls: Calls
) -> None:
    """After the last attempt the run is compensating, the last error kept; ours keeps them all."""

    async def broken(ctx: Ctx) -> None:
        raise ValueError(f"attempt {ctx.attempt}")

    seen: list[Any] = []

    async def look(ctx: Ctx) -> None:
        info = await ctx.deps.get(ctx.run_id)
        seen.append((info.status, str(info.failure)))

    wf = (
        Workflow("w").step("a", calls.noting("a"), compensate=look).step("b", broken, retry=AT_ONCE)
    )
    engines: list[Any] = []

    class Deps:
        async def get(self, run_id: str) -> Any:
            return await engines[0].get(run_id)

    async with stage.running(wf, lifespan=yielding(Deps())) as engine:
        engines.append(engine)
        run = await engine.start(wf)
        with pytest.raises(RunFailed, match="attempt 3"):
            await run.result(timeout=PATIENCE_S)
        entries = await run.journal()
    assert seen == [("compensating", "ValueError: attempt 3")]
    failures = [str(e.failure) for e in entries if e.kind in ("attempt_failed", "unit_failed")]
    assert failures == [f"ValueError: attempt {n}" for n in (1, 2, 3)]


def yielding(deps: Any) -> Any:
    """A lifespan that yields this."""

    @asynccontextmanager
    async def lifespan() -> Any:
        yield deps

    return lifespan


async def test_r32_only_completed_steps_are_undone_in_reverse(stage: Stage, calls: Calls) -> None:
    """Neither the step that failed nor those never reached are undone; then the run is failed."""
    wf = (
        Workflow("w")
        .step("a", calls.noting("a"), compensate=calls.noting("undo a"))
        .step("b", calls.noting("b"), compensate=calls.noting("undo b"))
        .step("c", calls.failing("c"), retry=ONCE, compensate=calls.noting("undo c"))
        .step("d", calls.noting("d"), compensate=calls.noting("undo d"))
    )
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        await run.wait(timeout=PATIENCE_S)
        assert await run.status() == "failed"
    assert calls.made == ["a", "b", "c", "undo b", "undo a"]


async def test_r33_a_throwing_compensator_does_not_stop_the_others(
    stage: Stage, calls: Calls
) -> None:
    """It is retried by its policy, then recorded; the others run; the end says what is not undone.

    Ours ends ``compensation_failed`` where the reference cannot be told from a clean rollback.
    """
    wf = (
        Workflow("w")
        .step("a", calls.noting("a"), compensate=calls.noting("undo a"))
        .step("b", calls.noting("b"), compensate=Undo(calls.failing("undo b"), retry=AT_ONCE))
        .step("c", calls.failing("c"), retry=ONCE)
    )
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        with pytest.raises(RunFailed, match="c is broken") as caught:
            await run.result(timeout=PATIENCE_S)
        assert await run.status() == "compensation_failed"
        assert units(await run.journal(), "compensation_failed") == ["b"]
    assert calls.made == ["a", "b", "c", "undo b", "undo b", "undo b", "undo a"]
    assert (caught.value.compensated, caught.value.not_compensated) == (("a",), ("b",))


async def test_r34_an_unregistered_workflow_does_not_start(stage: Stage, calls: Calls) -> None:
    """Starting by an unknown name, or a definition nobody listed, is refused; nothing written."""
    wf = Workflow("w").step("a", calls.noting("a"))
    stranger = Workflow("stranger").step("a", calls.noting("a"))
    async with stage.engine(wf) as engine:
        with pytest.raises(WorkflowNotRegisteredError, match="stranger"):
            await engine.start("stranger")
        with pytest.raises(WorkflowNotRegisteredError, match="stranger"):
            await engine.start(stranger)
        assert await count_runs(engine) == 0


async def test_r35_an_unknown_run_is_not_found(stage: Stage, calls: Calls) -> None:
    """Asking for an unknown id raises ``RunNotFoundError``; so does everything done to it."""
    wf = Workflow("w").step("a", calls.noting("a"))
    async with stage.engine(wf) as engine:
        for verb in (
            lambda: engine.get("x"),
            lambda: engine.journal("x"),
            lambda: engine.explain("x"),
            lambda: engine.signal("x", "go"),
            lambda: engine.resume("x"),
            lambda: engine.cancel("x"),
            lambda: engine.pause("x"),
            lambda: engine.unpause("x"),
            lambda: engine.retry("x"),
            lambda: engine.fork("x", from_step="a"),
        ):
            with pytest.raises(RunNotFoundError, match="'x'"):
                await verb()


async def test_r36_nothing_happens_to_a_completed_run(stage: Stage, calls: Calls) -> None:
    """A completed run is claimed by no worker any more; its journal stays as it is."""
    wf = Workflow("w").step("a", calls.noting("a"))
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        await run.result(timeout=PATIENCE_S)
        before = await run.journal()
    async with stage.running(wf) as engine:
        other = await engine.start(wf)
        await other.result(timeout=PATIENCE_S)
        assert await engine.run(run.id).journal() == before
    assert calls["a"] == 2
    assert stage.watch.counts["RunClaimed", run.id] == 1


async def test_r37_a_sleeping_run_is_suspended_and_then_completes(stage: Stage) -> None:
    """The run is suspended on its timer, which stands in the journal, and completes after it."""
    wf = Workflow("w").sleep("nap", timedelta(milliseconds=5)).returns(lambda ctx: "rested")
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        assert await run.result(timeout=PATIENCE_S) == "rested"
        entries = await run.journal()
    started, fired = (
        next(entry for entry in entries if entry.kind == kind)
        for kind in ("timer_started", "timer_fired")
    )
    assert fired.at - started.at >= timedelta(milliseconds=5)


async def test_r38_a_wait_holds_no_worker_and_takes_its_payload(stage: Stage) -> None:
    """While a run waits no worker holds it and it is never due; the payload is the result."""
    wf = Workflow("w").wait_for_signal("go").returns(lambda ctx: ctx.results["go"])
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        await stage.watch.suspended(run.id)
        store = stage.store()
        await store.open()
        record = (await store.get([run.id]))[run.id]
        assert (record.status, record.owner, record.due_at_ms) == ("suspended", None, None)
        await store.close()
        await run.signal("go", [1, 2])
        assert await run.result(timeout=PATIENCE_S) == [1, 2]


async def test_r39_a_signal_of_another_name_leaves_the_run_waiting(stage: Stage) -> None:
    """Ours accepts it (it may be early for a later wait), and the run waits on; then in order."""
    wf = Workflow("w").wait_for_signal("go").wait_for_signal("later")
    wf = wf.wait_for_signal("last", "later")
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        await stage.watch.suspended(run.id)
        await run.signal("later", "first")
        await run.signal("later", "second")
        await stage.watch.suspended(run.id, times=2)
        # Whether it is held again at this moment, to look at the second signal, is up to timing.
        assert kinds(await run.journal()) == ["signal_awaited"]
        await run.signal("go", 1)
        assert await run.result(timeout=PATIENCE_S) == {
            "go": 1,
            "later": "first",
            "last": "second",
        }


async def test_r40_results_of_a_parallel_stand_under_its_name(stage: Stage, calls: Calls) -> None:
    """The result has the parallel's map under the parallel's own name."""
    wf = Workflow("w").parallel("p", {"x": calls.noting("x", 1), "y": calls.noting("y", 2)})
    assert await stage.result(wf) == {"p": {"x": 1, "y": 2}}


async def test_r41_a_failing_entry_fails_its_step_and_everything_is_undone(
    stage: Stage, calls: Calls
) -> None:
    """The reported error is that of the first failed entry; earlier steps are undone.

    Ours also undoes the entries of the same parallel that did complete.
    """
    wf = (
        Workflow("w")
        .step("a", calls.noting("a"), compensate=calls.noting("undo a"))
        .parallel(
            "p",
            {
                "good": Branch(calls.noting("good"), compensate=calls.noting("undo good")),
                "bad": Branch(calls.failing("bad"), retry=ONCE),
                "worse": Branch(calls.failing("worse"), retry=ONCE),
            },
        )
    )
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        with pytest.raises(RunFailed) as caught:
            await run.result(timeout=PATIENCE_S)
    assert str(caught.value.failure) == "ValueError: bad is broken"
    assert calls.made[-2:] == ["undo good", "undo a"]


async def test_r42_a_route_keeps_the_decision_and_the_result(stage: Stage, calls: Calls) -> None:
    """The branch is in the journal as a decision of its own; the result is the branch's value."""
    wf = Workflow("w").route(
        "r", lambda ctx: ctx.input, {"x": calls.noting("x", 1), "y": calls.noting("y", 2)}
    )
    async with stage.running(wf) as engine:
        run = await engine.start(wf, "y")
        assert await run.result(timeout=PATIENCE_S) == {"r": 2}
        entries = await run.journal()
    (decided,) = [entry for entry in entries if entry.kind == "route_decided"]
    assert (str(decided.unit), decided.value) == ("r", "y")


async def test_r43_an_unknown_branch_fails_the_step_by_name(stage: Stage, calls: Calls) -> None:
    """A key without a branch fails the run, naming the step, the key and the branches there are."""
    wf = (
        Workflow("w")
        .step("a", calls.noting("a"), compensate=calls.noting("undo a"))
        .route("r", lambda ctx: "toString", {"x": calls.noting("x")})
    )
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        with pytest.raises(RunFailed, match=r"(?s)'r'.*'toString'.*'x'"):
            await run.result(timeout=PATIENCE_S)
    assert calls.made == ["a", "undo a"]


async def test_r44_a_loop_can_collect_the_results_of_its_iterations(stage: Stage) -> None:
    """With ``collect`` the result is the list of all; without it, the last."""

    async def double(ctx: Ctx, value: int) -> int:
        return value * 2

    wf = Workflow("w").loop(
        "l", double, feedback=lambda r: r, until=lambda r: r >= 16, collect=True
    )
    assert await stage.result(wf, 2) == {"l": [4, 8, 16]}


async def test_r45_a_loop_that_is_over_at_once_has_run_once(stage: Stage, calls: Calls) -> None:
    """Ours asks ``until`` after an iteration: over at once is a list of one, never of none.

    For what may have to be done zero times there is ``map`` over an empty list.
    """
    wf = (
        Workflow("w")
        .loop("l", calls.noting("l", 1), until=lambda r, n: True, collect=True)
        .map("m", lambda ctx: [], calls.noting("m"))
    )
    assert await stage.result(wf) == {"l": [1], "m": []}
    assert calls.made == ["l"]


async def test_r46_a_child_is_spawned_and_its_result_surfaces(stage: Stage) -> None:
    """The spawn is in the parent's journal, and the child's result is the step's value."""

    async def add(ctx: Ctx) -> int:
        return int(ctx.input) + 1

    child = Workflow("child").step("add", add)
    parent = Workflow("parent").child("sub", child)
    async with stage.running(parent) as engine:
        run = await engine.start(parent, 1)
        assert await run.result(timeout=PATIENCE_S) == {"sub": {"add": 2}}
        entries = await run.journal()
    assert kinds(entries)[:2] == ["child_started", "child_completed"]


async def test_r47_a_failed_child_fails_its_parent_with_its_own_error(
    stage: Stage, calls: Calls
) -> None:
    """The child's error is the cause of the parent's, as data and in its text."""
    child = Workflow("child").step("boom", calls.failing("boom"), retry=ONCE)
    parent = Workflow("parent").child("sub", child)
    async with stage.running(parent) as engine:
        run = await engine.start(parent)
        with pytest.raises(RunFailed, match="boom is broken") as caught:
            await run.result(timeout=PATIENCE_S)
    assert caught.value.failure.cause.type == "ValueError"
