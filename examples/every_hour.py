"""A loop without an end, like cron: each round begins the run anew, so its journal stays short.

Run it: python examples/every_hour.py
"""

import asyncio
from datetime import datetime, timedelta

from attrs import evolve, frozen

from durable_core import TIMED_OUT, Engine, WorkflowContext, step, workflow

HOUR = timedelta(seconds=0.1)  # so that you need not wait


@frozen
class Round:
    number: int = 1
    due: datetime | None = None
    reports: tuple[str, ...] = ()


@step
async def report(number: int) -> str:
    print("round", number)
    return f"report {number}"


@workflow
async def hourly(ctx: WorkflowContext, this: Round) -> tuple[str, ...]:
    due = this.due or ctx.now()
    await ctx.sleep_until(due)
    reports = (*this.reports[-9:], await ctx.step(report, this.number))
    # A signal that came meanwhile, in this round or in an earlier one, ends the loop.
    if await ctx.wait_for_signal("stop", timeout=0) is not TIMED_OUT:
        return reports
    # From when it was due, not from now: so rounds do not drift.
    ctx.continue_as_new(
        evolve(this, number=this.number + 1, due=due + HOUR, reports=reports),
    )


async def main() -> None:
    async with Engine("sqlite://", [hourly]) as engine, engine.worker():
        # One id: a second start, by another process perhaps, joins the loop that is there.
        run = await engine.start(hourly, Round(), id="hourly-report")
        await asyncio.sleep(0.5)
        await run.signal("stop")
        print("made:", ", ".join(await run.result(timeout=10)))
        print("entries in the journal of the last round:", len(await run.journal()))


asyncio.run(main())
