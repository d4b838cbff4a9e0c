"""B, flaws 8 to 12: what a crash loses."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.flaws.stage import AT_ONCE, ONCE, PATIENCE_S, Ctx, Stage, units, writes

from durable_core import Branch, Engine, RunFailed, Workflow
from durable_sqlite import SqliteStore


async def crash_and_recover(stage: Stage, workflow: Workflow[Any, Any], before: str) -> Any:
    """The result of a run whose first worker freezes before it can commit this unit."""
    store = stage.store()
    async with Engine(store, [workflow]) as first, first.worker(grace=timedelta(0)):
        with store.tap.freezing(before=writes(before)) as frozen:
            await first.start(workflow, id="r")
            async with asyncio.timeout(PATIENCE_S):
                await frozen.wait()
            stage.clock.forward(minutes=5)
            async with Engine(stage.store(), [workflow]) as second, second.worker():
                return await second.run("r").result(timeout=PATIENCE_S)


async def test_flaw_8_a_crash_in_an_iteration_repeats_that_iteration_only(stage: Stage) -> None:
    """Every iteration is committed when it ends."""
    calls: Counter[int] = Counter()

    async def poll(ctx: Ctx, value: int) -> int:
        calls[ctx.iteration] += 1
        return value + 1

    workflow = Workflow("w").loop(
        "track", poll, initial=0, until=lambda r, n: r == 4, feedback=lambda r: r
    )
    assert await crash_and_recover(stage, workflow, before="track/2") == {"track": 4}
    assert calls == {0: 1, 1: 1, 2: 2, 3: 1}


async def test_flaw_8_a_crash_in_an_entry_repeats_that_entry_only(stage: Stage) -> None:
    """Every entry of a parallel is committed when it ends."""
    calls: Counter[str] = Counter()
    quick_committed = asyncio.Event()

    async def quick(ctx: Ctx) -> str:
        calls["quick"] += 1
        return "quick"

    async def slow(ctx: Ctx) -> str:
        calls["slow"] += 1
        if calls["slow"] == 1:
            await quick_committed.wait()
        return "slow"

    workflow = Workflow("w").parallel("p", {"quick": quick, "slow": slow})
    store = stage.store()
    async with Engine(store, [workflow]) as first, first.worker():
        with store.tap.freezing(before=writes("p/slow")) as frozen:
            run = await first.start(workflow, id="r")
            await stage.until_recorded(run, "unit_completed", "p/quick")
            quick_committed.set()
            await frozen.wait()
            stage.clock.forward(minutes=5)
            async with Engine(stage.store(), [workflow]) as second, second.worker():
                result = await second.run("r").result(timeout=PATIENCE_S)
    assert result == {"p": {"quick": "quick", "slow": "slow"}}
    assert calls == {"quick": 1, "slow": 2}


async def test_flaw_8_a_crash_in_a_branch_never_takes_the_other_branch(stage: Stage) -> None:
    """A route's decision is committed before its branch begins, and is not taken again."""
    decisions: list[str] = []
    taken: list[str] = []

    def select(ctx: Ctx) -> str:
        decisions.append("left" if not decisions else "right")
        return decisions[-1]

    async def left(ctx: Ctx) -> str:
        taken.append("left")
        return "left"

    async def right(ctx: Ctx) -> str:
        taken.append("right")
        return "right"

    workflow = Workflow("w").route("way", select, {"left": left, "right": right})
    assert await crash_and_recover(stage, workflow, before="way/left") == {"way": "left"}
    assert decisions == ["left"]
    assert taken == ["left", "left"]


async def test_flaw_9_replay_does_not_ask_until_or_feedback_again(stage: Stage) -> None:
    """Each iteration's decision and its next value are on record with it, so functions that would
    answer otherwise the second time are not asked a second time."""
    asked: Counter[str] = Counter()

    def until(result: int, n: int) -> bool:
        asked["until"] += 1
        return asked["until"] >= 5

    def feedback(result: int) -> int:
        asked["feedback"] += 1
        return 10 * asked["feedback"]

    async def body(ctx: Ctx, value: int) -> int:
        return value

    workflow = Workflow("w").loop(
        "l", body, initial=0, until=until, feedback=feedback, collect=True
    )
    # The decision of the iteration in flight is computed again, with that iteration.
    assert await crash_and_recover(stage, workflow, before="l/2") == {"l": [0, 10, 20, 40]}
    assert asked == {"until": 5, "feedback": 4}


async def test_flaw_10_every_iteration_has_its_own_attempts_and_time(stage: Stage) -> None:
    """Attempts and time limits belong to a unit, not to the whole loop or parallel."""
    attempts: list[tuple[int, int]] = []
    deadlines: list[Any] = []

    async def every_second_try(ctx: Ctx, value: Any) -> None:
        attempts.append((ctx.iteration, ctx.attempt))
        deadlines.append(ctx.deadline)
        if ctx.attempt == 1:
            raise ConnectionError("once each")

    workflow = Workflow("w").loop(
        "l", every_second_try, max_iterations=4, retry=AT_ONCE, timeout=timedelta(minutes=1)
    )
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        await (await engine.start(workflow)).result(timeout=PATIENCE_S)
    assert attempts == [(i, attempt) for i in range(4) for attempt in (1, 2)]
    assert all(deadline is not None for deadline in deadlines)


class Falsy(Exception):
    """An error that looks like nothing at all."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return ""


async def test_flaw_11_an_error_that_looks_like_nothing_is_an_error(stage: Stage) -> None:
    """Success and failure are told apart by what happened, not by the value: a falsy exception
    fails its entry, and ``None`` is a result."""

    async def nothing(ctx: Ctx) -> None:
        return None

    async def falsy(ctx: Ctx) -> None:
        raise Falsy

    good = Workflow("good").parallel("p", {"x": nothing, "y": nothing})
    bad = Workflow("bad").parallel("p", {"fine": nothing, "empty": Branch(falsy, retry=ONCE)})
    async with Engine(stage.store(), [good, bad]) as engine, engine.worker():
        assert await (await engine.start(good)).result(timeout=PATIENCE_S) == {
            "p": {"x": None, "y": None}
        }
        run = await engine.start(bad)
        with pytest.raises(RunFailed, match="Falsy"):
            await run.result(timeout=PATIENCE_S)


async def test_flaw_12_the_idempotency_key_is_the_same_in_every_attempt_and_delivery(
    stage: Stage,
) -> None:
    """A handler is given a key that is stable for its unit and another for each other unit."""
    keys: dict[str, list[str]] = {}

    async def charge(ctx: Ctx) -> str:
        keys.setdefault(ctx.unit, []).append(ctx.idempotency_key)
        if ctx.attempt == 1:
            raise ConnectionError("first try")
        return ctx.idempotency_key

    workflow = Workflow("w").map("m", lambda c: [1, 2], charge, retry=AT_ONCE)
    store = stage.store()
    async with Engine(store, [workflow]) as first, first.worker():
        with store.tap.freezing(before=writes("m/1", "unit_completed")) as frozen:
            await first.start(workflow, id="r")
            await frozen.wait()
            stage.clock.forward(minutes=5)
            async with Engine(stage.store(), [workflow]) as second, second.worker():
                result = await second.run("r").result(timeout=PATIENCE_S)
    assert {len(set(found)) for found in keys.values()} == {1}
    assert len(set(result["m"])) == 2
    assert len(keys["m/1"]) == 3


async def test_flaw_12_effects_in_the_same_database_can_be_part_of_the_commit(
    tmp_path: Path,
) -> None:
    """A transactional step's rows and its entry are one commit: both, or neither."""
    tries: list[int] = []

    async def create(ctx: Ctx) -> None:
        await ctx.conn.execute("CREATE TABLE IF NOT EXISTS charge (n INTEGER)")

    async def charge(ctx: Ctx) -> None:
        tries.append(ctx.attempt)
        await ctx.conn.execute("INSERT INTO charge VALUES (?)", (ctx.attempt,))
        if ctx.attempt == 1:
            raise ConnectionError("after the effect")

    async def count(ctx: Ctx) -> list[int]:
        rows = await ctx.conn.execute_fetchall("SELECT n FROM charge")
        return [row[0] for row in rows]

    workflow = (
        Workflow("w")
        .step("create", create, transactional=True)
        .step("charge", charge, transactional=True, retry=AT_ONCE)
        .step("count", count, transactional=True)
    )
    async with Engine(SqliteStore(tmp_path / "app.db"), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        assert (await run.result(timeout=PATIENCE_S))["count"] == [2]
        assert await units(run, "unit_completed") == ["create", "charge", "count"]
    assert tries == [1, 2]


async def test_flaw_12_a_failing_unit_records_no_success(stage: Stage) -> None:
    """What failed for good has no result anywhere."""

    async def fails(ctx: Ctx) -> None:
        raise ValueError("no")

    workflow = Workflow("w").step("a", fails, retry=ONCE)
    async with Engine(stage.store(), [workflow]) as engine, engine.worker():
        run = await engine.start(workflow)
        await stage.until(run, "failed")
        assert await units(run, "unit_completed") == []
