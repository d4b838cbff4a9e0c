"""What does a body of code cost beside the same steps declared, and how long is its replay?

Both are driven by the pure kernel with a warm cursor, one transition a step, as a worker does
while it holds a run. ``hidden`` (hiding the event loop) is the engine's, as it is installed. The
replay is that of a run which another worker takes over: from the records of its whole journal to
the frontier. The two styles take turns; ``of_declared`` is the ratio within a turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.report import Row, emit, machine, table
from durable_core import StepContext, Workflow, WorkflowContext, step, workflow
from durable_core.codec.payload import JsonCodec
from durable_core.codec.records import entry_from_record, entry_to_record
from durable_core.engine.worker.body import hidden
from durable_core.kernel.event import AttemptSucceeded
from durable_core.kernel.journal import Journal
from durable_core.kernel.limits import Limits
from durable_core.kernel.program import ProgramFactory
from durable_core.kernel.run import RunContext
from durable_core.kernel.transition import Held
from durable_core.kernel.value import Payload
from durable_core.workflow import Lowering, Registry

LENGTHS = (10, 100, 1_000, 10_000)
STEPS_A_CASE = 10_000
REPEATS = 5
CODEC = JsonCodec()
RESULT = Payload(b'{"ok":true,"n":1}')


@step
async def work(n: int) -> dict[str, Any]:
    return {"ok": True, "n": n}


@workflow
async def body(ctx: WorkflowContext, steps: int) -> int:
    for index in range(steps):
        await ctx.step(work, index)
    return steps


@workflow
async def wide_body(ctx: WorkflowContext, steps: int) -> int:
    return len(await ctx.all(*(ctx.step(work, index) for index in range(steps))))


async def handler(ctx: StepContext[Any, int]) -> dict[str, Any]:
    return {"ok": True, "n": 1}


def declared(steps: int) -> Workflow[Any, Any]:
    found: Workflow[Any, Any] = Workflow("declared", input=int)
    for index in range(steps):
        found = found.step(f"s{index}", handler)
    return found


def mapped(steps: int) -> Workflow[Any, Any]:
    return Workflow("mapped", input=int).map("m", lambda ctx: range(ctx.input), handler)


def lowered(definition: Workflow[Any, Any]) -> ProgramFactory:
    registry = Registry([definition])
    return definition.program(Lowering(codec=CODEC, registry=registry, hidden=hidden))


def run_of(steps: int) -> RunContext:
    return RunContext(
        run_id="bench",
        workflow="bench",
        version="1",
        fingerprint="f",
        input=CODEC.encode(steps),
        limits=Limits(units=100_000),
    )


def drive(run: RunContext, program: ProgramFactory) -> Journal:
    """One run to its end; its journal."""
    held = Held(run, program, Journal())
    transition = held.advance([], 0)
    waiting = list(transition.attempts)
    while waiting:
        transition = held.advance([AttemptSucceeded(waiting.pop().key, RESULT)], 1)
        waiting += transition.attempts
    assert transition.ended
    return held.journal


def measure(program: ProgramFactory, steps: int, total: int) -> tuple[float, float]:
    """Microseconds a step, and milliseconds of a replay."""
    run, repeats = run_of(steps), max(1, total // steps)
    begin = time.perf_counter()
    for _ in range(repeats):
        journal = drive(run, program)
    us_per_step = (time.perf_counter() - begin) / (repeats * steps) * 1e6
    records = [entry_to_record(entry) for entry in list(journal)[:-1]]
    begin = time.perf_counter()
    entries = Journal([entry_from_record(record) for record in records])
    Held(run, program, entries).advance([], 2)
    return us_per_step, (time.perf_counter() - begin) * 1e3


def main(
    lengths: Sequence[int] = LENGTHS, total: int = STEPS_A_CASE, repeats: int = REPEATS
) -> list[Row]:
    rows: list[Row] = []
    for shape, coded, plain in (("straight", body, declared), ("all at once", wide_body, mapped)):
        for steps in lengths:
            programs = lowered(coded), lowered(plain(steps))
            turns = [[measure(one, steps, total) for one in programs] for _ in range(repeats)]
            rows.append(
                {
                    "shape": shape,
                    "steps": steps,
                    "us_per_step": statistics.median(of_code[0] for of_code, _ in turns),
                    "declared_us": statistics.median(other[0] for _, other in turns),
                    "of_declared": statistics.median(one[0] / two[0] for one, two in turns),
                    "replay_ms": statistics.median(of_code[1] for of_code, _ in turns),
                    "declared_replay_ms": statistics.median(other[1] for _, other in turns),
                }
            )
            emit("bodies", rows[-1])
    table(f"Bodies of code beside declared workflows, {machine()}", rows)
    return rows


if __name__ == "__main__":
    main()
