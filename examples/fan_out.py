"""Fan-out: one step for each item of a list, some at a time; what fails does not stop the rest.

Run it: python examples/fan_out.py
"""

import asyncio

from durable_core import (
    Engine,
    Failure,
    Retry,
    TerminalError,
    WorkflowContext,
    current_step,
    step,
    workflow,
)

PAGES = {"/": 3, "/shop": 7, "/about": 1}


@step(retry=Retry(max_attempts=3, initial=0.01), timeout=5)
async def count_links(page: str) -> int:
    if page not in PAGES:
        raise TerminalError(f"there is no page {page}")  # not worth another attempt
    if page == "/shop" and current_step().attempt == 1:
        raise ConnectionError("the first attempt always fails here")
    return PAGES[page]


@workflow
async def crawl(ctx: WorkflowContext, pages: list[str]) -> dict[str, int]:
    counted = await ctx.settle(
        *(ctx.step(count_links, page) for page in pages),
        max_concurrency=2,
    )
    found: dict[str, int] = {}
    for page, count in zip(pages, counted, strict=True):
        if isinstance(count, Failure):
            ctx.log.warning("%s was left out: %s", page, count.message)
        else:
            found[page] = count
    return found


async def main() -> None:
    async with Engine("sqlite://", [crawl]) as engine, engine.worker():
        run = await engine.start(crawl, ["/", "/shop", "/lost", "/about"])
        print(await run.result(timeout=10))
        for entry in await run.journal():
            print(entry.seq, entry.kind, entry.unit)


asyncio.run(main())
