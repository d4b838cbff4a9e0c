"""C, flaws 13 to 18: what is undone, in which order, and what names may be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.flaws.stage import ONCE, PATIENCE_S, Ctx, Stage, units, writes

from durable_core import (
    Branch,
    DefinitionError,
    Engine,
    Retry,
    RunFailed,
    TerminalError,
    Undo,
    Workflow,
)

Undone = list[tuple[str, Any]]


async def fails(ctx: Ctx) -> None:
    raise TerminalError("no")


async def unit(ctx: Ctx) -> str:
    return f"did {ctx.unit}"


def undoing(undone: Undone) -> Callable[[Ctx], Any]:
    """A compensator that notes its unit and the unit's own result."""

    async def undo(ctx: Ctx) -> None:
        undone.append((ctx.unit, ctx.value))

    return undo


async def failure_of(
    stage: Stage, workflow: Workflow[Any, Any], *more: Workflow[Any, Any]
) -> RunFailed:
    """How a run of this workflow fails, after its rollback."""
    async with Engine(stage.store(), [workflow, *more]) as engine, engine.worker():
        run = await engine.start(workflow, {"n": 1}, id="r")
        with pytest.raises(RunFailed) as caught:
            await run.result(timeout=PATIENCE_S)
        compensated = await units(run, "unit_compensated")
        committed = [
            str(entry.unit)
            for entry in await run.journal()
            if entry.kind in ("unit_completed", "child_completed")
        ]
        order = [one for one in reversed(committed) if one in compensated]
        assert compensated == order, "strict reverse commit order"
    return caught.value


async def test_flaw_13_completed_entries_of_the_failing_parallel_are_undone(stage: Stage) -> None:
    """The rollback begins with the failing step itself: what its entries had completed."""
    undone: Undone = []
    undo = undoing(undone)
    workflow = (
        Workflow("w")
        .step("a", unit, compensate=undo)
        .parallel("p", {"x": Branch(unit, compensate=undo), "y": Branch(fails, compensate=undo)})
    )
    error = await failure_of(stage, workflow)
    assert undone == [("p/x", "did p/x"), ("a", "did a")]
    assert error.compensated == ("p/x", "a")
    assert error.not_compensated == ()


async def test_flaw_13_the_work_of_a_failed_loop_is_undone(stage: Stage) -> None:
    """Iterations that were completed before one failed are undone, the last one first."""
    undone: Undone = []

    async def body(ctx: Ctx, value: Any) -> int:
        if ctx.iteration == 2:
            raise TerminalError("third time unlucky")
        return ctx.iteration

    workflow = Workflow("w").loop("l", body, compensate=undoing(undone), max_iterations=5)
    await failure_of(stage, workflow)
    assert undone == [("l/1", 1), ("l/0", 0)]


async def test_flaw_14_an_effect_that_came_through_late_is_not_unknown(stage: Stage) -> None:
    """A handler that succeeds although its time was up is recorded as completed, so its effect is
    used, or undone when the run fails later."""
    undone: Undone = []

    async def too_late(ctx: Ctx) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "came through"
        raise AssertionError("unreachable")

    workflow = (
        Workflow("w")
        .step("a", too_late, timeout=timedelta(milliseconds=20), compensate=undoing(undone))
        .step("b", fails)
    )
    await failure_of(stage, workflow)
    assert undone == [("a", "came through")]


async def test_flaw_14_a_handler_can_tell_its_own_earlier_effect(stage: Stage) -> None:
    """After a time-out nobody knows whether the effect happened; the next attempt comes with the
    same idempotency key, by which the handler's counterpart recognises it."""
    ledger: dict[str, int] = {}

    async def charge(ctx: Ctx) -> str:
        known = ctx.idempotency_key in ledger
        ledger.setdefault(ctx.idempotency_key, 1)
        if not known:
            await asyncio.Event().wait()  # the answer never arrives
        return "charged before" if known else "charged"

    workflow = Workflow("w").step(
        "pay", charge, timeout=timedelta(milliseconds=20), retry=Retry(max_attempts=2, initial=0)
    )
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        result = await (await engine.start(workflow)).result(timeout=PATIENCE_S)
    assert result == {"pay": "charged before"}
    assert len(ledger) == 1


async def test_flaw_15_every_kind_of_unit_can_be_undone_with_its_own_result(stage: Stage) -> None:
    """Steps, entries, items, branches, iterations and completed children, in strict reverse
    commit order, each with the result it gave."""
    undone: Undone = []
    undo = undoing(undone)
    leaf = Workflow("leaf").step("inner", unit, compensate=undo).returns(lambda c: "leaf")
    workflow = (
        Workflow("w")
        .step("a", unit, compensate=undo)
        .parallel("p", {"x": Branch(unit, compensate=undo)})
        .map("m", lambda c: ["i", "j"], unit, compensate=undo, max_concurrency=1)
        .route("way", lambda c: "left", {"left": Branch(unit, compensate=undo)})
        .child("c", leaf)
        .loop("l", lambda ctx, value: ctx.iteration, compensate=undo, max_iterations=2)
        .step("end", fails)
    )
    error = await failure_of(stage, workflow, leaf)
    assert undone == [
        ("l/1", 1),
        ("l/0", 0),
        ("inner", "did inner"),
        ("way/left", "did way/left"),
        ("m/1", "did m/1"),
        ("m/0", "did m/0"),
        ("p/x", "did p/x"),
        ("a", "did a"),
    ]
    assert error.compensated == ("l/1", "l/0", "c", "way/left", "m/1", "m/0", "p/x", "a")


async def test_flaw_15_a_completed_child_is_undone_when_its_parent_fails_later(
    stage: Stage,
) -> None:
    """The child rolls itself back, by its own definition, and ends cancelled."""
    undone: Undone = []
    leaf = Workflow("leaf").step("x", unit, compensate=undoing(undone))
    workflow = Workflow("w").child("c", leaf).step("end", fails)
    await failure_of(stage, workflow, leaf)
    assert undone == [("x", "did x")]
    async with Engine(stage.store(), [workflow, leaf]) as engine:
        (child,) = [info async for info in engine.runs(workflow="leaf")]
    assert child.status == "cancelled"
    assert child.parent_id == "r"


async def test_flaw_16_a_compensator_that_keeps_failing_is_seen_and_can_be_retried(
    stage: Stage,
) -> None:
    """It is tried again by its policy; then the run ends ``compensation_failed`` and names what
    was not undone, and an operator's retry runs just that."""
    tries: list[int] = []
    undone: Undone = []
    mended: list[bool] = []

    async def undo_b(ctx: Ctx) -> None:
        tries.append(ctx.attempt)
        if not mended:
            raise ConnectionError("ledger down")

    workflow = (
        Workflow("w")
        .step("a", unit, compensate=undoing(undone))
        .step("b", unit, compensate=Undo(undo_b, retry=Retry(max_attempts=3, initial=0)))
        .step("end", fails)
    )
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        with pytest.raises(RunFailed) as caught:
            await run.result(timeout=PATIENCE_S)
        assert (await run.info()).status == "compensation_failed"
        assert caught.value.not_compensated == ("b",)
        assert caught.value.compensated == ("a",)
        assert tries == [1, 2, 3]
        (failed,) = [e for e in await run.journal() if e.kind == "compensation_failed"]
        assert str(failed.failure) == "ConnectionError: ledger down"
        mended.append(True)
        await engine.retry(run.id)
        await stage.until(run, "failed")
    assert len(tries) == 4
    assert undone == [("a", "did a")]


async def test_flaw_17_a_compensator_sees_what_its_unit_saw(stage: Stage) -> None:
    """Its own result and the results before it, not those of later steps."""
    seen: list[tuple[Any, list[str]]] = []

    async def undo(ctx: Ctx) -> None:
        seen.append((ctx.value, sorted(ctx.results)))

    workflow = (
        Workflow("w")
        .step("a", unit)
        .step("b", unit, compensate=undo)
        .step("c", unit)
        .step("end", fails)
    )
    await failure_of(stage, workflow)
    assert seen == [("did b", ["a", "b"])]


async def test_flaw_17_a_crash_in_a_rollback_repeats_one_compensation_at_most(
    stage: Stage,
) -> None:
    """Every compensation is committed by itself, so only the one in flight can run again."""
    undone: Undone = []
    workflow = (
        Workflow("w")
        .map("m", lambda c: [0, 1, 2], unit, compensate=undoing(undone), max_concurrency=1)
        .step("end", fails)
    )
    store = stage.store()
    async with Engine(store, [workflow]) as first, first.worker():
        with store.tap.freezing(before=writes("m/1", "unit_compensated")) as frozen:
            await first.start(workflow, id="r")
            await frozen.wait()
            stage.clock.forward(minutes=5)
            async with Engine(stage.store(), [workflow]) as second, second.worker():
                await stage.until(second.run("r"), "failed")
    assert [one for one, _ in undone] == ["m/2", "m/1", "m/1", "m/0"]


async def test_flaw_17_steps_with_nothing_to_undo_cost_no_commit(stage: Stage) -> None:
    """A rollback goes straight to the next unit that has a compensator."""
    undone: Undone = []
    workflow = Workflow("w").step("a", unit, compensate=undoing(undone))
    for n in range(10):
        workflow = workflow.step(f"plain-{n}", unit)
    workflow = workflow.step("end", fails)
    store = stage.store()
    async with Engine(store, [workflow]) as engine, engine.worker():
        await stage.until(await engine.start(workflow), "failed")
    kinds = [[entry.kind for entry in commit.entries] for commit in store.tap.applied]
    begun = next(i for i, found in enumerate(kinds) if "rollback_started" in found)
    assert len(kinds) - begun == 2  # the rollback's begin; the compensation and the end
    assert undone == [("a", "did a")]


@pytest.mark.parametrize(
    "name", ["p#x", "p/x", "__strav_resume__", "$a", "", " ", "a\x00b", "n" * 201, 7, None]
)
def test_flaw_18_names_that_could_clash_are_refused(name: Any) -> None:
    """A step's name can be no path, no reserved word, and not nothing."""
    with pytest.raises(DefinitionError):
        Workflow("w").step(name, unit)
    with pytest.raises(DefinitionError):
        Workflow("w").parallel("p", {name: unit})
    with pytest.raises(DefinitionError):
        Workflow(name)


def test_flaw_18_an_entry_cannot_overwrite_a_step() -> None:
    """Steps and entries share one name space, and taking a name twice is refused."""
    with pytest.raises(DefinitionError, match="taken"):
        Workflow("w").step("a", unit).step("a", unit)
    with pytest.raises(DefinitionError, match="taken"):
        Workflow("w").step("a", unit).parallel("p", {"a": unit})
    with pytest.raises(DefinitionError, match="taken"):
        Workflow("w").parallel("p", {"p": unit})
    with pytest.raises(DefinitionError, match="taken"):
        Workflow("w").parallel("p", {"x": unit}).parallel("q", {"x": unit})


async def test_flaw_18_a_name_that_looks_like_another_units_path_is_another_unit(
    stage: Stage,
) -> None:
    """Units are paths, never joined text: steps called ``m-0`` and ``m.0`` are none of ``m``."""
    workflow = (
        Workflow("w")
        .map("m", lambda c: [1], unit)
        .step("m-0", unit)
        .step("m.0", unit)
        .step("0", unit)
    )
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        assert await run.result(timeout=PATIENCE_S) == {
            "m": ["did m/0"],
            "m-0": "did m-0",
            "m.0": "did m.0",
            "0": "did 0",
        }


def test_flaw_18_a_policy_without_sense_is_refused() -> None:
    """Limits that are no limits are refused where they are written."""
    with pytest.raises(DefinitionError):
        Workflow("w").step("a", unit, timeout=0)
    with pytest.raises(DefinitionError):
        Workflow("w").loop("a", unit, max_iterations=0)
    assert ONCE.max_attempts == 1
