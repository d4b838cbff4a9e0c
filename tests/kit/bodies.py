"""Bodies: workflows as async code, with one mistake each and without any.

What holds of ``planted.py`` and ``clean.py`` holds here; the steps take what the body gives them.
"""

from __future__ import annotations

import asyncio
import enum
import random
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.kit.clean import Clean
from tests.kit.planted import Planted, Shop, paid_once

from durable_core import (
    TIMED_OUT,
    Retry,
    StepContext,
    StepFailed,
    TerminalError,
    WorkflowContext,
    current_step,
    step,
    workflow,
)

Ctx = WorkflowContext[Any]
PATIENT = Retry(max_attempts=3, initial=1.0, jitter=0.0)
ONCE = Retry(max_attempts=1)
seen: list[int] = []
RATES = {"small": 1, "large": 2}


# --- steps ---------------------------------------------------------------------------------------


async def unhold(ctx: StepContext[Shop, Any]) -> None:
    ctx.deps.holds.pop(ctx.value, None)


@step(compensate=unhold)
async def hold(what: str) -> str:
    current_step().deps.holds[what] = 1
    return what


@step(retry=PATIENT)
async def double(n: int) -> int:
    return 2 * n


@step(retry=PATIENT)
def plain_double(n: int) -> int:
    return 2 * n


@step
async def dawdle(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@step(retry=ONCE)
async def refuse() -> None:
    raise TerminalError("no")


@step
async def pay() -> str:
    shop, key = current_step().deps, current_step().idempotency_key
    if key not in shop.paid:
        shop.paid.append(key)
    return "paid"


@step
async def pay_without_key() -> str:
    current_step().deps.paid.append(str(uuid.uuid4()))
    return "paid"


@step
async def fills(found: list[int]) -> int:
    found.append(1)
    return len(found)


@step
async def extended(found: list[int]) -> list[int]:
    found.append(1)
    return found


@step
async def names() -> set[str]:
    return {"a", "b", "c"}


@step
async def throws_dice() -> float:
    return random.random() + time.time() * 0


async def unmarked(n: int) -> float:
    return time.time() * 0 + n


async def release_late(what: str) -> None:
    """Work that no step declared, undone."""


class Level(enum.IntEnum):
    """Nothing says so where it is read without an annotation."""

    HIGH = 2


@step
async def rates():  # type: ignore[no-untyped-def]
    return {"level": Level.HIGH, "steps": [1]}


# --- with a mistake ------------------------------------------------------------------------------


@workflow
async def looks_at_the_clock(ctx: Ctx) -> int:
    if datetime.now(UTC).minute % 2:
        return await ctx.step(double, 1)
    return await ctx.step(plain_double, 1)


@workflow
async def looks_at_the_clock_elsewhere(ctx: Ctx) -> int:
    return await ctx.step(double, vars(time)["time_ns"]())


@workflow
async def draws_a_number(ctx: Ctx) -> int:
    return await ctx.step(double, random.randrange(1_000))


def _chance() -> float:
    return float(vars(random)["random"]())  # so that it cannot be seen


@workflow
async def draws_a_branch(ctx: Ctx) -> int:
    total = 0
    for _ in range(3):
        total += await ctx.step(double if _chance() < 0.5 else plain_double, 1)
    return total


@workflow
async def keeps_what_a_step_filled(ctx: Ctx) -> int:
    found: list[int] = []
    await ctx.step(fills, found)
    return await ctx.step(double, len(found))


@workflow
async def counts_outside(ctx: Ctx) -> int:
    seen.append(1)
    return await ctx.step(double, 1)


@workflow
async def has_an_effect(ctx: Ctx) -> None:
    await ctx.step(double, 1)
    ctx.deps.paid.append("order")


@workflow
async def has_an_effect_at_last(ctx: Ctx) -> None:
    try:
        await ctx.step(double, 1)
    finally:
        ctx.deps.holds.clear()
        ctx.deps.undone.append("all")


@workflow
async def swallows_continue_as_new(ctx: Ctx, n: int) -> int:
    try:
        await ctx.step(double, n)
        ctx.continue_as_new(n + 1)
    except BaseException:
        return n


def _everything() -> type[BaseException]:
    return BaseException


@workflow
async def swallows_it_unseen(ctx: Ctx, n: int) -> int:
    try:
        if n < 2:
            ctx.continue_as_new(n + 1)
    except _everything():
        n += 1
    return n


@workflow
async def returns_at_last(ctx: Ctx, n: int) -> int:
    while True:
        try:
            n = await ctx.step(double, n)
        finally:
            return n  # noqa: B012


@workflow
async def goes_through_a_set(ctx: Ctx) -> list[str]:
    wanted = {"lamp", "chair"} | {"desk"}
    return await ctx.all(*(ctx.step(hold, what) for what in wanted))


@workflow
async def waits_for_another_name(ctx: Ctx) -> None:
    await ctx.wait_for_signal("aproved")


@workflow
async def takes_it_untyped(ctx: Ctx) -> None:
    await ctx.step(rates)


@workflow
async def pays_without_key(ctx: Ctx) -> str:
    return await ctx.step(pay_without_key)


def planted_bodies() -> list[Planted]:
    """Bodies with one mistake each."""
    shop = {"deps": Shop}

    def planted(body: Any, unit: str, says: str, by: str = "explore", **more: Any) -> Planted:
        how = shop | more.pop("how", {})
        return Planted(name=body.name, by=by, workflow=body, unit=unit, says=says, how=how, **more)

    return [
        planted(looks_at_the_clock, "body", "ctx.now()", "findings"),
        planted(looks_at_the_clock, "body", "the clock"),
        planted(looks_at_the_clock_elsewhere, "double", "when it is replayed"),
        planted(draws_a_number, "body", "ctx.random()", "findings"),
        planted(draws_a_branch, "double", "replayed"),
        planted(keeps_what_a_step_filled, "fills", "belongs to the body", "simulate"),
        planted(keeps_what_a_step_filled, "double", "when it is replayed"),
        planted(counts_outside, "body", "each time it is replayed", "findings"),
        planted(has_an_effect, "", "changes ctx.deps"),
        planted(has_an_effect_at_last, "", "changes ctx.deps"),
        planted(swallows_continue_as_new, "body", "raise again", "findings", input=0),
        planted(swallows_it_unseen, "", "ctx.continue_as_new", input=0),
        planted(returns_at_last, "body", "leaves by return", "findings", input=1),
        planted(goes_through_a_set, "body", "sorted(...)", "findings"),
        planted(waits_for_another_name, "", "it waits for 'aproved'", "simulate",
                how={"signals": {"approved": None}}),
        planted(takes_it_untyped, "rates", "cannot be stored"),
        planted(pays_without_key, "pay_without_key", "paid 2 times", how={"check": paid_once}),
    ]  # fmt: skip


# --- without one ---------------------------------------------------------------------------------


@workflow
async def orders(ctx: Ctx, what: str) -> str:
    await ctx.step(hold, what)
    return await ctx.step(pay)


@workflow
async def fails_at_last(ctx: Ctx, what: str) -> None:
    ctx.compensate(release_late, what)
    await ctx.step(refuse)


@workflow
async def at_once(ctx: Ctx) -> list[Any]:
    both = await ctx.all(ctx.step(double, 1), ctx.step(plain_double, 2))
    settled = await ctx.settle(ctx.step(refuse), ctx.step(double, 3))
    return [list(both), [getattr(one, "type", one) for one in settled]]


@workflow
async def in_time(ctx: Ctx) -> str:
    race = ctx.first(ctx.step(dawdle, 1.0), ctx.sleep(3_600))
    await race
    decision = await ctx.wait_for_signal("decision", timeout=timedelta(days=1))
    return "late" if decision is TIMED_OUT else f"{decision} {race.winner}"


@workflow
async def draws_and_dates(ctx: Ctx) -> float:
    drawn = await ctx.step(throws_dice) + await ctx.step(unmarked, 1)
    key = str(ctx.uuid())
    if ctx.patched("rounds") and ctx.now() > datetime(2000, 1, 1, tzinfo=UTC):
        drawn += ctx.random() + len(key)
    await ctx.step(double, int(drawn * 1e9))
    return 0.0


@workflow
async def sorts_its_sets(ctx: Ctx) -> int:
    wanted = {"b", "a"}
    found = await ctx.step(names)
    total = 0
    for name in sorted(wanted & found)[:1]:
        total += await ctx.step(double.with_options(key=f"double-{name}"), len(name))
    return total + len({one for one in wanted}) + sum(len(one) for one in wanted)


@workflow
async def child(ctx: Ctx, n: int) -> int:
    return await ctx.step(double, n)


@workflow
async def has_children(ctx: Ctx) -> int:
    handle = await ctx.start_child(child, 1)
    other = await ctx.child(child, 2, key="other")
    return other + await handle


@workflow
async def begins_anew(ctx: Ctx, n: int) -> int:
    n = await ctx.step(double, n)
    if n < 8:
        ctx.continue_as_new(n)
    return n


async def _carefully(ctx: Ctx, n: int) -> int:
    try:
        return await ctx.step(double, n)
    except StepFailed:
        return 0


@asynccontextmanager
async def _ordered(ctx: Ctx) -> AsyncIterator[int]:
    yield 1
    await ctx.sleep(1)


@workflow
async def tidies_up(ctx: Ctx) -> int:
    numbers: list[int] = []
    try:
        async with _ordered(ctx):
            numbers = await ctx.step(extended, numbers)
            ctx.log.info("filled")
    finally:
        numbers.append(await _carefully(ctx, RATES["large"]))
    return sum(numbers)


async def put(conn: Any, n: int) -> int:
    return n


@workflow
async def transacts(ctx: Ctx) -> int:
    return await ctx.transact(put, 1)


def clean_bodies() -> list[Clean]:
    """Bodies without a mistake."""
    shop = {"deps": Shop}
    return [
        Clean(name="orders", workflow=orders, input="lamp", how=shop | {"check": paid_once}),
        Clean(name="fails at last", workflow=fails_at_last, input="lamp", how=shop),
        Clean(name="at once", workflow=at_once, how=shop),
        Clean(name="in time", workflow=in_time, how=shop | {"signals": {"decision": "yes"}}),
        Clean(name="in time, without it", workflow=in_time, how=shop),
        Clean(name="draws and dates", workflow=draws_and_dates, how=shop),
        Clean(name="sorts its sets", workflow=sorts_its_sets, how=shop),
        Clean(name="has children", workflow=has_children, how=shop),
        Clean(name="begins anew", workflow=begins_anew, input=1, how=shop),
        Clean(name="tidies up", workflow=tidies_up, how=shop),
        Clean(name="transacts", workflow=transacts, how=shop),
    ]
