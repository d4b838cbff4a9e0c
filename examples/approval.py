"""A human says yes or no, or nothing in time; nothing is held in memory while the run waits.

Run it: python examples/approval.py
"""

import asyncio
from datetime import timedelta

from attrs import frozen

from durable_core import TIMED_OUT, Engine, WorkflowContext, step, workflow


@frozen
class Expense:
    who: str
    euros: int
    patience: timedelta = timedelta(days=3)


@frozen
class Decision:
    approved: bool
    by: str


@step
async def ask_the_boss(expense: Expense, run_id: str) -> None:
    print(f"mail to the boss: {expense.who} wants {expense.euros} euros, answer for {run_id}")


@step
async def pay(expense: Expense) -> str:
    return f"{expense.euros} euros for {expense.who}"


@workflow
async def expenses(ctx: WorkflowContext, expense: Expense) -> str:
    if expense.euros >= 50:
        await ctx.step(ask_the_boss, expense, ctx.run_id)
        said = await ctx.wait_for_signal("decision", Decision, timeout=expense.patience)
        if said is TIMED_OUT:
            return f"nobody decided about {expense.who} in time"
        if not said.approved:
            return f"{said.by} said no to {expense.who}"
    return await ctx.step(pay, expense)


async def main() -> None:
    async with Engine("sqlite://", [expenses]) as engine, engine.worker():
        small = await engine.start(expenses, Expense("ada", 20))
        large = await engine.start(expenses, Expense("bob", 900))
        slow = await engine.start(expenses, Expense("eve", 70, patience=timedelta(seconds=0.1)))

        while (await large.status()) != "suspended":
            await asyncio.sleep(0.01)
        print(await large.explain())
        # The id makes a second click, or a webhook that comes twice, harmless.
        await large.signal("decision", Decision(approved=False, by="grace"), dedupe_id="click-1")
        await large.signal("decision", Decision(approved=True, by="grace"), dedupe_id="click-1")

        for run in (small, large, slow):
            print(await run.result(timeout=10))


asyncio.run(main())
