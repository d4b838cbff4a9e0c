"""What does a step cost in the pure kernel, and does it grow with the journal?

Each case drives one run through ``Held.advance`` with a warm cursor, as a worker does, over a
straight program of n steps and over one ``All`` of n steps, and reports transitions a second
and microseconds a step. ``relative`` is the cost a step against the shortest journal of the
same shape; it must stay within 1.5. ``replay_ms`` is a cold start over the whole journal.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import cast

from benchmarks.report import Row, emit, table
from durable_core.kernel.event import AttemptSucceeded
from durable_core.kernel.ids import UnitKey
from durable_core.kernel.journal import Journal
from durable_core.kernel.limits import Limits
from durable_core.kernel.outcome import Ending, Outcome
from durable_core.kernel.program import ProgramFactory
from durable_core.kernel.run import RunContext
from durable_core.kernel.step import All, Ask, Call
from durable_core.kernel.transition import Held
from durable_core.kernel.value import NULL, Payload

LENGTHS = (10, 100, 1_000, 10_000)
STEPS_A_CASE = 20_000
RESULT = Payload(b'{"ok":true,"n":1}')
RUN = RunContext(
    run_id="bench",
    workflow="bench",
    version="1",
    fingerprint="f",
    input=NULL,
    limits=Limits(units=100_000),
)


def straight(length: int) -> ProgramFactory:
    def body(run: RunContext) -> Generator[Ask, Outcome, Ending]:
        for index in range(length):
            yield Call(unit=UnitKey.of("step", index), handler=None)
        return Ending(payload=NULL, shape=None, assemble=lambda: NULL)

    return cast(ProgramFactory, body)


def fan_out(length: int) -> ProgramFactory:
    def body(run: RunContext) -> Generator[Ask, Outcome, Ending]:
        yield All(steps=tuple(Call(unit=UnitKey.of("all", i), handler=None) for i in range(length)))
        return Ending(payload=NULL, shape=None, assemble=lambda: NULL)

    return cast(ProgramFactory, body)


def drive(program: ProgramFactory) -> tuple[int, Journal]:
    """One run to its end; transitions made, and its journal."""
    held = Held(RUN, program, Journal())
    transition = held.advance([], 0)
    waiting = list(transition.attempts)
    transitions = 1
    while waiting:
        transition = held.advance([AttemptSucceeded(waiting.pop().key, RESULT)], 1)
        waiting += transition.attempts
        transitions += 1
    assert transition.ended
    return transitions, held.journal


def measure(name: str, program: ProgramFactory, length: int) -> Row:
    repeats = max(1, STEPS_A_CASE // length)
    begin = time.perf_counter()
    transitions = 0
    for _ in range(repeats):
        made, journal = drive(program)
        transitions += made
    seconds = time.perf_counter() - begin
    unfinished = Journal(list(journal)[:-1])
    begin = time.perf_counter()
    Held(RUN, program, unfinished).advance([], 2)
    replay = time.perf_counter() - begin
    return {
        "shape": name,
        "steps": length,
        "transitions_per_s": round(transitions / seconds),
        "us_per_step": seconds / (repeats * length) * 1e6,
        "replay_ms": replay * 1e3,
    }


def main() -> None:
    rows: list[Row] = []
    for name, shape in (("straight", straight), ("all", fan_out)):
        drive(shape(100))  # warm up
        first: float | None = None
        for length in LENGTHS:
            row = measure(name, shape(length), length)
            first = first or row["us_per_step"]
            row["relative"] = row["us_per_step"] / first
            rows.append(row)
            emit("kernel", row)
    table("Pure kernel: cost a step, by length of the journal", rows)


if __name__ == "__main__":
    main()
