"""How fast are the peers, DBOS and Absurd, at the same work on the same server in the same run?

``peer`` says what each of them does. Each measurement has a new database and processes of its
own; the engines take turns, and ``times_dbos`` and ``times_absurd`` are medians of the ratios
within each turn. A peer that is not installed is left out, and that is said.

Queued: workflows are enqueued first; the time is from when the first worker process may take one
to when the database has the last one's end.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import attrs

from benchmarks.ground_pg import PgGround, pg_ground
from benchmarks.peer import ENDED, ENGINES, HOW_TO_INSTALL, is_installed, version_of
from benchmarks.report import Row, emit, machine, table

ROOT = Path(__file__).parents[1]
LOOK_S = 0.005
PATIENCE_S = 180
REPEATS = 3


@attrs.frozen(slots=True)
class Live:
    """Clients and worker in one process, for so many seconds."""

    steps: int
    concurrency: int
    seconds: float = 2

    @property
    def name(self) -> str:
        """As it stands in the table."""
        return f"{self.steps} steps, c={self.concurrency}"


@attrs.frozen(slots=True)
class Queued:
    """So many workflows in a queue, for so many worker processes."""

    runs: int
    steps: int
    processes: int

    @property
    def name(self) -> str:
        """As it stands in the table."""
        workers = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return f"{self.runs:,} queued, {self.steps} steps, {workers}"


Case = Live | Queued
CASES: Sequence[Case] = (
    *(Live(steps, concurrency) for steps in (1, 5, 50) for concurrency in (1, 100)),
    Queued(1_000, 5, 1),
    Queued(1_000, 5, 2),
)


async def started(*words: object) -> Process:
    """``benchmarks.peer``, in a process that is ours to end."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.peer", *map(str, words)),
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
        stderr=None,
    )


async def call(*words: object) -> str:
    """Run one to its end; what it printed."""
    process = await started(*words)
    try:
        async with asyncio.timeout(PATIENCE_S):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(f"`python -m benchmarks.peer {' '.join(map(str, words))}` failed")
    return printed.decode()


@asynccontextmanager
async def own_database(ground: PgGround, engine: str, steps: int) -> AsyncIterator[str]:
    """The DSN of a new one with the tables of this engine; it is dropped at the end."""
    name = f"bench_{secrets.token_hex(6)}"
    await ground.conn.execute(f"CREATE DATABASE {name}")
    try:
        dsn = ground.dsn_of(name)
        await call(engine, "prepare", dsn, steps)
        await ground.conn.execute("CHECKPOINT")
        yield dsn
    finally:
        await ground.conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def live(dsn: str, engine: str, case: Live) -> Row:
    words = (engine, "live", dsn, case.steps, case.concurrency, case.seconds)
    row: Row = json.loads(await call(*words))
    return row


async def queued(dsn: str, engine: str, case: Queued) -> Row:
    await call(engine, "enqueue", dsn, case.steps, case.runs)
    workers = [await started(engine, "work", dsn, case.steps) for _ in range(case.processes)]
    conn: Any = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(_hear(worker, "ready") for worker in workers))
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write(b"\n")
            every = [asyncio.ensure_future(_hear(worker, "working")) for worker in workers]
            await asyncio.wait(every, return_when=asyncio.FIRST_COMPLETED)
            begin = time.perf_counter()
            while True:
                if await conn.fetchval(ENDED[engine]) >= case.runs:
                    break
                await asyncio.sleep(LOOK_S)
            took = time.perf_counter() - begin
            await asyncio.gather(*every)
            await asyncio.gather(*(worker.communicate(b"") for worker in workers))
    finally:
        await conn.close()
        for worker in workers:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
    await call(engine, "check", dsn, case.steps, case.runs)
    return {"runs_per_s": case.runs / took, "p50_ms": None, "cpu_us_per_step": None}


async def _hear(worker: Process, word: str) -> None:
    assert worker.stdout is not None
    heard = await worker.stdout.readline()
    assert heard.decode().strip() == word, f"a worker said {heard!r} instead of {word!r}"


async def measure(ground: PgGround, engine: str, case: Case) -> Row:
    """One engine, once."""
    async with own_database(ground, engine, case.steps) as dsn:
        if isinstance(case, Live):
            return await live(dsn, engine, case)
        return await queued(dsn, engine, case)


def together(case: Case, measured: dict[str, list[Row]]) -> Row:
    """Medians, and the ratios of ours to each peer; a peer that was left out has None."""
    row: Row = {"case": case.name}
    for figure in ("runs_per_s", "p50_ms"):
        for engine in ENGINES:
            values = [one[figure] for one in measured.get(engine, ())]
            known = bool(values) and None not in values
            row[f"{engine}_{figure}"] = statistics.median(values) if known else None
    for engine in ENGINES:
        if engine != "ours":
            pairs = zip(measured["ours"], measured.get(engine, ()), strict=False)
            ratios = [ours["runs_per_s"] / its["runs_per_s"] for ours, its in pairs]
            row[f"times_{engine}"] = statistics.median(ratios) if ratios else None
    return row


async def measure_all(cases: Sequence[Case], engines: Sequence[str], repeats: int) -> list[Row]:
    rows = []
    here = [engine for engine in engines if is_installed(engine)]
    for engine in engines:
        if engine not in here:
            emit("peers_skipped", {"engine": engine, "why": f"not installed: {HOW_TO_INSTALL}"})
            print(f"*** {engine} IS LEFT OUT: not installed, {HOW_TO_INSTALL}", file=sys.stderr)
    async with pg_ground() as ground:
        versions = {engine: version_of(engine) for engine in here}
        on = machine(postgres=await ground.version(), **versions)
        for case in cases:
            measured: dict[str, list[Row]] = {engine: [] for engine in here}
            for _ in range(repeats):
                for engine in here:
                    measured[engine].append(await measure(ground, engine, case))
            rows.append(together(case, measured))
            emit("peers", rows[-1])
    table(f"Peers, workflows a second on one Postgres, median of {repeats}, {on}", rows)
    return rows


def main(
    cases: Sequence[Case] = CASES, engines: Sequence[str] = tuple(ENGINES), repeats: int = REPEATS
) -> list[Row]:
    return asyncio.run(measure_all(cases, engines, repeats))


if __name__ == "__main__":
    main()
