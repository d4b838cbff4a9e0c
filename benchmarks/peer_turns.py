"""Turns: how engines are put side by side, each in processes and a database of its own.

For every case the engines take turns on one server, as often as the case says. A row has the
median of each figure for each engine, and ``times_dbos`` and ``times_absurd``, the medians of the
ratios within each turn, which are above 1 where ours is the better figure: a rate of ours to the
peer's, a time of the peer's to ours. A peer that is not installed is left out, and that is said.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import statistics
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import attrs

from benchmarks.ground_pg import PgGround, pg_ground
from benchmarks.peer import ENGINES, HOW_TO_INSTALL, Plan, is_installed, version_of
from benchmarks.report import Row, emit, machine, table

ROOT = Path(__file__).parents[1]
PATIENCE_S = 180
"""After which a process is ended that has not come to its end."""
PEER = "peer"


class Named(Protocol):
    """A case."""

    @property
    def name(self) -> str:
        """As it stands in the table."""
        ...

    @property
    def repeats(self) -> int:
        """How often each engine has its turn."""
        ...


CaseT = TypeVar("CaseT", bound=Named)


@attrs.frozen(slots=True)
class Figure:
    """What is measured. The columns of its ratios begin with ``times``; without, it has none."""

    name: str
    times: str = ""
    more_is_better: bool = False


def latencies(taken: Sequence[float]) -> Row:
    """The row of one turn; from two figures on."""
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    return {"p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}


LATENCIES = (Figure("p50_ms", "times"), Figure("p99_ms", "p99_times"))


async def started(*words: object, file: str = PEER) -> Process:
    """``benchmarks.peer``, or another file, in a process that is ours to end."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"benchmarks.{file}", *map(str, words)),
        cwd=ROOT,
        stdin=PIPE,
        stdout=PIPE,
        stderr=None,
    )


async def finished(process: Process) -> str:
    """What it printed, when it has come to its end, which it does one way or the other; from now on
    its standard input has ended."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            printed, _ = await process.communicate(b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return printed.decode()


async def call(*words: object, file: str = PEER) -> str:
    """Run one to its end; what it printed."""
    process = await started(*words, file=file)
    printed = await finished(process)
    if process.returncode:
        raise RuntimeError(f"`python -m benchmarks.{file} {' '.join(map(str, words))}` failed")
    return printed


async def hear(process: Process, word: str) -> None:
    """Wait for it to say this."""
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        heard = await process.stdout.readline()
    assert heard.decode().strip() == word, f"it said {heard!r} instead of {word!r}"


async def ask(file: str, *words: object) -> Any:
    """What it printed, as JSON."""
    return json.loads(await call(*words, file=file))


@asynccontextmanager
async def own_database(ground: PgGround, engine: str, plan: Plan) -> AsyncIterator[str]:
    """The DSN of a new one with the tables of this engine; it is dropped at the end."""
    name = f"bench_{secrets.token_hex(6)}"
    await ground.conn.execute(f"CREATE DATABASE {name}")
    try:
        dsn = ground.dsn_of(name)
        await call(engine, "prepare", dsn, plan)
        await ground.conn.execute("CHECKPOINT")
        yield dsn
    finally:
        await ground.conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


def here(benchmark: str, engines: Sequence[str]) -> list[str]:
    """Those that are installed; the others are named, on both outputs."""
    for engine in engines:
        if not is_installed(engine):
            why = {"engine": engine, "why": f"not installed: {HOW_TO_INSTALL}"}
            emit(f"{benchmark}_skipped", why)
            print(f"*** {engine} IS LEFT OUT: not installed, {HOW_TO_INSTALL}", file=sys.stderr)
    return [engine for engine in engines if is_installed(engine)]


def side_by_side(name: str, figures: Sequence[Figure], turns: Mapping[str, list[Row]]) -> Row:
    """Medians and ratios; a peer that was left out has None."""
    row: Row = {"case": name}
    for figure in figures:
        for engine in ENGINES:
            values = [one[figure.name] for one in turns.get(engine, ())]
            known = bool(values) and None not in values
            row[f"{engine}_{figure.name}"] = statistics.median(values) if known else None
    for figure in figures:
        for engine in ENGINES:
            if figure.times and engine != "ours":
                ratios = list(_ratios(figure, turns["ours"], turns.get(engine, ())))
                row[f"{figure.times}_{engine}"] = statistics.median(ratios) if ratios else None
    return row


def _ratios(figure: Figure, ours: Sequence[Row], its: Sequence[Row]) -> Iterator[float]:
    """Of figures that are known and above zero; others have no ratio."""
    for one in zip(ours, its, strict=False):
        our, other = (row[figure.name] or 0 for row in one)
        if min(our, other) > 0:
            yield our / other if figure.more_is_better else other / our


Measure = Callable[[PgGround, str, CaseT], Awaitable[Row]]
"""One engine, one case, once."""


async def _in_turns(
    benchmark: str,
    title: str,
    cases: Sequence[CaseT],
    engines: Sequence[str],
    figures: Sequence[Figure],
    measure: Measure[CaseT],
) -> list[Row]:
    rows = []
    found = here(benchmark, engines)
    async with pg_ground() as ground:
        versions = {engine: version_of(engine) for engine in found}
        on = machine(postgres=await ground.version(), **versions)
        for case in cases:
            turns: dict[str, list[Row]] = {engine: [] for engine in found}
            for _ in range(case.repeats):
                for engine in found:
                    turns[engine].append(await measure(ground, engine, case))
            rows.append(side_by_side(case.name, figures, turns))
            emit(benchmark, rows[-1])
    table(f"{title}, on one Postgres, {on}", rows)
    return rows


def in_turns(
    benchmark: str,
    title: str,
    cases: Sequence[CaseT],
    engines: Sequence[str],
    figures: Sequence[Figure],
    measure: Measure[CaseT],
) -> list[Row]:
    """Measure, print, and return what was measured."""
    return asyncio.run(_in_turns(benchmark, title, cases, engines, figures, measure))
