"""What does a step cost in the pure kernel, and does it grow with the journal?

Each case drives one run through ``Held.advance`` with a warm cursor, as a worker does, over a
straight program of n steps and over one ``All`` of n steps, and reports transitions a second
and microseconds a step: the median of ``REPEATS`` rounds over all lengths in turn. ``relative``
is the cost a step against the shortest journal of the same shape; it must stay within 1.5.
``encode_us`` is what making its store record costs a step besides, and ``replay_ms`` a cold
start over the whole journal.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Sequence
from typing import cast

from benchmarks.report import Row, emit, machine, table
from durable_core.codec.records import entry_to_record
from durable_core.kernel.event import AttemptSucceeded
from durable_core.kernel.ids import UnitKey
from durable_core.kernel.journal import Journal
from durable_core.kernel.limits import Limits
from durable_core.kernel.outcome import Ending, Outcome
from durable_core.kernel.program import ProgramFactory
from durable_core.kernel.recorder import Recorder
from durable_core.kernel.run import RunContext
from durable_core.kernel.step import All, Ask, Call
from durable_core.kernel.transition import Held
from durable_core.kernel.value import NULL, Payload

LENGTHS = (10, 100, 1_000, 10_000)
STEPS_A_CASE = 10_000
REPEATS = 5
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
    def body(run: RunContext, recorder: Recorder) -> Generator[Ask, Outcome, Ending]:
        for index in range(length):
            yield Call(unit=UnitKey.of("step", index), handler=None)
        return Ending(payload=NULL, shape=None, assemble=lambda: NULL)

    return cast(ProgramFactory, body)


def fan_out(length: int) -> ProgramFactory:
    def body(run: RunContext, recorder: Recorder) -> Generator[Ask, Outcome, Ending]:
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


def measure(name: str, program: ProgramFactory, length: int, steps: int) -> Row:
    """One round: enough runs of this length to make ``steps`` steps."""
    repeats = max(1, steps // length)
    begin = time.perf_counter()
    transitions = 0
    for _ in range(repeats):
        made, journal = drive(program)
        transitions += made
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    for entry in journal:
        entry_to_record(entry)
    encoding = time.perf_counter() - begin
    unfinished = Journal(list(journal)[:-1])
    begin = time.perf_counter()
    Held(RUN, program, unfinished).advance([], 2)
    replay = time.perf_counter() - begin
    return {
        "shape": name,
        "steps": length,
        "transitions_per_s": transitions / seconds,
        "us_per_step": seconds / (repeats * length) * 1e6,
        "encode_us": encoding / length * 1e6,
        "replay_ms": replay * 1e3,
    }


def median_of(rounds: Sequence[Row]) -> Row:
    """Figure by figure; what is the same in all stays as it is."""
    return {
        name: statistics.median(one[name] for one in rounds) if isinstance(first, float) else first
        for name, first in rounds[0].items()
    }


def main(
    lengths: Sequence[int] = LENGTHS, steps: int = STEPS_A_CASE, repeats: int = REPEATS
) -> list[Row]:
    rows: list[Row] = []
    for name, shape in (("straight", straight), ("all", fan_out)):
        drive(shape(100))  # warm up
        rounds = [
            [measure(name, shape(length), length, steps) for length in lengths]
            for _ in range(repeats)
        ]
        cases = [median_of(of_a_length) for of_a_length in zip(*rounds, strict=True)]
        for row in cases:
            row["relative"] = row["us_per_step"] / cases[0]["us_per_step"]
            emit("kernel", row)
        rows += cases
    table(f"Pure kernel, cost a step by length of the journal, {machine()}", rows)
    return rows


if __name__ == "__main__":
    main()
