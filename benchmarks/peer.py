"""Peer: one durable engine as a program, so that all are measured alike and none shares a process.

``python -m benchmarks.peer ENGINE prepare|live|enqueue|work|check DSN PLAN ...``, where ENGINE is
one of ``ENGINES``. Each does the same minimal work: a workflow of so many steps, every step an
async function that returns a dict of two values, every step durable before the next; a ``Plan``
says whether it waits for something first. Results are compared with ``expected`` by whoever waited
for them.

``live``: clients and a worker in one process; each client starts a workflow, waits for its
result, and starts the next, until the time is up. ``enqueue``, ``work``, ``check``: workflows are
put into a queue by one process, done by others, and their results read by a third. The questions
that need more are programs of their own (``bench_peers_*``), and have ``Peer`` in common.
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

import attrs

from benchmarks.report import Row
from benchmarks.whole_engine import percentile_ms

AT_ONCE = 100
"""How many workflows a process has under way, unless it is told otherwise."""
WARM = 3
ENQUEUED_AT_ONCE = 20
HOUR_S = 3_600
"""How long a workflow waits for its signal."""
NONE, SLEEP, SIGNAL = "none", "sleep", "signal"
Handle = Callable[[Any, int], Awaitable[dict[str, Any]]]
"""What a step does, given the input of its workflow and its own number."""

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
WAITING = {
    "ours": "SELECT count(*) FROM \"durable\".lease WHERE status = 'suspended'",
    "dbos": """
        SELECT count(*) FROM dbos.operation_outputs JOIN dbos.workflow_status USING (workflow_uuid)
        WHERE function_name = 'DBOS.sleep' AND status = 'PENDING'
    """,
    "absurd": "SELECT count(*) FROM absurd.r_bench WHERE state = 'sleeping'",
}
"""How many workflows have written down that they wait."""


@attrs.frozen(slots=True)
class Plan:
    """A workflow: it sleeps until ``due`` of its input, or waits for a signal, or does not wait;
    then come its steps."""

    steps: int
    wait: str = NONE

    @classmethod
    def read(cls, text: str) -> Plan:
        """The other way round."""
        steps, _, wait = text.partition("-")
        return cls(int(steps), wait or NONE)

    def __str__(self) -> str:
        return f"{self.steps}-{self.wait}"


class Client(Protocol):
    """Who starts workflows; what it calls a run is its own."""

    async def start(self, values: Sequence[Any]) -> Sequence[Any]:
        """A run for each of these inputs, at one moment."""
        ...

    async def result(self, run: Any) -> Any:
        """Wait for it."""
        ...

    async def signal(self, runs: Sequence[Any]) -> None:
        """To each of these, as quickly as the engine can; return when all are durable."""
        ...

    async def due(self, run: Any, asked: float) -> float:
        """When the sleep of this run had to end, which should have been at ``asked``."""
        ...


class Peer(Protocol):
    """An engine on one Postgres database, for workflows of one plan."""

    async def prepare(self) -> None:
        """Create its tables."""
        ...

    def live(self) -> AbstractAsyncContextManager[Client]:
        """A worker, and a client beside it."""
        ...

    def sending(self) -> AbstractAsyncContextManager[Callable[[Any], Awaitable[object]]]:
        """What puts one workflow with this input into the queue, for a worker elsewhere."""
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


async def at_once(value: Any, index: int) -> dict[str, Any]:
    """The least a step can do."""
    return {"ok": True, "n": 1}


def peer_of(
    engine: str,
    dsn: str,
    plan: Plan,
    handle: Handle | None = None,
    concurrency: int = AT_ONCE,
) -> Peer:
    """Only this engine is imported. One for each process. Without a handle, ``at_once``."""
    module: Any = importlib.import_module(f"benchmarks.peer_{engine}")
    peer: Peer = module.make(dsn, plan, handle, concurrency)
    return peer


async def run_one(client: Client, value: Any, steps: int) -> None:
    """From start to the right result."""
    (run,) = await client.start([value])
    check(await client.result(run), steps)


def check(result: Any, steps: int) -> None:
    assert result == expected(steps), f"a wrong result: {result!r:.200}"


async def live(peer: Peer, steps: int, concurrency: int, seconds: float) -> Row:
    """Workflows a second, from the first start to the last result."""
    taken: list[float] = []
    async with peer.live() as client:

        async def one_after_the_other() -> None:
            while time.perf_counter() < end:
                at = time.perf_counter()
                await run_one(client, {"n": 1}, steps)
                taken.append(time.perf_counter() - at)

        for _ in range(WARM):
            await run_one(client, {"n": 1}, steps)
        cpu, begin = time.process_time(), time.perf_counter()
        end = begin + seconds
        await asyncio.gather(*(one_after_the_other() for _ in range(concurrency)))
        took, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return {
        "runs_per_s": len(taken) / took,
        "p50_ms": percentile_ms(taken, 50),
        "cpu_us_per_step": cpu / (len(taken) * steps) * 1e6,
    }


async def enqueue(peer: Peer, runs: int) -> None:
    """Have so many workflows wait for a worker."""
    left = iter(range(runs))
    async with peer.sending() as send:

        async def sender() -> None:
            for _ in left:
                await send({"n": 1})

        await asyncio.gather(*(sender() for _ in range(ENQUEUED_AT_ONCE)))


async def work(peer: Peer) -> None:
    """Begin when told to, say so, and work until standard input ends."""
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    async with peer.working(lambda: say("working")):
        await asyncio.to_thread(sys.stdin.read)


def say(word: str) -> None:
    """To whoever started this program."""
    print(word, flush=True)


async def main(engine: str, role: str, dsn: str, plan: Plan, numbers: Sequence[str]) -> None:
    # An engine is told how many workflows there will be under way at once, and may set itself up
    # for that.
    clients = int(numbers[0]) if role == "live" else AT_ONCE
    peer = peer_of(engine, dsn, plan, concurrency=clients)
    if role == "prepare":
        await peer.prepare()
    elif role == "live":
        say(json.dumps(await live(peer, plan.steps, clients, float(numbers[1]))))
    elif role == "enqueue":
        await enqueue(peer, int(numbers[0]))
    elif role == "work":
        await work(peer)
    else:
        results = await peer.results()
        assert len(results) == int(numbers[0]), f"{len(results)} results"
        for result in results:
            check(result, plan.steps)


if __name__ == "__main__":
    words = sys.argv[1:]
    asyncio.run(main(words[0], words[1], words[2], Plan.read(words[3]), words[4:]))
