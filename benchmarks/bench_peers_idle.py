"""What does a worker cost that has nothing to do, ours and the peers'?

One process is a worker, set up as where one workflow at a time is measured: what the answers there
cost while there is nothing to answer. Processor time is what the system has counted for the
worker's process, and for the server, over some seconds; commits and rollbacks are the server's own
count.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import attrs

from benchmarks.ground_pg import PgGround, processor_us
from benchmarks.peer import ENGINES, Plan, at_once, peer_of, say
from benchmarks.peer_turns import Figure, finished, hear, in_turns, own_database, started
from benchmarks.report import Row

FILE = "bench_peers_idle"
PLAN = Plan(1)
SETTLE_S = 1.0
TRANSACTIONS = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1"
FIGURES = (
    Figure("worker_cpu_ms_per_s", "worker_times"),
    Figure("server_cpu_ms_per_s", "server_times"),
    Figure("transactions_per_s", "times"),
)


@attrs.frozen(slots=True)
class Case:
    """A worker that is left alone for so long."""

    seconds: float
    repeats: int = 2

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return "a worker with nothing to do"


CASES = (Case(10),)


async def work(engine: str, dsn: str) -> None:
    """Say when it works, and do until standard input ends."""
    async with peer_of(engine, dsn, PLAN, at_once, 1).working(lambda: None):
        say("working")
        await asyncio.to_thread(sys.stdin.read)


async def measure(ground: PgGround, engine: str, case: Case) -> Row:
    async with own_database(ground, engine, PLAN) as dsn:
        worker = await started("work", engine, dsn, file=FILE)
        try:
            await hear(worker, "working")
            await asyncio.sleep(SETTLE_S)
            before = await _counts(ground, worker.pid, dsn)
            await asyncio.sleep(case.seconds)
            after = await _counts(ground, worker.pid, dsn)
        finally:
            await finished(worker)
    figures = zip(FIGURES, before, after, strict=True)
    return {figure.name: (end - begin) / case.seconds for figure, begin, end in figures}


async def _counts(ground: PgGround, pid: int, dsn: str) -> tuple[float, float, float]:
    """Ms of the worker and of the server, and transactions."""
    counts = await ground.counts()
    name = dsn.rpartition("/")[2].partition("?")[0]
    transactions = await ground.conn.fetchval(TRANSACTIONS, name)
    return processor_us(pid) / 1e3, counts["server_cpu_us"] / 1e3, float(transactions)


def main(cases: Sequence[Case] = CASES, engines: Sequence[str] = tuple(ENGINES)) -> list[Row]:
    return in_turns("peers_idle", "Peers, what a worker costs", cases, engines, FIGURES, measure)


if __name__ == "__main__":
    if words := sys.argv[1:]:
        asyncio.run(work(words[1], words[2]))
    else:
        main()
