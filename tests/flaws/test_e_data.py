"""E, flaws 27 to 33: versions of definitions, values, storage."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from tests.flaws.stage import AT_ONCE, PATIENCE_S, Ctx, Stage, kinds, units

from durable_core import (
    SKIP,
    DefinitionError,
    DurableError,
    Engine,
    Limits,
    RunFailed,
    RunNotFoundError,
    Workflow,
)


async def one(ctx: Ctx) -> int:
    return 1


def waiting(name: str, *, before: tuple[str, ...], after: tuple[str, ...]) -> Workflow[Any, Any]:
    """A workflow with steps before and after a signal."""
    workflow: Workflow[Any, Any] = Workflow(name)
    for step in before:
        workflow = workflow.step(step, one)
    workflow = workflow.wait_for_signal("go")
    for step in after:
        workflow = workflow.step(step, one)
    return workflow


CHANGED = {
    "a step removed": waiting("w", before=("a",), after=("c",)),
    "a step inserted": waiting("w", before=("new", "a", "b"), after=("c",)),
    "a step renamed": waiting("w", before=("a", "bee"), after=("c",)),
    "a step of another kind": Workflow("w").step("a", one).sleep("b", 1).wait_for_signal("go"),
    "everything removed": Workflow("w").step("z", one),
}


@pytest.mark.parametrize("changed", CHANGED.values(), ids=CHANGED.keys())
async def test_flaw_27_a_changed_definition_parks_the_run_instead_of_guessing(
    stage: Stage, changed: Workflow[Any, Any]
) -> None:
    """A run whose journal the new code does not fit is held as ``definition_changed``, executes
    nothing, and goes on under a worker that has the definition it was started with."""
    original = waiting("w", before=("a", "b"), after=("c",))
    async with Engine(stage.store(), [original]) as engine:
        async with engine.worker():
            run = await engine.start(original)
            await stage.until(run, "suspended")
        before = await kinds(run)
    async with Engine(stage.store(), [changed]) as engine:
        await engine.signal(run.id, "go")
        async with engine.worker():
            other = engine.run(run.id)
            await stage.until_recorded(other, "run_parked")
            info = await stage.until(other, "suspended")
            assert [(w.kind, w.reason) for w in info.waiting_for][:1] == [
                ("operator", "definition_changed")
            ]
        assert (await kinds(other))[len(before) :] == ["run_parked"]
    stage.clock.forward(seconds=1)  # a worker's sense of time runs on while the clock stands still
    async with Engine(stage.store(), [original]) as engine, engine.worker():
        result = await engine.run(run.id).result(timeout=PATIENCE_S)
    assert result == {"a": 1, "b": 1, "go": None, "c": 1}


async def test_flaw_27_a_change_that_fits_what_is_recorded_goes_on(stage: Stage) -> None:
    """What a run has not come to yet may change, and steps are found by name, not by place:
    nothing is executed twice."""
    calls: list[str] = []

    async def note(ctx: Ctx) -> str:
        calls.append(ctx.unit)
        return ctx.unit

    old = Workflow("w").step("a", note).step("b", note).wait_for_signal("go").step("c", note)
    new = Workflow("w").step("b", note).step("a", note).wait_for_signal("go").step("d", note)
    async with Engine(stage.store(), [old]) as engine:
        async with engine.worker():
            run = await engine.start(old)
            await stage.until(run, "suspended")
        await run.signal("go")
    async with Engine(stage.store(), [new]) as engine, engine.worker():
        result = await engine.run(run.id).result(timeout=PATIENCE_S)
    assert result == {"a": "a", "b": "b", "go": None, "d": "d"}
    assert calls == ["a", "b", "d"]


async def test_flaw_27_each_run_is_executed_by_the_version_it_was_started_with(
    stage: Stage,
) -> None:
    """Old and new versions are listed side by side; a start takes the last, live runs keep
    theirs, and two different definitions under one version are refused."""
    old = Workflow("w", version="1").wait_for_signal("go").returns(lambda c: "old")
    new = Workflow("w", version="2").wait_for_signal("go").step("x", one).returns(lambda c: "new")
    async with Engine(stage.store(), [old]) as engine:
        await engine.start("w", id="first")
    async with Engine(stage.store(), [old, new]) as engine, engine.worker():
        await engine.start("w", id="second")
        for run_id in ("first", "second"):
            await engine.signal(run_id, "go")
        assert await engine.run("first").result(timeout=PATIENCE_S) == "old"
        assert await engine.run("second").result(timeout=PATIENCE_S) == "new"
    with pytest.raises(DefinitionError, match="twice"):
        Engine("memory://", [Workflow("w").step("a", one), Workflow("w").step("b", one)])


FAITHFUL: list[Any] = [
    datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    date(2030, 1, 2),
    timedelta(days=1, microseconds=5),
    Decimal("1.10"),
    UUID(int=7),
    b"\x00\xff",
    (1, (2, "x")),
    {1, 2},
    10**40,
    "nul \x00 inside",
    "ünï\u2028",
    {"nested": [None, True, 1.5, {"a": ()}]},
]


async def test_flaw_28_a_value_is_the_same_on_the_first_pass_and_on_replay(stage: Stage) -> None:
    """What a later step sees is equal in value and type, whether the run was held in memory or
    read from the store again."""
    seen: list[Any] = []

    async def give(ctx: Ctx) -> Any:
        return FAITHFUL

    async def look(ctx: Ctx) -> None:
        seen.append(ctx.results["give"])

    workflow = (
        Workflow("w").step("give", give).step("now", look).wait_for_signal("go").step("later", look)
    )
    async with Engine(stage.store(), [workflow]) as engine:
        async with engine.worker():
            run = await engine.start(workflow)
            await stage.until(run, "suspended")
        await run.signal("go")
        async with engine.worker():
            result = await run.result(timeout=PATIENCE_S)
    assert seen == [FAITHFUL, FAITHFUL]
    assert result["give"] == FAITHFUL
    for found in (*seen, result["give"]):
        assert [type(value) for value in found] == [type(value) for value in FAITHFUL]


def _cycle() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return loop


UNFAITHFUL = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "cycle": _cycle(),
    "object": object(),
    "lone surrogate": "\ud800",
    "function": one,
}


@pytest.mark.parametrize("value", UNFAITHFUL.values(), ids=UNFAITHFUL.keys())
async def test_flaw_28_what_cannot_be_stored_faithfully_fails_its_step(
    stage: Stage, value: Any
) -> None:
    """It is refused where it was produced, once, with an error that names the step."""
    calls: list[int] = []

    async def give(ctx: Ctx) -> Any:
        calls.append(ctx.attempt)
        return value

    workflow = Workflow("w").step("give", give, retry=AT_ONCE)
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        with pytest.raises(RunFailed, match="give") as caught:
            await run.result(timeout=PATIENCE_S)
        with pytest.raises(DurableError):
            await engine.start(workflow, value, id="refused")
        with pytest.raises(DurableError):
            await engine.get("refused")
    assert caught.value.failure.type == "EncodingError"
    assert calls == [1]


@pytest.mark.parametrize("value", ["42", 42, '"42"', "null", "", "[1]", {"runId": "x"}])
async def test_flaw_29_text_that_looks_like_json_stays_text(stage: Stage, value: Any) -> None:
    """Nothing is guessed when a value is read back, whichever way it went in."""

    async def echo(ctx: Ctx) -> Any:
        return ctx.input

    workflow = Workflow("w").step("a", echo).wait_for_signal("go")
    async with Engine(stage.store(), [workflow]) as engine:
        async with engine.worker():
            run = await engine.start(workflow, value)
            await stage.until(run, "suspended")
        await run.signal("go", value)
        async with engine.worker():
            result = await run.result(timeout=PATIENCE_S)
        info = await run.info()
    for found in (result["a"], result["go"], info.input):
        assert (found, type(found)) == (value, type(value))


async def test_flaw_30_every_value_is_written_once(stage: Stage) -> None:
    """Thirty steps of 20 kB write thirty values of 20 kB: no growing state, no second copy as
    the run's result, and the journal is not read again while the run is held."""

    async def big(ctx: Ctx) -> str:
        return ctx.unit[-1] * 20_000

    workflow: Workflow[Any, Any] = Workflow("w")
    for n in range(30):
        workflow = workflow.step(f"s{n}", big)
    store = stage.store()
    async with Engine(store, [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        result = await run.result(timeout=PATIENCE_S)
        assert len(result) == 30
    written = sum(
        len(entry.payload.data)
        for commit in store.tap.applied
        for entry in commit.entries
        if entry.payload is not None
    )
    assert written < 30 * 20_000 * 1.05
    assert len(store.tap.applied) <= 31


async def test_flaw_30_sizes_are_limited_before_the_write(stage: Stage) -> None:
    """A value over the limit fails its unit and nothing of it is stored."""

    async def big(ctx: Ctx) -> str:
        return "x" * 3_000

    workflow = Workflow("w").step("big", big, retry=AT_ONCE)
    limits = Limits(result=2_000, input=2_000, signal=2_000)
    async with Engine(stage.store(), [workflow], limits=limits) as engine, engine.worker():
        run = await engine.start(workflow)
        with pytest.raises(RunFailed, match=r"2[,_]?000"):
            await run.result(timeout=PATIENCE_S)
        with pytest.raises(DurableError):
            await engine.start(workflow, "x" * 3_000)


async def test_flaw_31_listing_is_filtered_and_paged(stage: Stage) -> None:
    """``runs`` filters in the store and reads page after page, each run once."""
    w, other = Workflow("w").wait_for_signal("go"), Workflow("other").step("a", one)
    async with Engine(stage.store(), [w, other]) as engine:
        for n in range(250):
            await engine.start(w, id=f"r{n:03}", attributes={"parity": n % 2})
            stage.clock.forward(seconds=1)
        await engine.start(other, id="foreign")
        every = [info.id async for info in engine.runs(workflow="w")]
        assert every == [f"r{n:03}" for n in reversed(range(250))]
        odd = [info.id async for info in engine.runs(attributes={"parity": 1}, limit=3)]
        assert odd == ["r249", "r247", "r245"]
        assert [i.id async for i in engine.runs(status=["completed", "failed"])] == []
        assert len([i async for i in engine.runs(status="pending")]) == 251


async def test_flaw_31_old_runs_are_removed_wholly_and_from_the_root_down(stage: Stage) -> None:
    """``prune`` removes what ended long ago, but no child while its parent is there; an id used
    again belongs to a new run, which sees nothing of the old one."""
    leaf = Workflow("leaf").step("a", one)
    tree = Workflow("tree").child("c", leaf)
    waits = Workflow("waits").child("c", leaf).wait_for_signal("go")
    async with Engine(stage.store(), [tree, waits, leaf]) as engine, engine.worker():
        old = await engine.start(tree, id="order-17", attributes={"who": "x"})
        await old.result(timeout=PATIENCE_S)
        live = await engine.start(waits)
        await stage.until(live, "suspended")
        await stage.until_recorded(live, "child_completed")
        stage.clock.forward(days=31)
        young = await engine.start(leaf)
        await young.result(timeout=PATIENCE_S)
        assert await engine.prune(older_than=timedelta(days=30), batch=1) == 2
        kept = {info.parent_id or info.id async for info in engine.runs()}
        assert kept == {live.id, young.id}
        with pytest.raises(RunNotFoundError):
            await old.info()
        assert [info async for info in engine.runs(attributes={"who": "x"})] == []
        new = await engine.start(tree, {"n": 2}, id="order-17")
        await new.result(timeout=PATIENCE_S)
        assert (await new.info()).input == {"n": 2}
        assert await units(new, "child_completed") == ["c"]


async def test_flaw_32_names_and_ids_that_are_too_long_are_refused_at_the_start(
    stage: Stage,
) -> None:
    """The limit is checked where the name is given, so no commit can stumble over it later."""
    with pytest.raises(DefinitionError, match="200"):
        Workflow("w" * 201)
    with pytest.raises(DefinitionError, match="200"):
        Workflow("w").step("s" * 201, one)
    workflow = Workflow("w" * 200).step("s" * 200, one)
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        for bad in ("i" * 201, ""):
            with pytest.raises(DurableError):
                await engine.start(workflow, id=bad)
        run = await engine.start(workflow, id="i" * 200)
        assert await run.result(timeout=PATIENCE_S) == {"s" * 200: 1}


@pytest.mark.parametrize("key", ["unknown", "toString", "__class__", "keys", "way"])
async def test_flaw_33_an_unknown_route_key_fails_unless_otherwise_is_said(
    stage: Stage, key: str
) -> None:
    """Only the declared keys count, whatever the mapping's type has for attributes."""
    strict = Workflow("strict").route("way", lambda c: key, {"left": one})
    skips = Workflow("skips").route("way", lambda c: key, {"left": one}, otherwise=SKIP)
    falls = Workflow("falls").route("way", lambda c: key, {"left": one}, otherwise=one)
    async with Engine(stage.store(), [strict, skips, falls]) as engine, engine.worker():
        run = await engine.start(strict)
        with pytest.raises(RunFailed, match=key):
            await run.result(timeout=PATIENCE_S)
        others = await asyncio.gather(*(engine.start(w) for w in (skips, falls)))
        assert await others[0].result(timeout=PATIENCE_S) == {"way": None}
        assert await others[1].result(timeout=PATIENCE_S) == {"way": 1}
