"""Cases S21-S24: children and rollback, as the reference's first line asserts them, in ours."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.acceptance.stage import ONCE, PATIENCE_S, Calls, Stage, units

from durable_core import RunFailed, StepContext, Workflow

Ctx = StepContext[Any, Any]


async def test_s21_a_child_gets_its_input_and_its_result_comes_back(stage: Stage) -> None:
    """The child is a run of its own, linked to its parent, and its result is the step's value.

    Ours hands over the child's result where the reference hands over its whole state.
    """

    async def price(ctx: Ctx) -> int:
        return int(ctx.input["amount"]) * 2

    invoicing = Workflow("invoicing").step("price", price).returns(lambda ctx: ctx.results["price"])
    order = Workflow("order").child("invoice", invoicing, input=lambda ctx: {"amount": ctx.input})
    async with stage.running(order) as engine:
        run = await engine.start(order, 21)
        assert await run.result(timeout=PATIENCE_S) == {"invoice": 42}
        (listed,) = [info async for info in engine.runs(workflow="invoicing")]
        child = await engine.get(listed.id)
        assert (child.parent_id, child.input, child.result) == (run.id, {"amount": 21}, 42)
        assert child.queue == (await run.info()).queue
        assert units(await run.journal(), "child_completed") == ["invoice"]


async def test_s22_a_failing_child_fails_its_parent_which_is_rolled_back(
    stage: Stage, calls: Calls
) -> None:
    """The parent fails at the child's step, with the child's error kept, and undoes what it did."""
    child = Workflow("child").step("boom", calls.failing("boom"), retry=ONCE)
    parent = (
        Workflow("parent")
        .step("hold", calls.noting("hold"), compensate=calls.noting("undo hold"))
        .child("sub", child)
    )
    async with stage.running(parent) as engine:
        run = await engine.start(parent)
        with pytest.raises(RunFailed) as caught:
            await run.result(timeout=PATIENCE_S)
        assert await run.status() == "failed"
    assert calls.made == ["hold", "boom", "undo hold"]
    assert caught.value.compensated == ("hold",)
    failure = caught.value.failure
    assert "boom is broken" in str(failure)
    while failure.cause is not None:
        failure = failure.cause
    assert (failure.type, failure.message) == ("ValueError", "boom is broken")


async def test_s23_rollback_runs_in_reverse_order_and_the_original_error_stays(
    stage: Stage, calls: Calls
) -> None:
    """Compensators run in strict reverse commit order, each committed once; the run is failed."""
    wf = Workflow("saga")
    for name in "abc":
        wf = wf.step(name, calls.noting(name), compensate=calls.noting(f"undo {name}"))
    wf = wf.step("d", calls.failing("d"), retry=ONCE, compensate=calls.noting("undo d"))
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        with pytest.raises(RunFailed) as caught:
            await run.result(timeout=PATIENCE_S)
        info = await run.info()
        undone = units(await run.journal(), "unit_compensated")
    assert calls.made == ["a", "b", "c", "d", "undo c", "undo b", "undo a"]
    assert undone == ["c", "b", "a"]
    assert info.status == "failed"
    assert str(info.failure) == str(caught.value.failure) == "ValueError: d is broken"
    assert sorted(caught.value.compensated) == ["a", "b", "c"]
    assert caught.value.not_compensated == ()


async def test_s24_a_rollback_stopped_half_way_goes_on_where_it_stood(
    stage: Stage, calls: Calls
) -> None:
    """Stopped in the middle of a rollback and continued by another worker, nothing is undone twice.

    Only the compensation that was under way is called again.
    """
    reached, hold = asyncio.Event(), asyncio.Event()

    async def undo_b(ctx: Ctx) -> None:
        calls.made.append("undo b")
        if calls["undo b"] == 1:
            reached.set()
            await hold.wait()

    wf = (
        Workflow("saga")
        .step("a", calls.noting("a"), compensate=calls.noting("undo a"))
        .step("b", calls.noting("b"), compensate=undo_b)
        .step("c", calls.noting("c"), compensate=calls.noting("undo c"))
        .step("d", calls.failing("d"), retry=ONCE)
    )
    async with stage.engine(wf) as engine:
        async with engine.worker(grace=timedelta(0)):
            run = await engine.start(wf, id="r")
            await asyncio.wait_for(reached.wait(), PATIENCE_S)
        assert await run.status() == "compensating"
        assert units(await run.journal(), "unit_compensated") == ["c"]
    async with stage.running(wf) as engine:
        run = engine.run("r")
        with pytest.raises(RunFailed, match="d is broken"):
            await run.result(timeout=PATIENCE_S)
        assert units(await run.journal(), "unit_compensated") == ["c", "b", "a"]
    assert calls.made == ["a", "b", "c", "d", "undo c", "undo b", "undo b", "undo a"]
