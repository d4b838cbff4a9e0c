"""How late does a sleep end, ours and the peers', with 1, 100 and 1,000 workflows asleep?

A workflow sleeps until a given moment, and then calls a step: it is late by the time from that
moment to the call of the step's handler. Sleeps end at random moments of one second, the same for
all engines, when all have long been written down. Clients and worker are in one process.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Sequence

import attrs

from benchmarks.ground_pg import PgGround
from benchmarks.peer import ENGINES, SLEEP, Plan, peer_of, say
from benchmarks.peer_calls import Calls, all_waiting, check_all
from benchmarks.peer_turns import LATENCIES, ask, in_turns, latencies, own_database
from benchmarks.report import Row
from benchmarks.whole_engine import now

PLAN = Plan(1, SLEEP)
LEAST_LEAD_S = 0.3
STARTED_PER_S = 100
"""The slowest engine here puts more than so many workflows to sleep in a second."""


@attrs.frozen(slots=True)
class Case:
    """So many asleep at once, ``rounds`` times; the window is shorter for one alone."""

    at_once: int
    rounds: int
    window_s: float = 1.0
    repeats: int = 1

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"sleep, {self.at_once:,} at once"


CASES = (Case(1, 12, 0.05, repeats=2), Case(100, 1, repeats=2), Case(1_000, 1))


async def inside(engine: str, dsn: str, at_once: int, rounds: int, window_s: float) -> list[float]:
    """In a process of the engine's own: how late each sleep was, in seconds."""
    calls, late = Calls(), []
    chance = random.Random(at_once)
    async with peer_of(engine, dsn, PLAN, calls.handle, at_once).live() as client:
        for first_number in range(0, rounds * at_once, at_once):
            first = now() + LEAST_LEAD_S + at_once / STARTED_PER_S
            numbers = range(first_number, first_number + at_once)
            asked = {number: first + chance.uniform(0, window_s) for number in numbers}
            runs = await client.start([{"n": number, "due": asked[number]} for number in numbers])
            await all_waiting(dsn, engine, at_once)
            assert now() < first, "too slow to put all to sleep before the first is due"
            await calls.wait(at_once)
            await check_all(client, runs)
            for number, run in zip(numbers, runs, strict=True):
                late.append(calls.at[number] - await client.due(run, asked[number]))
    return late


async def measure(ground: PgGround, engine: str, case: Case) -> Row:
    async with own_database(ground, engine, PLAN) as dsn:
        words = (case.at_once, case.rounds, case.window_s)
        return latencies(await ask("bench_peers_sleep", engine, dsn, *words))


def main(cases: Sequence[Case] = CASES, engines: Sequence[str] = tuple(ENGINES)) -> list[Row]:
    title = "Peers, from a due sleep to the next handler"
    return in_turns("peers_sleep", title, cases, engines, LATENCIES, measure)


if __name__ == "__main__":
    if words := sys.argv[1:]:
        late = inside(words[0], words[1], int(words[2]), int(words[3]), float(words[4]))
        say(json.dumps(asyncio.run(late)))
    else:
        main()
