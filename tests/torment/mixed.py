"""The workflows that are tormented, and what each of their runs must come to.

Handlers tell the ledger that they begin and how they end, and give that notice's number (the
nonce) as a part of their result or error, so that the journal and the ledger can be laid side
by side attempt for attempt. What a handler computes depends on the run's number alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from contextvars import ContextVar
from typing import Any

from tests.torment.ledger import LedgerWriter

from durable_core import Branch, Retry, StepContext, TerminalError, Undo, Workflow

Ctx = StepContext[LedgerWriter, Any]

BEGAN_AT: ContextVar[float] = ContextVar("BEGAN_AT")
"""When the engine said that it starts this attempt, before it looked a last time whether it may:
a process that is stopped right behind that look has begun before."""

RETRY = Retry(max_attempts=4, initial=0.01, max_delay=0.05)
STEPS = 6


def fraction(*parts: object) -> float:
    """A number from 0 to 1 that depends on the parts and nothing else."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32


async def report(ctx: Ctx, value: Any, *, undo: bool = False) -> dict[str, Any]:
    """The life of every handler: begin, work a little, perhaps fail, end."""
    unit = f"{ctx.unit}~" if undo else ctx.unit
    nonce = os.urandom(6).hex()
    facts = {
        "run": ctx.run_id,
        "unit": unit,
        "attempt": ctx.attempt,
        "key": ctx.idempotency_key,
        "pid": os.getpid(),
        "nonce": nonce,
    }
    await ctx.deps.note(op="begin", at=BEGAN_AT.get(), **facts)
    await asyncio.sleep(0.002 + 0.03 * fraction(nonce))
    flaky = ctx.attempt == 1 and fraction(ctx.run_id, unit) < 0.1
    await ctx.deps.note(op="fail" if flaky else "end", **facts)
    if flaky:
        raise ConnectionError(nonce)
    return {"value": value, "nonce": nonce}


async def undo(ctx: Ctx) -> None:
    """Undo any unit; its own result must be at hand."""
    assert ctx.value["nonce"]
    await report(ctx, None, undo=True)


async def plain(ctx: Ctx) -> dict[str, Any]:
    return await report(ctx, ctx.input["n"] + len(ctx.unit))


async def item(ctx: Ctx) -> dict[str, Any]:
    return await report(ctx, ctx.input["n"] * ctx.item)


async def iteration(ctx: Ctx, value: int) -> dict[str, Any]:
    return await report(ctx, value + ctx.input["n"])


async def last(ctx: Ctx) -> dict[str, Any]:
    done = await report(ctx, ctx.input["n"])
    if fails(ctx.input["n"]):
        raise TerminalError(done["nonce"])
    return done


UNDO = Undo(undo, retry=Retry(max_attempts=10, initial=0.01, max_delay=0.05))
BRANCH = Branch(plain, compensate=UNDO, retry=RETRY)

LEAF: Workflow[Any, Any] = (
    Workflow("leaf")
    .step("inner", plain, compensate=UNDO, retry=RETRY)
    .returns(lambda c: {"value": c.results["inner"]["value"]})
)


def result(ctx: Ctx) -> dict[str, Any]:
    """What a run returns: all the values, without the nonces."""
    found = ctx.results
    return {
        "steps": [found[f"s{n}"]["value"] for n in range(STEPS)],
        "check": {entry: one["value"] for entry, one in found["check"].items()},
        "pick": [one["value"] for one in found["pick"]],
        "way": found["way"]["value"],
        "track": found["track"]["value"],
        "go": found["go"],
        "invoice": found["invoice"]["value"],
        "last": found["last"]["value"],
    }


def mixed() -> Workflow[Any, Any]:
    """Every kind of step."""
    workflow: Workflow[Any, Any] = Workflow("mixed")
    for n in range(STEPS):
        workflow = workflow.step(f"s{n}", plain, compensate=UNDO, retry=RETRY)
    return (
        workflow.parallel("check", {"price": BRANCH, "fraud": BRANCH})
        .map(
            "pick",
            lambda c: list(range(1, c.input["n"] % 4 + 2)),
            item,
            compensate=UNDO,
            retry=RETRY,
        )
        .route(
            "way", lambda c: "odd" if c.input["n"] % 2 else "even", {"odd": BRANCH, "even": BRANCH}
        )
        .loop(
            "track",
            iteration,
            initial=0,
            until=lambda r, n: n == 3,
            feedback=lambda r: r["value"],
            compensate=UNDO,
            retry=RETRY,
        )
        .sleep("nap", 0.05)
        .wait_for_signal("go")
        .child("invoice", LEAF, input=lambda c: {"n": c.input["n"]})
        .step("last", last, retry=RETRY)
        .returns(result)
    )


MIXED = mixed()


def fails(n: int) -> bool:
    """Whether run number ``n`` fails in its last step and is rolled back."""
    return n % 5 == 0


def expected_result(n: int) -> dict[str, Any]:
    """The closed form of what run number ``n`` returns."""
    way = "odd" if n % 2 else "even"
    return {
        "steps": [n + 2] * STEPS,
        "check": {entry: n + len(f"check/{entry}") for entry in ("price", "fraud")},
        "pick": [n * i for i in range(1, n % 4 + 2)],
        "way": n + len(f"way/{way}"),
        "track": 3 * n,
        "go": {"for": n},
        "invoice": n + len("inner"),
        "last": n,
    }


def stages(n: int) -> list[list[str]]:
    """The units of run number ``n`` that handlers complete: one after another, some together."""
    return [
        *([f"s{i}"] for i in range(STEPS)),
        ["check/price", "check/fraud"],
        [f"pick/{i}" for i in range(n % 4 + 1)],
        [f"way/{'odd' if n % 2 else 'even'}"],
        *([f"track/{i}"] for i in range(3)),
        ["last"],
    ]


def expected_units(n: int) -> set[str]:
    """Those that are completed also where the last one fails."""
    return {unit for stage in stages(n)[:-1] for unit in stage}


# --- for the shorter tests ------------------------------------------------------------------------


async def blocks(ctx: Ctx) -> str:
    """Holds up the whole event loop, as careless handlers do."""
    facts = {"run": ctx.run_id, "unit": ctx.unit, "pid": os.getpid()}
    await ctx.deps.note(op="begin", **facts)
    time.sleep(ctx.input["seconds"])  # noqa: ASYNC251  # blocking is the point
    await ctx.deps.note(op="end", **facts)
    return "done"


async def slow_at_first(ctx: Ctx) -> str:
    """Never ends the first time, and at once the second time."""
    facts = {"run": ctx.run_id, "unit": ctx.unit, "pid": os.getpid()}
    if await ctx.deps.note(op="begin", **facts) == 1:
        await asyncio.Event().wait()
    await ctx.deps.note(op="end", **facts)
    return "done"


BLOCKING: Workflow[Any, Any] = Workflow("blocking").step("block", blocks)
SLOW: Workflow[Any, Any] = Workflow("slow").step("slow", slow_at_first)

WORKFLOWS = [MIXED, LEAF, BLOCKING, SLOW]
