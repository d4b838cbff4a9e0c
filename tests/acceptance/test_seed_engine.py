"""Cases S7-S16: advancing runs, as the reference's first line asserts it, in our meaning."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from tests.acceptance.stage import AT_ONCE, PATIENCE_S, Calls, Stage, kinds, units

from durable_core import Branch, StepContext, Workflow
from durable_core.store import Commit, CommitVerdict

Ctx = StepContext[Any, Any]


async def test_s7_steps_run_in_order_and_the_result_is_all_results(
    stage: Stage, calls: Calls
) -> None:
    """Each step sees the results before it, and the run's result is the map of them all."""
    chain = (
        Workflow("chain")
        .step("a", calls.noting("a", lambda ctx: ctx.input + 1))
        .step("b", calls.noting("b", lambda ctx: ctx.results["a"] * 10))
        .step("c", calls.noting("c", lambda ctx: [ctx.results["a"], ctx.results["b"]]))
    )
    assert await stage.result(chain, 1) == {"a": 2, "b": 20, "c": [2, 20]}
    assert calls.made == ["a", "b", "c"]


async def test_s8_a_run_stopped_half_way_goes_on_where_it_stood(stage: Stage, calls: Calls) -> None:
    """Stopped after three of six steps and continued by another worker, each step completes once.

    Ours has no jobs to count: the fourth step is under way when the first worker has to leave.
    """
    reached, hold = asyncio.Event(), asyncio.Event()

    async def fourth(ctx: Ctx) -> str:
        calls.made.append("d")
        if calls["d"] == 1:
            reached.set()
            await hold.wait()
        return "d"

    six = Workflow("six")
    for name in "abc":
        six = six.step(name, calls.noting(name, name))
    six = six.step("d", fourth)
    for name in "ef":
        six = six.step(name, calls.noting(name, name))

    async with stage.engine(six) as engine:
        async with engine.worker(grace=timedelta(0)):
            run = await engine.start(six, id="r")
            await asyncio.wait_for(reached.wait(), PATIENCE_S)
        assert units(await run.journal(), "unit_completed") == ["a", "b", "c"]
    async with stage.running(six) as engine:
        run = engine.run("r")
        assert await run.result(timeout=PATIENCE_S) == {name: name for name in "abcdef"}
        assert units(await run.journal(), "unit_completed") == list("abcdef")
    assert calls.made == ["a", "b", "c", "d", "d", "e", "f"]


async def test_s9_a_stale_holder_changes_nothing(stage: Stage, calls: Calls) -> None:
    """Whoever comes with an epoch that is over writes nothing: one call, one entry.

    Ours fences commits by the lease's epoch where the reference compares cursors.
    """
    one = Workflow("one").step("a", calls.noting("a", 1))
    async with stage.running(one) as engine:
        run = await engine.start(one)
        await run.result(timeout=PATIENCE_S)
        before = await run.journal()
        store = stage.store()
        await store.open()
        record = (await store.get([run.id]))[run.id]
        stale = Commit(
            run_id=run.id,
            epoch=record.epoch,
            after_seq=record.entry_count,
            status="running",
            generation=record.generation,
        )
        assert (await store.commit([stale])).verdicts == (CommitVerdict.FENCED,)
        await store.close()
        assert await run.journal() == before
        assert await run.status() == "completed"
    assert units(before, "unit_completed") == ["a"]
    assert calls["a"] == 1


async def test_s10_two_workers_on_one_store_complete_each_unit_once(
    stage: Stage, calls: Calls
) -> None:
    """Two concurrent advances of one run: ours are two workers that race for the same runs."""
    pair = (
        Workflow("pair")
        .step("a", calls.noting("a", lambda ctx: ctx.run_id))
        .step("b", calls.noting("b", lambda ctx: ctx.results["a"]))
    )
    ids = [f"r{n}" for n in range(20)]
    async with stage.engine(pair) as first, stage.engine(pair) as second:
        runs = [await first.start(pair, id=run_id) for run_id in ids]
        async with first.worker(concurrency=3), second.worker(concurrency=3):
            for run in runs:
                assert await run.result(timeout=PATIENCE_S) == {"a": run.id, "b": run.id}
        for run in runs:
            assert units(await run.journal(), "unit_completed") == ["a", "b"]
    assert (calls["a"], calls["b"]) == (20, 20)


async def test_s11_entries_of_a_parallel_are_units_and_results_of_their_own(
    stage: Stage, calls: Calls
) -> None:
    """Results are read by entry and under the parallel; units are ``p/x``, ``p/y``, ``p/z``."""
    seen: list[Any] = []
    wf = (
        Workflow("par")
        .parallel("p", {name: calls.noting(name, name.upper()) for name in "xyz"})
        .step("q", calls.noting("q", lambda ctx: seen.append((ctx.results["p"], ctx.results["y"]))))
    )
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        result = await run.result(timeout=PATIENCE_S)
        done = units(await run.journal(), "unit_completed")
    assert result == {"p": {"x": "X", "y": "Y", "z": "Z"}, "q": None}
    assert seen == [({"x": "X", "y": "Y", "z": "Z"}, "Y")]
    assert sorted(done[:3]) == ["p/x", "p/y", "p/z"]


async def test_s12_a_retry_runs_only_the_entry_that_failed(stage: Stage, calls: Calls) -> None:
    """An entry that fails once is tried again; its sibling is not. Each entry has its policy."""
    wf = Workflow("par").parallel(
        "p",
        {
            "good": Branch(calls.noting("good", 1), retry=AT_ONCE),
            "flaky": Branch(calls.failing("flaky", times=1, gives=2), retry=AT_ONCE),
        },
    )
    assert await stage.result(wf) == {"p": {"good": 1, "flaky": 2}}
    assert (calls["good"], calls["flaky"]) == (1, 2)


async def test_s13_a_route_runs_the_branch_it_decided(stage: Stage, calls: Calls) -> None:
    """The selected branch runs and no other, and the decision is committed before it."""
    wf = Workflow("route").route(
        "pay",
        lambda ctx: "wire" if ctx.input > 10 else "card",
        {"wire": calls.noting("wire", "w"), "card": calls.noting("card", "c")},
    )
    async with stage.running(wf) as engine:
        run = await engine.start(wf, 11)
        assert await run.result(timeout=PATIENCE_S) == {"pay": "w"}
        entries = await run.journal()
    assert calls.made == ["wire"]
    assert kinds(entries)[:2] == ["route_decided", "unit_completed"]
    assert str(entries[1].unit) == "pay/wire"


async def test_s14_a_loop_ends_when_until_says_so(stage: Stage) -> None:
    """``until`` ends the loop after the fifth iteration; each iteration is a unit, from 0."""

    async def count(ctx: Ctx, value: int) -> int:
        return value + 1

    wf = Workflow("loop").loop(
        "l", count, initial=0, until=lambda r, n: r >= 5, feedback=lambda r: r, max_iterations=50
    )
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        assert await run.result(timeout=PATIENCE_S) == {"l": 5}
        done = units(await run.journal(), "unit_completed")
    assert done == [f"l/{n}" for n in range(5)]


async def test_s15_a_flaky_step_succeeds_on_its_third_attempt(stage: Stage, calls: Calls) -> None:
    """Two failures, then a result: completed, nothing undone. Ours records each failed attempt."""
    wf = (
        Workflow("flaky")
        .step("a", calls.noting("a"), compensate=calls.noting("undo a"))
        .step("b", calls.failing("b", times=2, gives=lambda ctx: ctx.attempt), retry=AT_ONCE)
    )
    async with stage.running(wf) as engine:
        run = await engine.start(wf)
        assert await run.result(timeout=PATIENCE_S) == {"a": None, "b": 3}
        entries = await run.journal()
    assert calls.made == ["a", "b", "b", "b"]
    assert units(entries, "attempt_failed") == ["b", "b"]
    assert not any("compensat" in kind for kind in kinds(entries))


async def test_s16_plain_handlers_give_the_same_results_when_they_are_durable(stage: Stage) -> None:
    """Handlers are ordinary functions: called by hand or by a worker they come to the same."""

    async def total(ctx: Any) -> int:
        return sum(ctx.input)

    def label(ctx: Any) -> str:
        return f"total {ctx.results['total']}"

    by_hand = SimpleNamespace(input=[1, 2, 3], results={})
    by_hand.results["total"] = await total(by_hand)
    by_hand.results["label"] = label(by_hand)
    wf = Workflow("plain").step("total", total).step("label", label)
    assert await stage.result(wf, [1, 2, 3]) == by_hand.results
