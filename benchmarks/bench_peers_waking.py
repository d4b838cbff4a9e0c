"""How long until a workflow that another process enqueues calls its first handler here, ours and
the peers'?

One process is a worker with nothing to do; another has no worker, and enqueues: one workflow, or
100 at once, each by a call of its own, and rests at random until the next, when all have ended. The
time is from before each call to the call of the handler, by the clock both have. The first round,
in which the sender connects, is not counted.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from typing import Any

import asyncpg
import attrs

from benchmarks import peer
from benchmarks.ground_pg import PgGround
from benchmarks.peer import ENDED, ENGINES, Plan, peer_of, say
from benchmarks.peer_turns import (
    LATENCIES,
    call,
    finished,
    hear,
    in_turns,
    latencies,
    own_database,
    started,
)
from benchmarks.report import Row
from benchmarks.whole_engine import now

FILE = "bench_peers_waking"
PLAN = Plan(1)
REST_S = (0.06, 0.26)
LOOK_S = 0.02


@attrs.frozen(slots=True)
class Case:
    """So many enqueued at once, ``rounds`` times."""

    at_once: int
    rounds: int
    repeats: int = 2

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"enqueued, {self.at_once:,} at once"


CASES = (Case(1, 15), Case(100, 4))


async def work(engine: str, dsn: str, at_once: int, expected: int) -> None:
    """Say when it may be sent to, and how long each took, in the order of calls."""
    taken: list[float] = []
    all_came = asyncio.Event()

    async def handle(value: Any, index: int) -> dict[str, Any]:
        taken.append(now() - value["at"])
        if len(taken) == expected:
            all_came.set()
        return await peer.at_once(value, index)

    async with peer_of(engine, dsn, PLAN, handle, at_once).working(lambda: None):
        say("ready")
        await all_came.wait()
        await asyncio.to_thread(sys.stdin.read)
    assert len(taken) == expected, "a handler was called twice"
    say(json.dumps(taken))


async def send(engine: str, dsn: str, at_once: int, rounds: int) -> None:
    """Enqueue, and rest; return when all have ended."""
    conn: Any = await asyncpg.connect(dsn)
    async with peer_of(engine, dsn, PLAN, concurrency=at_once).sending() as send_one:
        for number in range(1, rounds + 1):
            await asyncio.sleep(random.uniform(*REST_S))
            calls = (send_one({"n": each, "at": now()}) for each in range(at_once))
            await asyncio.gather(*(_awaited(call) for call in calls))
            while True:
                if await conn.fetchval(ENDED[engine]) >= number * at_once:
                    break
                await asyncio.sleep(LOOK_S)
    await conn.close()


async def _awaited(call: Any) -> None:
    await call


async def measure(ground: PgGround, engine: str, case: Case) -> Row:
    rounds = case.rounds + 1
    async with own_database(ground, engine, PLAN) as dsn:
        total = rounds * case.at_once
        worker = await started("work", engine, dsn, case.at_once, total, file=FILE)
        try:
            await hear(worker, "ready")
            await call("send", engine, dsn, case.at_once, rounds, file=FILE)
        except BaseException:
            worker.kill()
            raise
        finally:
            printed = await finished(worker)
        await call(engine, "check", dsn, PLAN, total)
    return latencies(json.loads(printed)[case.at_once :])


def main(cases: Sequence[Case] = CASES, engines: Sequence[str] = tuple(ENGINES)) -> list[Row]:
    title = "Peers, from enqueueing in one process to the handler in another"
    return in_turns("peers_waking", title, cases, engines, LATENCIES, measure)


if __name__ == "__main__":
    if words := sys.argv[1:]:
        role = work if words[0] == "work" else send
        asyncio.run(role(words[1], words[2], int(words[3]), int(words[4])))
    else:
        main()
