"""What was asked for once is not asked for again: a loser of a race, a part of a group."""

from __future__ import annotations

from typing import Any

import pytest

from durable_core import WorkflowContext, step, workflow
from durable_core.testing import Faults, simulate

Ctx = WorkflowContext[Any]


@step
async def a() -> str:
    return "a"


@workflow
async def awaits_a_loser(ctx: Ctx) -> Any:
    slow, fast = ctx.sleep(50), ctx.step(a)
    await ctx.first(slow, fast)
    return await slow


@workflow
async def awaits_a_loser_for_ever(ctx: Ctx) -> Any:
    slow, fast = ctx.sleep(50), ctx.step(a)
    await ctx.first(slow, fast)
    tries = 0
    while True:
        try:
            return await slow
        except Exception:
            tries += 1


@workflow
async def awaits_a_part_first(ctx: Ctx) -> Any:
    one, two = ctx.step(a), ctx.step(a)
    both = ctx.all(one, two)
    await one
    return await both


@workflow
async def hands_a_part_on(ctx: Ctx) -> Any:
    one, two = ctx.step(a), ctx.step(a)
    return await ctx.all(ctx.all(one, two), ctx.first(one))


@pytest.mark.parametrize(
    "body", [awaits_a_loser, awaits_a_loser_for_ever, awaits_a_part_first, hands_a_part_on]
)
def test_it_is_refused_and_the_run_fails(body: Any) -> None:
    """It was parked, and told that its definition had changed."""
    sim = simulate(body)
    assert sim.status == "failed"
    assert sim.failure is not None and sim.failure.type == "NondeterminismError"
    assert "ask for it anew" in sim.failure.message


@workflow
async def reads_again(ctx: Ctx) -> Any:
    slow, fast = ctx.sleep(50), ctx.step(a)
    race = ctx.first(slow, fast)
    one, two = ctx.step(a), ctx.step(a)
    both = ctx.all(one, two)
    return [await race, await race, await fast, await both, await one, await two]


@pytest.mark.parametrize("plan", [Faults(), Faults(always_suspend=True)])
def test_what_has_come_out_is_read_as_often_as_one_likes(plan: Faults) -> None:
    assert simulate(reads_again, None, plan).result == ["a", "a", "a", ["a", "a"], "a", "a"]
