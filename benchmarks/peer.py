"""Peer: one durable engine as a program, so that all are measured alike and none shares a process.

``python -m benchmarks.peer ENGINE prepare|live|enqueue|work|check DSN ...``, where ENGINE is one
of ``ENGINES``. Each does the same minimal work: a workflow of so many steps, every step an async
function that returns a dict of two values, every step durable before the next. Results are
compared with ``expected`` by whoever waited for them.

``live``: clients and a worker in one process; each client starts a workflow, waits for its
result, and starts the next, until the time is up. ``enqueue``, ``work``, ``check``: workflows are
put into a queue by one process, done by others, and their results read by a third.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Protocol

from benchmarks.report import Row
from benchmarks.whole_engine import percentile_ms

AT_ONCE = 100
"""How many workflows a worker has under way at most."""
WARM = 3
RunOne = Callable[[], Awaitable[Any]]
"""Starts a workflow and waits for its result."""

ENGINES = {"ours": "durable_core", "dbos": "dbos", "absurd": "absurd_sdk"}
"""What is compared, and what has to be installed for it."""
PACKAGES = {"ours": "durable-core", "dbos": "dbos", "absurd": "absurd-sdk"}
HOW_TO_INSTALL = "pip install 'durable-core[bench]'"

ENDED = {
    "ours": 'SELECT count(*) FROM "durable".outcome',
    "dbos": "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'",
    "absurd": "SELECT count(*) FROM absurd.t_bench WHERE state = 'completed'",
}
"""How many workflows have come to their end, as the database says."""


class Peer(Protocol):
    """An engine on one Postgres database, for workflows of so many steps."""

    def __init__(self, dsn: str, steps: int) -> None: ...

    async def prepare(self) -> None:
        """Create its tables."""
        ...

    def live(self) -> AbstractAsyncContextManager[RunOne]:
        """A worker, and a way to start workflows beside it."""
        ...

    async def enqueue(self, runs: int) -> None:
        """Have so many workflows wait for a worker."""
        ...

    def working(self, begin: Callable[[], None]) -> AbstractAsyncContextManager[None]:
        """A worker; ``begin`` is called when it may take the first workflow."""
        ...

    async def results(self) -> Sequence[Any]:
        """Those of all workflows, read as its users do."""
        ...


def is_installed(engine: str) -> bool:
    """Whether it can be measured here."""
    return find_spec(ENGINES[engine]) is not None


def version_of(engine: str) -> str:
    """Of the package that is installed."""
    return version(PACKAGES[engine])


def expected(steps: int) -> dict[str, Any]:
    """What a workflow returns."""
    return {f"s{index}": {"ok": True, "n": 1} for index in range(steps)}


def peer_of(engine: str, dsn: str, steps: int) -> Peer:
    """Only this engine is imported."""
    module: Any = importlib.import_module(f"benchmarks.peer_{engine}")
    peer: Peer = module.make(dsn, steps)
    return peer


async def live(peer: Peer, steps: int, concurrency: int, seconds: float) -> Row:
    """Workflows a second, from the first start to the last result."""
    right = expected(steps)
    taken: list[float] = []
    async with peer.live() as run_one:

        async def client() -> None:
            while time.perf_counter() < end:
                at = time.perf_counter()
                result = await run_one()
                taken.append(time.perf_counter() - at)
                assert result == right, f"a wrong result: {result!r:.200}"

        for _ in range(WARM):
            assert await run_one() == right
        cpu, begin = time.process_time(), time.perf_counter()
        end = begin + seconds
        await asyncio.gather(*(client() for _ in range(concurrency)))
        took, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return {
        "runs_per_s": len(taken) / took,
        "p50_ms": percentile_ms(taken, 50),
        "cpu_us_per_step": cpu / (len(taken) * steps) * 1e6,
    }


async def work(peer: Peer) -> None:
    """Begin when told to, say so, and work until standard input ends."""
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    async with peer.working(lambda: say("working")):
        await asyncio.to_thread(sys.stdin.read)


def say(word: str) -> None:
    """To whoever started this program."""
    print(word, flush=True)


async def main(engine: str, role: str, dsn: str, steps: int, numbers: Sequence[str]) -> None:
    peer = peer_of(engine, dsn, steps)
    if role == "prepare":
        await peer.prepare()
    elif role == "live":
        concurrency, seconds = numbers
        say(json.dumps(await live(peer, steps, int(concurrency), float(seconds))))
    elif role == "enqueue":
        await peer.enqueue(int(numbers[0]))
    elif role == "work":
        await work(peer)
    else:
        results = await peer.results()
        assert len(results) == int(numbers[0]), f"{len(results)} results"
        assert all(result == expected(steps) for result in results), "a wrong result"


if __name__ == "__main__":
    words = sys.argv[1:]
    asyncio.run(main(words[0], words[1], words[2], int(words[3]), words[4:]))
