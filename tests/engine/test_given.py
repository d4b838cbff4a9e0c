"""What callers hand in: values of the expected type, or plain JSON that fits it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from tests.engine.stage import Watch

from durable_core import (
    EncodingError,
    Engine,
    RunCancelled,
    StepContext,
    Suspend,
    Workflow,
)
from durable_core.testing import MemoryStore


@attrs.frozen
class Decision:
    ok: bool
    by: str = "nobody"


async def told(ctx: StepContext[Any, Any]) -> str:
    return f"{ctx.input.by} then {ctx.signal('go').by}"


WAITING = (
    Workflow("waiting", input=Decision)
    .wait_for_signal("go", type=Decision)
    .step("told", told)
    .returns(lambda c: c.results["told"])
)


async def test_plain_json_that_fits_is_shaped_by_the_annotation() -> None:
    async with Engine(MemoryStore(), [WAITING]) as engine, engine.worker():
        run = await engine.start("waiting", {"ok": True, "by": "ada"}, id="one")
        await run.signal("go", {"ok": False, "by": "bob"})
        assert await run.result(timeout=10) == "ada then bob"
        again = await engine.start(WAITING, Decision(ok=True, by="ada"), id="one")
        assert again.id == "one"  # the same input, however it was handed in


@pytest.mark.parametrize("wrong", [{"by": "ada"}, {"ok": "yes"}, [True], "ada", None, 7])
async def test_what_does_not_fit_is_refused_as_it_was_given(wrong: object) -> None:
    async with Engine(MemoryStore(), [WAITING]) as engine:
        with pytest.raises(EncodingError, match="Decision"):
            await engine.start("waiting", wrong)
        run = await engine.start(WAITING, Decision(ok=True))
        with pytest.raises(EncodingError, match="Decision"):
            await run.signal("go", wrong)


async def asks(ctx: StepContext[Any, Any]) -> Decision | Suspend:
    if ctx.resumption is None:
        return Suspend({"why": "look"})
    answer: Decision = ctx.resumption.data
    return answer


async def test_a_suspended_handler_is_resumed_with_a_class_its_workflow_knows() -> None:
    asking = Workflow("asking").step("ask", asks)
    watch = Watch()
    async with Engine(MemoryStore(), [asking], observers=[watch]) as engine, engine.worker():
        run = await engine.start(asking)
        await watch.until("RunSuspended", run.id)
        await engine.resume(run.id, Decision(ok=True, by="ada"))
        assert await run.result(timeout=10) == {"ask": Decision(ok=True, by="ada")}


async def test_terminate_says_what_it_left_as_it_was() -> None:
    async def undo(ctx: StepContext[Any, Any]) -> None: ...

    async def work(ctx: StepContext[Any, Any]) -> str:
        return "done"

    kept = Workflow("kept").step("a", work, compensate=undo).wait_for_signal("never")
    watch = Watch()
    async with Engine(MemoryStore(), [kept], observers=[watch]) as engine, engine.worker():
        run = await engine.start(kept)
        await watch.until("RunSuspended", run.id)
        await run.cancel(mode="terminate", reason="enough")
        with pytest.raises(RunCancelled) as caught:
            await run.result(timeout=10)
        assert caught.value.not_compensated == ("a",)
