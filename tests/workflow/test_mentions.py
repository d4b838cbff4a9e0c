"""Workflows whose bodies name themselves, or each other, are workflows like any other."""

from __future__ import annotations

from durable_core import Engine, WorkflowContext, workflow
from durable_core.testing import simulate


@workflow
async def countdown(ctx: WorkflowContext, n: int) -> list[int]:
    return [n] if n == 0 else [n, *await ctx.child(countdown, n - 1)]


@workflow
async def ping(ctx: WorkflowContext, n: int) -> str:
    return "ping" if n == 0 else "ping " + await ctx.child(pong, n - 1)


@workflow
async def pong(ctx: WorkflowContext, n: int) -> str:
    return "pong" if n == 0 else "pong " + await ctx.child(ping, n - 1)


@workflow
async def patched(ctx: WorkflowContext) -> bool:
    return ctx.patched("its own name is that of the attribute")


def test_a_workflow_may_be_its_own_child() -> None:
    assert simulate(countdown, 3).result == [3, 2, 1, 0]


def test_two_workflows_may_be_each_others_children() -> None:
    assert simulate(ping, 3).result == "ping pong ping pong"


async def test_whoever_is_named_by_a_body_is_registered_with_it() -> None:
    async with Engine("memory://", [ping]) as engine, engine.worker():
        run = await engine.start("pong", 1)
        assert await run.result(timeout=10) == "pong ping"


def test_an_attribute_may_have_the_name_of_the_workflow() -> None:
    assert simulate(patched).result is True
