"""How fast are the peers and we when handlers take 0 to 20 random milliseconds, 1,000 workflows at
once?

Workflows of five steps are started at one moment, and all may be under way at once: our worker and
Absurd's are told so, DBOS has no bound. How long a handler sleeps depends on its workflow and step
alone, so it is the same for all engines. The time is from before the first start to the last
result.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from typing import Any

import attrs

from benchmarks import peer
from benchmarks.ground_pg import PgGround
from benchmarks.peer import ENGINES, Plan, check, peer_of, run_one, say
from benchmarks.peer_turns import Figure, ask, in_turns, own_database
from benchmarks.report import Row

LONGEST_S = 0.020
FIGURES = (Figure("runs_per_s", "times", more_is_better=True),)


@attrs.frozen(slots=True)
class Case:
    """So many workflows at once."""

    steps: int
    at_once: int
    repeats: int = 1

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"{self.steps} steps, {self.at_once:,} at once"


CASES = (Case(5, 100, repeats=2), Case(5, 1_000))


async def handle(value: Any, index: int) -> dict[str, Any]:
    chance = random.Random(value["n"] * 1_000 + index)
    await asyncio.sleep(chance.uniform(0, LONGEST_S))
    return await peer.at_once(value, index)


async def inside(engine: str, dsn: str, steps: int, at_once: int) -> Row:
    """In a process of the engine's own."""
    async with peer_of(engine, dsn, Plan(steps), handle, at_once).live() as client:
        await run_one(client, {"n": at_once}, steps)
        begin = time.perf_counter()
        runs = await client.start([{"n": number} for number in range(at_once)])
        results = await asyncio.gather(*(client.result(run) for run in runs))
        took = time.perf_counter() - begin
    for result in results:
        check(result, steps)
    return {"runs_per_s": at_once / took}


async def measure(ground: PgGround, engine: str, case: Case) -> Row:
    async with own_database(ground, engine, Plan(case.steps)) as dsn:
        row: Row = await ask("bench_peers_jitter", engine, dsn, case.steps, case.at_once)
        return row


def main(cases: Sequence[Case] = CASES, engines: Sequence[str] = tuple(ENGINES)) -> list[Row]:
    title = "Peers, workflows a second when handlers sleep 0 to 20 ms"
    return in_turns("peers_jitter", title, cases, engines, FIGURES, measure)


if __name__ == "__main__":
    if words := sys.argv[1:]:
        say(json.dumps(asyncio.run(inside(words[0], words[1], int(words[2]), int(words[3])))))
    else:
        main()
