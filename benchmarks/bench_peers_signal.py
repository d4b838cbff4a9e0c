"""How soon is a signal heard, ours and the peers', with 1, 100 and 1,000 workflows waiting for one?

A workflow waits for a signal (a message of DBOS, an event of Absurd) and then calls a step. All are
sent at one moment, each by a call of its own, when all workflows have written down that they
wait; a signal takes from before the first call to the call of its workflow's handler. Clients and
worker are in one process.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence

import attrs

from benchmarks.ground_pg import PgGround
from benchmarks.peer import ENGINES, SIGNAL, Plan, peer_of, say
from benchmarks.peer_calls import Calls, all_waiting, check_all
from benchmarks.peer_turns import LATENCIES, ask, in_turns, latencies, own_database
from benchmarks.report import Row
from benchmarks.whole_engine import now

PLAN = Plan(1, SIGNAL)
REST_S = 0.2
"""After which an engine has nothing to do."""


@attrs.frozen(slots=True)
class Case:
    """So many waiting at once, ``rounds`` times."""

    at_once: int
    rounds: int
    repeats: int = 2

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"signal, {self.at_once:,} at once"


CASES = (Case(1, 15), Case(100, 2), Case(1_000, 1, repeats=1))


async def inside(engine: str, dsn: str, at_once: int, rounds: int) -> list[float]:
    """In a process of the engine's own: how long each signal took, in seconds."""
    calls, taken = Calls(), []
    async with peer_of(engine, dsn, PLAN, calls.handle, at_once).live() as client:
        for first_number in range(0, rounds * at_once, at_once):
            numbers = range(first_number, first_number + at_once)
            runs = await client.start([{"n": number} for number in numbers])
            await all_waiting(dsn, engine, at_once)
            await asyncio.sleep(REST_S)
            sent = now()
            await client.signal(runs)
            await calls.wait(at_once)
            await check_all(client, runs)
            taken += [calls.at[number] - sent for number in numbers]
    return taken


async def measure(ground: PgGround, engine: str, case: Case) -> Row:
    async with own_database(ground, engine, PLAN) as dsn:
        words = (case.at_once, case.rounds)
        return latencies(await ask("bench_peers_signal", engine, dsn, *words))


def main(cases: Sequence[Case] = CASES, engines: Sequence[str] = tuple(ENGINES)) -> list[Row]:
    title = "Peers, from a signal to the next handler"
    return in_turns("peers_signal", title, cases, engines, LATENCIES, measure)


if __name__ == "__main__":
    if words := sys.argv[1:]:
        say(json.dumps(asyncio.run(inside(words[0], words[1], int(words[2]), int(words[3])))))
    else:
        main()
