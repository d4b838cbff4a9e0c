"""D, flaws 19 to 26: signals, timers, cancellation, children, suspensions."""

from __future__ import annotations

import asyncio
import inspect
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.flaws.stage import ONCE, PATIENCE_S, Ctx, Stage, kinds, units

from durable_core import (
    Branch,
    DefinitionError,
    Engine,
    Retry,
    RunCancelled,
    RunFailed,
    StaleResumeError,
    Suspend,
    TerminalError,
    Workflow,
)
from durable_core.codec.records import entry_from_record
from durable_core.kernel.journal import RunCancelled as RunCancelledEntry
from durable_core.store import Message

APPROVAL = Workflow("approval").wait_for_signal("go")


async def one(ctx: Ctx) -> int:
    return 1


async def test_flaw_19_an_early_signal_is_kept(stage: Stage) -> None:
    """A signal that comes before anybody waits for it lies in the run's inbox until then."""
    async with Engine(stage.store(), [APPROVAL]) as engine:
        run = await engine.start(APPROVAL)
        await run.signal("go", "early")
        async with engine.worker():
            assert await run.result(timeout=PATIENCE_S) == {"go": "early"}


async def test_flaw_19_signals_are_consumed_once_each_in_order(stage: Stage) -> None:
    """First in, first out by name; a repeated delivery under one key counts once."""
    workflow = (
        Workflow("w")
        .wait_for_signal("first", "go")
        .wait_for_signal("other")
        .wait_for_signal("second", "go")
    )
    async with Engine(stage.store(), [workflow]) as engine:
        run = await engine.start(workflow)
        for dedupe_id, payload in [("a", 1), ("a", 1), ("b", 2)]:
            await run.signal("go", payload, dedupe_id=dedupe_id)
        await run.signal("other", 3)
        async with engine.worker():
            result = await run.result(timeout=PATIENCE_S)
    assert result == {"first": 1, "other": 3, "second": 2}


async def test_flaw_19_a_wait_can_time_out(stage: Stage) -> None:
    """The time limit of a wait is kept: it fails the run, or the run goes on with ``None``."""
    week = timedelta(days=7)
    strict = Workflow("strict").wait_for_signal("go", timeout=week)
    lenient = Workflow("lenient").wait_for_signal("go", timeout=week, on_timeout="continue")
    async with Engine(stage.store(), [strict, lenient]) as engine:
        async with engine.worker():
            runs = [await engine.start(workflow) for workflow in (strict, lenient)]
            for run in runs:
                (wait,) = (await stage.until(run, "suspended")).waiting_for
                assert (wait.kind, wait.name) == ("signal", "go")
        stage.clock.forward(days=8)
        async with engine.worker():
            with pytest.raises(RunFailed):
                await runs[0].result(timeout=PATIENCE_S)
            assert await runs[1].result(timeout=PATIENCE_S) == {"go": None}


async def test_flaw_20_a_sleep_is_never_cut_short(stage: Stage) -> None:
    """Neither a new worker, nor a message, nor a dead holder makes a timer fire before it is due
    by the database's clock; nothing is set again by a restart."""
    nap = Workflow("nap").sleep("night", timedelta(hours=8))
    quick = Workflow("quick").step("a", one)
    store = stage.store()
    async with Engine(store, [nap, quick]) as engine:
        async with engine.worker():
            run = await engine.start(nap)
            due = (await stage.until(run, "suspended")).waiting_for[0].until
            assert due is not None
        stage.clock.forward(hours=7)
        await run.signal("irrelevant")  # makes the run due: its worker dies, another looks again
        await stage.die_holding(run, store)
        async with engine.worker():
            await (await engine.start(quick)).result(timeout=PATIENCE_S)
            info = await stage.until(run, "suspended")
            assert [wait.until for wait in info.waiting_for] == [due]
            assert "timer_fired" not in await kinds(run)
        stage.clock.forward(hours=1)
        async with engine.worker():
            await run.result(timeout=PATIENCE_S)
    (started,) = [e for e in await _journal(stage, run.id) if e.kind == "timer_started"]
    assert due - started.at == timedelta(hours=8)


async def _journal(stage: Stage, run_id: str) -> Any:
    async with Engine(stage.store(), []) as engine:
        return await engine.journal(run_id)


async def test_flaw_21_durations_names_and_inputs_can_be_computed_once(stage: Stage) -> None:
    """Functions of the context give them; they are asked once, and the answer is on record."""
    asked: list[str] = []

    def told(what: str, value: Any) -> Any:
        asked.append(what)
        return value

    leaf = Workflow("leaf").step("a", one).returns(lambda c: c.input)
    workflow = (
        Workflow("w")
        .sleep("nap", lambda c: told("duration", timedelta(days=c.input["days"])))
        .wait_for_signal("go", lambda c: told("signal", f"go-{c.input['days']}"))
        .child("leaf", leaf, input=lambda c: told("input", {"parent": c.run_id}))
    )
    async with Engine(stage.store(), [workflow, leaf]) as engine:
        async with engine.worker():
            run = await engine.start(workflow, {"days": 3}, id="r")
            await stage.until(run, "suspended")
        stage.clock.forward(days=3, seconds=1)
        async with engine.worker():
            await stage.until_recorded(run, "signal_awaited")
        await run.signal("go-3")
        async with engine.worker():
            assert (await run.result(timeout=PATIENCE_S))["leaf"] == {"parent": "r"}
    assert asked == ["duration", "signal", "input"]


@pytest.mark.parametrize("bad", [datetime(2030, 1, 1), -1, float("nan"), float("inf"), "soon"])
async def test_flaw_21_a_bad_date_is_refused_or_fails_its_step(stage: Stage, bad: Any) -> None:
    """A fixed one is refused where it is written; a computed one is a failure of its unit."""
    with pytest.raises(DefinitionError):
        Workflow("w").sleep("nap", bad)
    workflow = Workflow("w").sleep("nap", lambda c: bad)
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        with pytest.raises(RunFailed):
            await run.result(timeout=PATIENCE_S)


async def test_flaw_22_cancelling_compensates_and_reaches_handlers_and_children(
    stage: Stage,
) -> None:
    """The running handler of the child is cancelled, both are rolled back, the reason is kept,
    and cancelling again changes nothing."""
    begun, stopped = asyncio.Event(), asyncio.Event()
    undone: list[str] = []

    async def undo(ctx: Ctx) -> None:
        undone.append(ctx.unit)

    async def hangs(ctx: Ctx) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    leaf = Workflow("leaf").step("inner", one, compensate=undo).step("hangs", hangs)
    workflow = Workflow("w").step("outer", one, compensate=undo).child("c", leaf)
    async with Engine(stage.store(), [workflow, leaf]) as engine, engine.worker():
        run = await engine.start(workflow, id="r")
        await begun.wait()
        for _ in range(2):
            await run.cancel(reason="the customer rang")
        with pytest.raises(RunCancelled, match="the customer rang"):
            await run.result(timeout=PATIENCE_S)
        assert stopped.is_set()
        (child,) = [info async for info in engine.runs(workflow="leaf")]
    assert undone == ["inner", "outer"]
    assert child.status == "cancelled"


async def test_flaw_22_terminate_stops_without_undoing_and_says_so(stage: Stage) -> None:
    """The other mode of cancelling leaves what was done, and its last entry lists it."""

    async def undo(ctx: Ctx) -> None:
        raise AssertionError("terminate undoes nothing")

    workflow = Workflow("w").step("a", one, compensate=undo).wait_for_signal("go")
    store = stage.store()
    async with Engine(store, [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        await stage.until(run, "suspended")
        await run.cancel(mode="terminate")
        await stage.until(run, "cancelled")
        with pytest.raises(RunCancelled):
            await run.result(timeout=PATIENCE_S)
        assert await units(run, "unit_compensated") == []
        last = entry_from_record((await store.journal(run.id))[-1])
    assert isinstance(last, RunCancelledEntry)
    assert last.not_compensated == ("a",)


async def test_flaw_22_cancelling_only_a_child_reaches_its_parent(stage: Stage) -> None:
    """However a child ends, the wait of its parent is told."""
    workflow = Workflow("w").child("c", APPROVAL)
    async with Engine(stage.store(), [workflow, APPROVAL]) as engine, engine.worker():
        run = await engine.start(workflow)
        (wait,) = (await stage.until(run, "suspended")).waiting_for
        assert (wait.kind, wait.unit) == ("child", "c")
        assert wait.name is not None
        await engine.cancel(wait.name, reason="only the child")
        with pytest.raises(RunFailed, match="only the child"):
            await run.result(timeout=PATIENCE_S)


def test_flaw_22_a_parent_of_an_unknown_child_cannot_be_registered() -> None:
    """A child that nobody could run is refused before any run is started."""
    with pytest.raises(DefinitionError, match="nowhere"):
        Engine("memory://", [Workflow("w").child("c", "nowhere")])


async def test_flaw_23_cancelling_parents_while_their_children_end_never_deadlocks(
    stage: Stage,
) -> None:
    """Runs tell each other by messages and no statement holds two of them, so every pair of
    parent and child ends."""
    leaf = Workflow("leaf").step("a", one)
    workflow = Workflow("w").child("c", leaf)
    async with Engine(stage.store(), [workflow, leaf]) as engine, engine.worker():
        runs = [await engine.start(workflow, id=f"r{n}") for n in range(20)]
        await asyncio.gather(*(run.cancel() for run in runs), return_exceptions=True)
        for run in runs:
            await stage.until(run, "cancelled", "completed")
        async for info in engine.runs():
            assert info.status in ("cancelled", "completed")


async def test_flaw_24_nobody_can_pose_as_a_child(stage: Stage) -> None:
    """A child's end reaches exactly the wait that started it: the public start has no parent
    options, and a forged message changes nothing."""
    assert not [name for name in inspect.signature(Engine.start).parameters if "parent" in name]
    leaf = Workflow("leaf").wait_for_signal("end")
    workflow = Workflow("w").wait_for_signal("go").child("c", leaf)
    store = stage.store()

    def forged(unit: str) -> Message:
        meta = json.dumps({"child_id": "foreign", "status": "completed"})
        return Message(run_id="r", kind="child_ended", name=unit, meta=meta)

    async with Engine(store, [workflow, leaf]) as engine, engine.worker():
        run = await engine.start(workflow, id="r")
        await stage.until(run, "suspended")
        await store.deliver([forged("go"), forged("c")])
        await run.signal("go", "true one")
        await stage.until_recorded(run, "child_started")
        await store.deliver([forged("c")])
        (child,) = [info async for info in engine.runs(workflow="leaf")]
        await engine.signal(child.id, "end", "of the real child")
        result = await run.result(timeout=PATIENCE_S)
    assert result == {"go": "true one", "c": {"end": "of the real child"}}


async def test_flaw_25_a_childs_error_and_output_reach_its_parent(stage: Stage) -> None:
    """The parent's failure carries the child's as its cause; a child's result is what it returns,
    and its steps are retried by their own policies."""
    tries: list[int] = []

    async def flaky(ctx: Ctx) -> str:
        tries.append(ctx.attempt)
        if ctx.attempt == 1:
            raise ConnectionError("first")
        return "big intermediate value"

    async def fails(ctx: Ctx) -> None:
        raise TerminalError("out of stock")

    good = (
        Workflow("good")
        .step("a", flaky, retry=Retry(max_attempts=2, initial=0))
        .returns(lambda c: "small")
    )
    bad = Workflow("bad").step("a", fails)
    workflow = Workflow("w").child("good", good).child("again", good).child("bad", bad)
    async with Engine(stage.store(), [workflow, good, bad]) as engine, engine.worker():
        run = await engine.start(workflow)
        with pytest.raises(RunFailed) as caught:
            await run.result(timeout=PATIENCE_S)
        values = {str(e.unit): e.value for e in await run.journal() if e.kind == "child_completed"}
    assert values == {"good": "small", "again": "small"}
    assert tries == [1, 2, 1, 2]
    failure = caught.value.failure
    causes = []
    while failure is not None:
        causes.append(str(failure))
        failure = failure.cause
    assert "TerminalError: out of stock" in causes
    assert "out of stock" in causes[0]


async def _approve(ctx: Ctx) -> Any:
    if ctx.resumption is None:
        return Suspend({"asked": ctx.unit})
    return [ctx.resumption.snapshot["asked"], ctx.resumption.data]


SUSPENDING = {
    "step": (Workflow("w").step("a", _approve), "a", lambda r: r["a"]),
    "entry": (Workflow("w").parallel("p", {"a": _approve}), "p/a", lambda r: r["p"]["a"]),
    "item": (Workflow("w").map("m", lambda c: [0], _approve), "m/0", lambda r: r["m"][0]),
    "branch": (
        Workflow("w").route("way", lambda c: "k", {"k": Branch(_approve)}),
        "way/k",
        lambda r: r["way"],
    ),
    "iteration": (Workflow("w").loop("l", _approve, max_iterations=1), "l/0", lambda r: r["l"]),
}


@pytest.mark.parametrize(("workflow", "unit", "found"), SUSPENDING.values(), ids=SUSPENDING.keys())
async def test_flaw_26_any_unit_can_suspend_and_is_resumed_once(
    stage: Stage, workflow: Workflow[Any, Any], unit: str, found: Any
) -> None:
    """The suspension is no result; its token is single-use; being resumed with ``None`` is not
    the same as never having been resumed."""
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        info = await stage.until(run, "suspended")
        (wait,) = info.waiting_for
        assert (wait.kind, wait.unit) == ("resume", unit)
        assert "unit_completed" not in await kinds(run)
        with pytest.raises(StaleResumeError):
            await run.resume(1, token="foreign")
        await run.resume(None, token=wait.token)
        assert found(await run.result(timeout=PATIENCE_S)) == [unit, None]


async def test_flaw_26_a_spent_token_is_refused(stage: Stage) -> None:
    """The same answer twice is a success, another answer with a spent token is not."""

    async def twice(ctx: Ctx) -> Any:
        if ctx.resumption is None or ctx.resumption.snapshot == 1:
            return Suspend(1 if ctx.resumption is None else 2)
        return "done"

    workflow = Workflow("w").step("a", twice)
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        (wait,) = (await stage.until(run, "suspended")).waiting_for
        await run.resume("x", token=wait.token)
        await run.resume("x", token=wait.token)
        with pytest.raises(StaleResumeError):
            await run.resume("y", token=wait.token)


async def test_flaw_26_data_that_looks_like_a_suspension_is_data(stage: Stage) -> None:
    """Suspending is an explicit act; a result of that shape is a result, in every kind of unit."""
    look = {"status": "suspended", "state": {}, "pendingToolCalls": []}

    async def gives(ctx: Ctx) -> dict[str, Any]:
        return look

    workflow = Workflow("w").step("a", gives, retry=ONCE).parallel("p", {"x": gives})
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        result = await (await engine.start(workflow)).result(timeout=PATIENCE_S)
    assert result == {"a": look, "p": {"x": look}}
