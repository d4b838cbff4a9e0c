"""A user's workflows as async code, as `mypy --strict` must pass them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

import attrs

from durable_core import (
    TIMED_OUT,
    Engine,
    Failure,
    Retry,
    StepContext,
    Suspend,
    Undo,
    Workflow,
    WorkflowContext,
    current_step,
    step,
    workflow,
)


@attrs.frozen
class Question:
    queries: list[str]


@attrs.frozen
class Review:
    by: str


@attrs.frozen
class Deps:
    url: str


async def unsearch(ctx: StepContext[Deps, Question]) -> None:
    assert_type(ctx.deps, Deps)


@step(retry=Retry(max_attempts=6), compensate=unsearch)
async def search(query: str, *, limit: int = 10) -> list[str]:
    assert_type(current_step().attempt, int)
    return [query] * limit


@step
def count(found: list[str]) -> int:
    return len(found)


@step(timeout=timedelta(seconds=3), compensate=Undo(unsearch))
async def ask(question: str) -> Review | Suspend:
    return Suspend({"question": question})


def plain(x: int) -> str:
    return str(x)


async def write(conn: Any, row: str) -> int:
    return 1


@workflow
async def kid(ctx: WorkflowContext, n: int) -> str:
    return str(n)


@workflow(version="2")
async def research(ctx: WorkflowContext[Deps], q: Question) -> Review:
    assert_type(ctx.deps, Deps)
    assert_type(await ctx.step(search, "a"), list[str])
    assert_type(await ctx.step(search.with_options(key="again"), "a", limit=3), list[str])
    assert_type(await ctx.step(count, ["a"]), int)
    assert_type(await ctx.step(ask, "?"), Review)
    assert_type(await ctx.step(plain, 3), str)
    assert_type(await ctx.transact(write, "row"), int)
    assert_type(await ctx.all(*(ctx.step(search, s) for s in q.queries)), list[list[str]])
    assert_type(await ctx.all(ctx.step(count, ["a"]), ctx.step(plain, 1)), tuple[int, str])
    assert_type(await ctx.settle(ctx.step(count, ["a"])), list[int | Failure])
    race = ctx.first(ctx.step(plain, 1), ctx.step(plain, 2))
    assert_type(await race, str)
    assert_type(race.winner, int)
    assert_type(await ctx.child(kid, 3), str)
    handle = await ctx.start_child(kid, 3)
    assert_type(await handle, str)
    assert_type(handle.run_id, str)
    assert_type(await ctx.child("by name", 3), Any)
    assert_type(ctx.now(), datetime)
    assert_type(ctx.uuid(), UUID)
    assert_type(ctx.random(), float)
    assert_type(ctx.patched("p"), bool)
    ctx.compensate(plain, 3)
    await ctx.compensate(plain, 3)
    await ctx.sleep(timedelta(hours=1))
    assert_type(await ctx.wait_for_signal("r", Review), Review)
    assert_type(await ctx.wait_for_signal("r", list[int]), list[int])
    assert_type(await ctx.wait_for_signal("r"), Any)
    review = await ctx.wait_for_signal("review", Review, timeout=timedelta(days=3))
    if review is TIMED_OUT:
        ctx.continue_as_new(q)
    assert_type(review, Review)
    return review


@workflow
async def nothing(ctx: WorkflowContext) -> int:
    return 1


assert_type(research, Workflow[Question, Review])
assert_type(nothing, Workflow[None, int])


async def main(engine: Engine) -> None:
    run = await engine.start(research, Question([]))
    assert_type(await run.result(), Review)
    assert_type(await (await engine.start(nothing)).result(), int)
    found: list[str] = await search("direct", limit=2)
    number: int = count(found)
    print(found, number)
