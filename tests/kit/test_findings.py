"""Findings and conduct, in small: what is seen, what is left alone, what is put back."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from durable_core import Workflow
from durable_core.testing.explore import explore
from durable_core.testing.findings import findings
from durable_core.testing.memory_of_processes import Memory
from durable_core.testing.plan import Crash, Faults
from durable_core.testing.simulate import simulate
from durable_core.workflow.nodes import Undo

Ctx = Any
TABLE = {"a": "x"}
SEEN: dict[str, int] = {}
TALLY: Counter[str] = Counter()
ROUNDS = 0


async def work(ctx: Ctx) -> int:
    SEEN[ctx.run_id] = 1
    return 1


async def rounds(ctx: Ctx, value: Any) -> int:
    global ROUNDS  # noqa: PLW0603  # what is planted
    ROUNDS += 1
    return 1


def choosing(select: Callable[[Any], Any]) -> list[str]:
    flow = Workflow("flow").route("way", select, {"x": work})
    return [one.what for one in findings(flow) if one.severity == "error"]


def tallied(c: Ctx) -> str:
    TALLY["asked"] += 1
    return "x"


def imports_inside(c: Ctx) -> str:
    from random import choice

    return choice("x")


def seeded(c: Ctx) -> str:
    return random.Random(c.run_id).choice("x")


@pytest.mark.parametrize(
    "select",
    [
        lambda c: "x" if random.random() < 1 else "y",
        lambda c: "x" if time.time_ns() else "y",
        lambda c: "x" if datetime.now(UTC).hour else "y",
        lambda c: "x" if date.today() > c.input else "y",
        lambda c: next(key for key in "x" if random.getrandbits(1)),
        lambda c: "x" if c.run_id in SEEN else "y",
        lambda c: SEEN.get(c.run_id),
        imports_inside,
    ],
)
def test_what_a_branch_must_not_read_is_an_error(select: Callable[[Any], Any]) -> None:
    assert len(choosing(select)) == 1


@pytest.mark.parametrize(
    "select",
    [
        lambda c: TABLE["a"],
        lambda c: "x" if c.input + timedelta(days=1) > datetime(2026, 1, 1, tzinfo=UTC) else "y",
        lambda c: datetime.fromisoformat(c.input).strftime("x"),
        lambda c: c.results["time"],
        tallied,
        seeded,
        str,
    ],
)
def test_what_a_branch_may_read_is_none(select: Callable[[Any], Any]) -> None:
    assert choosing(select) == []


def test_a_global_that_a_handler_counts_up_is_seen() -> None:
    flow = Workflow("flow").loop("spin", rounds, until=lambda r: ROUNDS > 3)
    (found,) = findings(flow)
    assert (found.step, found.severity) == ("spin", "error") and "ROUNDS" in found.what
    assert "keep what it needs in results" in str(found)


async def count(ctx: Ctx, value: int) -> int:
    return value + 1


def test_a_loop_that_has_a_beginning_and_feeds_nothing_back_is_a_note() -> None:
    """It would make a thousand iterations of the same value, and succeed."""
    given: dict[str, Any] = {"initial": 0, "until": lambda r: r >= 3}
    (found,) = findings(Workflow("flow").loop("count", count, **given))
    assert found.severity == "note" and "every iteration gets the same value" in found.what
    assert findings(Workflow("flow").loop("count", count, **given, feedback=lambda r: r)) == ()


def test_a_compensator_that_looks_at_nothing_is_a_note() -> None:
    def undo(ctx: Ctx) -> None:
        print("undone")

    flow = Workflow("flow").step("a", work, compensate=Undo(undo), timeout=3)
    (found,) = findings(flow)
    assert found.severity == "note" and "never reads ctx" in found.what


def test_a_sleep_until_tomorrow_is_a_note() -> None:
    flow = Workflow("flow").sleep("s", lambda c: datetime.now(UTC) + timedelta(days=1))
    assert [one.severity for one in findings(flow)] == ["note"]


# --- time and chance -----------------------------------------------------------------------------


def test_handlers_see_virtual_time_and_the_real_one_comes_back() -> None:
    seen: list[float] = []

    def looks(ctx: Ctx) -> int:
        seen.append(time.time())
        time.sleep(3_600)
        seen.append(time.time())
        while time.time() < seen[1] + 0.001:
            pass
        return 1

    real, state = time.time, random.getstate()
    simulate(Workflow("flow").step("look", looks), start_ms=5_000)
    assert seen[0] == pytest.approx(5, abs=0.01) and seen[1] - seen[0] == pytest.approx(3_600)
    assert time.time is real and random.getstate() == state


def test_random_numbers_follow_from_the_plan_and_differ_by_delivery() -> None:
    async def draws(ctx: Ctx) -> float:
        ctx.deps.append(random.random())
        return 1.0

    def drawn(plan: Faults) -> Any:
        return simulate(Workflow("flow").step("draw", draws), None, plan, deps=list).deps

    again = Faults(Crash(unit="draw", when="after"))
    assert drawn(again) == drawn(again) and len(set(drawn(again))) == 2
    assert drawn(Faults(seed=1)) != drawn(Faults())


# --- memory --------------------------------------------------------------------------------------


def test_memory_is_forgotten_and_given_back() -> None:
    flow = Workflow("flow").step("a", work).loop("spin", rounds, initial=0, max_iterations=1)
    memory = Memory((flow,))
    assert {variable.name for variable in memory.variables} == {"SEEN", "ROUNDS"}
    same, before = SEEN, (dict(SEEN), ROUNDS)
    with memory:
        simulate(flow)
        assert before != (SEEN, ROUNDS)
        memory.forget()
        assert before == (SEEN, ROUNDS)
        SEEN["x"] = 1
    assert before == (SEEN, ROUNDS) and SEEN is same


def test_what_the_check_looks_at_is_no_memory() -> None:
    told: list[str] = []

    async def tells(ctx: Ctx) -> int:
        told.append(ctx.unit)
        return len(told) and 1

    flow = Workflow("flow").step("tell", tells)
    explore(flow, check=lambda sim: told.count("tell") or pytest.fail("not told")).check()


# --- conduct -------------------------------------------------------------------------------------


def test_a_compensator_is_watched_too() -> None:
    async def undo(ctx: Ctx) -> None:
        ctx.results["a"].append(2)

    async def gives(ctx: Ctx) -> list[int]:
        return [1]

    async def fails(ctx: Ctx) -> None:
        raise ValueError("no")

    sim = simulate(Workflow("flow").step("a", gives, compensate=undo).step("b", fails))
    (found,) = sim.complaints
    assert found.unit == "undo a" and "from [1] to [1, 2]" in found.sentence


def test_a_task_that_ends_with_its_handler_is_no_matter() -> None:
    async def waits(ctx: Ctx) -> int:
        task = asyncio.get_running_loop().create_task(asyncio.sleep(1))
        await task
        return 1

    assert simulate(Workflow("flow").step("a", waits)).complaints == ()
