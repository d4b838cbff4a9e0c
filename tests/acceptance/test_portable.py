"""Cases W1-W12: what the reference's in-process engine promises to handlers, in our meaning.

There it is a second engine to which durable handlers port unchanged; ours has one engine, which
keeps the same promises on a store in memory and on a file.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.acceptance.stage import ONCE, PATIENCE_S, Calls, Stage

from durable_core import SKIP, Branch, DefinitionError, RunFailed, StepContext, Undo, Workflow

Ctx = StepContext[Any, Any]


async def failed(stage: Stage, workflow: Any, input: Any = None) -> RunFailed:
    """The error a run of this workflow ends with."""
    async with stage.running(workflow) as engine:
        run = await engine.start(workflow, input)
        with pytest.raises(RunFailed) as caught:
            await run.result(timeout=PATIENCE_S)
    return caught.value


async def test_w1_the_context_is_passed_to_every_handler(stage: Stage) -> None:
    """Each handler, async or not, finds the run's input and the facts of its own place."""
    seen: list[Any] = []

    async def first(ctx: Ctx) -> None:
        seen.append((ctx.input, ctx.run_id, ctx.workflow, ctx.step_name, ctx.unit, ctx.attempt))

    def second(ctx: Ctx) -> None:
        seen.append((ctx.input, ctx.run_id, ctx.workflow, ctx.step_name, ctx.unit, ctx.attempt))

    wf = Workflow("w").step("a", first).parallel("p", {"b": second})
    await stage.result(wf, {"n": 1}, id="run-1")
    assert seen == [
        ({"n": 1}, "run-1", "w", "a", "a", 1),
        ({"n": 1}, "run-1", "w", "p", "p/b", 1),
    ]


async def test_w2_results_are_found_by_the_step_that_made_them(stage: Stage, calls: Calls) -> None:
    """``results`` has one key a step; reading what is not there yet names what is."""
    seen: list[Any] = []

    async def look(ctx: Ctx) -> None:
        seen.append(dict(ctx.results))
        with pytest.raises(KeyError, match="no result of a step 'later'"):
            ctx.results["later"]

    wf = (
        Workflow("w")
        .step("a", calls.noting("a", 1))
        .step("b", calls.noting("b", [2]))
        .step("look", look)
        .step("later", calls.noting("later"))
    )
    await stage.result(wf)
    assert seen == [{"a": 1, "b": [2]}]


async def test_w3_entries_run_at_once_and_see_earlier_results(stage: Stage, calls: Calls) -> None:
    """Entries of a parallel wait for each other here, so they must be running at once."""
    barrier = asyncio.Barrier(3)

    async def meet(ctx: Ctx) -> int:
        await asyncio.wait_for(barrier.wait(), PATIENCE_S)
        return int(ctx.results["a"]) + len(ctx.unit)

    async def flat(ctx: Ctx) -> list[int]:
        return [ctx.results[name] for name in ("x", "yy", "zzz")]

    wf = (
        Workflow("w")
        .step("a", calls.noting("a", 10))
        .parallel("p", {"x": meet, "yy": meet, "zzz": meet})
        .step("flat", flat)
    )
    result = await stage.result(wf)
    assert result["p"] == {"x": 13, "yy": 14, "zzz": 15}
    assert result["flat"] == [13, 14, 15]


async def test_w4_a_route_selects_among_async_and_plain_handlers(
    stage: Stage, calls: Calls
) -> None:
    """Branches may be async or not; ``select`` is plain; an unknown key is skipped if so said.

    Ours fails on an unknown key unless ``otherwise`` says what to do; the reference is silent.
    An async ``select`` is refused when it is built: the decision is recorded, not awaited.
    """

    def plain(ctx: Ctx) -> str:
        return "plain"

    async def select(ctx: Ctx) -> str:
        return "plain"

    wf = Workflow("w")
    for key in ("plain", "async", "neither"):
        wf = wf.route(
            f"to-{key}",
            lambda ctx, key=key: key,  # type: ignore[misc]
            {"plain": plain, "async": calls.noting("async", "async")},
            otherwise=SKIP,
        )
    assert await stage.result(wf) == {
        "to-plain": "plain",
        "to-async": "async",
        "to-neither": None,
    }
    with pytest.raises(DefinitionError, match="select"):
        Workflow("w").route("r", select, {"plain": plain})
    error = await failed(stage, Workflow("v").route("r", lambda ctx: "no", {"plain": plain}))
    assert "'no'" in str(error.failure)


async def test_w5_a_loop_has_an_input_a_feedback_and_an_end(stage: Stage, calls: Calls) -> None:
    """``until``, the cap, the input by default, the chain of feedback, results visible later.

    A cap of 0 is refused when it is built, where the reference has a loop without a result.
    """
    read: list[Any] = []

    async def add(ctx: Ctx, value: int) -> int:
        read.append((ctx.results["a"], ctx.iteration, value))
        return value + 1

    async def after(ctx: Ctx) -> list[int]:
        return [ctx.results["until"], ctx.results["cap"], ctx.results["same"]]

    wf = (
        Workflow("w")
        .step("a", calls.noting("a", "seen"))
        .loop("until", add, until=lambda r, n: n == 2, feedback=lambda r: r * 10)
        .loop("cap", add, initial=100, feedback=lambda r: r, max_iterations=3)
        .loop("same", add, initial=lambda ctx: ctx.results["cap"], max_iterations=2)
        .step("after", after)
    )
    result = await stage.result(wf, 1)
    assert result["after"] == [21, 103, 104]
    assert read == [
        ("seen", 0, 1),
        ("seen", 1, 20),
        ("seen", 0, 100),
        ("seen", 1, 101),
        ("seen", 2, 102),
        ("seen", 0, 103),
        ("seen", 1, 103),
    ]
    with pytest.raises(DefinitionError, match="max_iterations"):
        Workflow("w").loop("l", add, max_iterations=0)


async def test_w6_an_error_stops_the_steps_after_it(stage: Stage, calls: Calls) -> None:
    """After a step has failed for good no later step is begun."""
    wf = (
        Workflow("w")
        .step("a", calls.noting("a"))
        .step("b", calls.failing("b"), retry=ONCE)
        .step("c", calls.noting("c"))
    )
    await failed(stage, wf)
    assert calls.made == ["a", "b"]


async def test_w7_compensators_run_in_reverse(stage: Stage, calls: Calls) -> None:
    """What was done last is undone first."""
    wf = Workflow("w")
    for name in "abc":
        wf = wf.step(name, calls.noting(name), compensate=calls.noting(f"undo {name}"))
    error = await failed(stage, wf.step("d", calls.failing("d"), retry=ONCE))
    assert calls.made[4:] == ["undo c", "undo b", "undo a"]
    assert error.not_compensated == ()


async def test_w8_a_compensator_sees_input_results_and_its_own_value(
    stage: Stage, calls: Calls
) -> None:
    """It sees what its unit saw and the unit's own value; ours shows it no later results."""
    seen: list[Any] = []

    async def undo(ctx: Ctx) -> None:
        seen.append((ctx.input, dict(ctx.results), ctx.value, ctx.attempt))
        assert "c" not in ctx.results

    wf = (
        Workflow("w")
        .step("a", calls.noting("a", 1))
        .step("b", calls.noting("b", 2), compensate=undo)
        .step("c", calls.noting("c", 3))
        .step("d", calls.failing("d"), retry=ONCE)
    )
    await failed(stage, wf, "in")
    assert seen == [("in", {"a": 1, "b": 2}, 2, 1)]


async def test_w9_the_failed_step_is_not_undone(stage: Stage, calls: Calls) -> None:
    """Only what completed is undone; a unit that failed has nothing to undo."""
    wf = (
        Workflow("w")
        .step("a", calls.noting("a"), compensate=calls.noting("undo a"))
        .step("b", calls.failing("b"), retry=ONCE, compensate=calls.noting("undo b"))
    )
    error = await failed(stage, wf)
    assert calls.made == ["a", "b", "undo a"]
    assert error.compensated == ("a",)


async def test_w10_all_compensators_are_attempted_and_failures_collected(
    stage: Stage, calls: Calls
) -> None:
    """Ours has no ``CompensationError``: ``RunFailed`` has the original failure and both lists."""
    wf = Workflow("w")
    for name in "abc":
        undo = calls.noting(f"undo {name}") if name == "b" else calls.failing(f"undo {name}")
        wf = wf.step(name, calls.noting(name), compensate=Undo(undo, retry=ONCE))
    error = await failed(stage, wf.step("d", calls.failing("d"), retry=ONCE))
    assert calls.made[4:] == ["undo c", "undo b", "undo a"]
    assert str(error.failure) == "ValueError: d is broken"
    assert error.compensated == ("b",)
    assert error.not_compensated == ("a", "c")
    assert "a, c" in str(error)


async def test_w11_entries_of_a_parallel_are_undone_one_by_one(stage: Stage, calls: Calls) -> None:
    """Each completed entry with a compensator is undone, with its own value."""
    values: list[Any] = []

    async def undo(ctx: Ctx) -> None:
        values.append((ctx.unit, ctx.value))

    wf = (
        Workflow("w")
        .parallel(
            "p",
            {
                "x": Branch(calls.noting("x", 1), compensate=undo),
                "y": Branch(calls.noting("y", 2), compensate=undo),
                "z": calls.noting("z", 3),
            },
            max_concurrency=1,
        )
        .step("d", calls.failing("d"), retry=ONCE)
    )
    error = await failed(stage, wf)
    assert values == [("p/y", 2), ("p/x", 1)]
    assert sorted(error.compensated) == ["p/x", "p/y"]


async def test_w12_without_compensators_the_original_error_is_all(
    stage: Stage, calls: Calls
) -> None:
    """Nothing to undo: the run is failed with the error as it was, traceback and cause included.

    Where the rewrite wraps it with the step's name, ours names the unit in the journal.
    """

    async def broken(ctx: Ctx) -> None:
        try:
            raise KeyError("root")
        except KeyError as error:
            raise ValueError("surface") from error

    wf = Workflow("w").step("a", calls.noting("a")).step("b", broken, retry=ONCE)
    error = await failed(stage, wf)
    assert str(error.failure) == "ValueError: surface"
    assert error.failure.cause.type == "KeyError"
    assert "broken" in error.failure.traceback
    assert (error.compensated, error.not_compensated) == ((), ())
    async with stage.engine(wf) as engine:
        (entry,) = [e for e in await engine.journal(error.run_id) if e.kind == "unit_failed"]
        assert (str(entry.unit), str(entry.failure)) == ("b", "ValueError: surface")
