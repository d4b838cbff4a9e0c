"""How much memory does a workflow take in its worker, ours and the peers', in flight, asleep for an
hour, and waiting for a signal?

In flight: its first handler is at work. Asleep and waiting: it has written that down, and the
engine had half a second to put away what it does not need. A process is first warmed up. Then
workflows are started twice: the first time, the process's resident memory is compared with what it
was before (``rss``: what the system sees, with whatever room starting them took and did not give
back); the second time what Python has allocated (``python``: tracemalloc, after a full collection),
in flight with a quarter of them. Both are divided by the number of workflows; the client's handles
are counted. Asleep and waiting they are most of what is there.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks import peer
from benchmarks.ground_pg import PgGround
from benchmarks.peer import ENGINES, HOUR_S, NONE, SIGNAL, SLEEP, Client, Plan, peer_of, say
from benchmarks.peer_calls import all_waiting, check_all
from benchmarks.peer_turns import Figure, ask, in_turns, own_database
from benchmarks.report import Row
from benchmarks.whole_engine import now

KINDS = {"in flight": NONE, "asleep": SLEEP, "waiting": SIGNAL}
WARM = 50
REST_S = 0.5
OF_TRACED = 4
"""Python is slow when it counts what it allocates: so many times fewer will do in flight."""
STATM = Path("/proc/self/statm")
"""Where a process reads how much memory it has; Linux has it."""
KNOWN = STATM.exists()
FIGURES = (Figure("rss_bytes", "rss_times"), Figure("python_bytes", "times"))


@attrs.frozen(slots=True)
class Case:
    """So many workflows of one of ``KINDS``."""

    kind: str
    runs: int
    repeats: int = 1

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"{self.runs:,} {self.kind}"


CASES = tuple(Case(kind, 1_000) for kind in KINDS)


def resident() -> float:
    """Of this process, in bytes."""
    gc.collect()
    if not KNOWN:
        return 0
    return float(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def allocated() -> float:
    """By Python."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


class Inside:
    """In a process of the engine's own. Numbers of workflows go on from batch to batch."""

    def __init__(self, engine: str, dsn: str, plan: Plan) -> None:
        self._engine = engine
        self._dsn = dsn
        self._plan = plan
        self._here = asyncio.Semaphore(0)
        self._go = asyncio.Event()
        self._numbers = 0
        self._waiting = 0

    async def handle(self, value: Any, index: int) -> dict[str, Any]:
        self._here.release()
        await self._go.wait()
        return await peer.at_once(value, index)

    async def _there(self, client: Client, count: int) -> Sequence[Any]:
        """So many more, when they are where they are meant to be."""
        numbers = range(self._numbers, self._numbers + count)
        self._numbers += count
        due = now() + HOUR_S
        runs = await client.start([{"n": number, "due": due} for number in numbers])
        if self._plan.wait == NONE:
            for _ in runs:
                await self._here.acquire()
        else:
            self._waiting += count
            await all_waiting(self._dsn, self._engine, self._waiting)
        await asyncio.sleep(REST_S)
        return runs

    async def grown(self, client: Client, count: int, measured: Callable[[], float]) -> float:
        """Bytes a workflow. Those in flight come to their end."""
        self._go.clear()
        base = measured()
        runs = await self._there(client, count)
        bytes_a_run = (measured() - base) / count
        self._go.set()
        if self._plan.wait == NONE:
            await check_all(client, runs)
        return bytes_a_run

    async def measure(self, runs: int) -> Row:
        engine = peer_of(self._engine, self._dsn, self._plan, self.handle, max(runs, WARM))
        async with engine.live() as client:
            await self.grown(client, WARM, resident)
            rss = await self.grown(client, runs, resident)
            row: Row = {"rss_bytes": rss if KNOWN else None}
            tracemalloc.start()
            await self.grown(client, WARM, allocated)
            traced = runs // OF_TRACED if self._plan.wait == NONE else runs
            row["python_bytes"] = await self.grown(client, traced, allocated)
            tracemalloc.stop()
            say(json.dumps(row))
            # What sleeps for an hour is not waited for, and goes with its database.
            os._exit(0)


async def measure(ground: PgGround, engine: str, case: Case) -> Row:
    plan = Plan(1, KINDS[case.kind])
    async with own_database(ground, engine, plan) as dsn:
        row: Row = await ask("bench_peers_memory", engine, dsn, plan, case.runs)
        return row


def main(cases: Sequence[Case] = CASES, engines: Sequence[str] = tuple(ENGINES)) -> list[Row]:
    title = "Peers, memory of a workflow in its worker's process"
    return in_turns("peers_memory", title, cases, engines, FIGURES, measure)


if __name__ == "__main__":
    if words := sys.argv[1:]:
        one = Inside(words[0], words[1], Plan.read(words[2]))
        asyncio.run(one.measure(int(words[3])))
    else:
        main()
