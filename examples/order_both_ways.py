"""One order, written as a declared workflow and as async code; both run in one engine.

Run it: python examples/order_both_ways.py
"""

import asyncio
from datetime import timedelta

from attrs import frozen

from durable_core import (
    TIMED_OUT,
    Engine,
    RunFailed,
    StepContext,
    TerminalError,
    Workflow,
    WorkflowContext,
    current_step,
    step,
    workflow,
)


@frozen
class Order:
    item: str
    cents: int


SHELF: dict[str, str] = {}
"""The world outside: what is held, by the key that made it so."""


# --- declared: handlers take a context, and the builder says what comes when -----------------


async def hold_item(ctx: StepContext[None, Order]) -> str:
    SHELF[ctx.idempotency_key] = ctx.input.item
    return ctx.idempotency_key


async def give_back(ctx: StepContext) -> None:
    SHELF.pop(ctx.value, None)  # both styles undo by it


async def charge_card(ctx: StepContext[None, Order]) -> str:
    return charged(ctx.input)


declared = (
    Workflow("declared order", input=Order)
    .step("hold", hold_item, compensate=give_back)
    .step("charge", charge_card)
    .wait_for_signal("picked up", timeout=timedelta(days=2))
    .returns(lambda c: f"{c.results['charge']}, picked up by {c.results['picked up']}")
)


# --- as code: steps take arguments, and the body says what comes when ------------------------


@step(compensate=give_back)
async def hold(item: str) -> str:
    key = current_step().idempotency_key
    SHELF[key] = item
    return key


@step
async def charge(order: Order) -> str:
    return charged(order)


@workflow(name="coded order")
async def coded(ctx: WorkflowContext, order: Order) -> str:
    await ctx.step(hold, order.item)
    receipt = await ctx.step(charge, order)
    who = await ctx.wait_for_signal("picked up", str, timeout=timedelta(days=2))
    if who is TIMED_OUT:
        raise TerminalError("nobody came for it")
    return f"{receipt}, picked up by {who}"


def charged(order: Order) -> str:
    if order.cents > 100_000:
        raise TerminalError("the card was declined")
    return f"{order.item} for {order.cents / 100:.2f}"


async def main() -> None:
    async with Engine("sqlite://", [declared, coded]) as engine, engine.worker():
        for order in (declared, coded):
            run = await engine.start(order, Order("lamp", 12_000))
            await run.signal("picked up", "ada")  # it may come before anybody waits for it
            print(f"{order.name}: {await run.result(timeout=10)}")

            run = await engine.start(order, Order("piano", 900_000))
            try:
                await run.result(timeout=10)
            except RunFailed as error:
                print(f"{order.name}: {error.failure.message}; undone: {error.compensated}")
    print("still held:", sorted(SHELF.values()))


asyncio.run(main())
