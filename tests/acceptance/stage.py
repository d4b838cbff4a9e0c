"""Stage: what an acceptance test stands on: one database, engines over it, and a watch on both.

No test sleeps. Where a run has to get somewhere first, ``Watch`` is an observer that is awaited;
where time has to pass, the store's clock is a ``VirtualClock`` that is moved while no worker runs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from durable_core import Engine, Retry
from durable_core.store import Store
from durable_core.testing.contract import VirtualClock
from durable_core.testing.memory import MemoryStore
from durable_pg import PgStore
from durable_sqlite import SqliteStore

AT_ONCE = Retry(max_attempts=3, initial=0, jitter=0.0)
ONCE = Retry(max_attempts=1)
PATIENCE_S = 20.0
"""How long a test waits for anything before it fails; never how long it takes."""


class Watch:
    """An observer that counts what happened to runs, and can be awaited."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._changed = asyncio.Event()

    def on_event(self, event: Any) -> None:
        self.counts[type(event).__name__, event.run_id] += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def until(self, what: str, run_id: str, times: int = 1) -> None:
        """Return when ``what`` (an event's class name) has happened so often to the run."""
        async with asyncio.timeout(PATIENCE_S):
            while self.counts[what, run_id] < times:
                await self._changed.wait()

    async def suspended(self, run_id: str, times: int = 1) -> None:
        """Return when the run was given up for the so-manieth time."""
        await self.until("RunSuspended", run_id, times)


class Stage:
    """One database, over which as many engines may stand as a test wants."""

    def __init__(self, kind: str, folder: Path, dsn: str = "") -> None:
        self.kind = kind
        self._dsn = dsn
        self.clock: VirtualClock | None = None
        self.watch = Watch()
        self._path = folder / "acceptance.db"
        self._memory: MemoryStore | None = None

    @property
    def url(self) -> str:
        """A store URL of this kind; for memory, of a database of its own."""
        urls = {"memory": "memory://", "sqlite": f"sqlite:///{self._path}", "postgres": self._dsn}
        return urls[self.kind]

    def stop_the_clock(self) -> VirtualClock:
        """From now on time passes in the database only when the test says so."""
        self.clock = VirtualClock()
        return self.clock

    def store(self) -> Store:
        """An unopened store on this database."""
        clock: Callable[[], int] | None = self.clock
        if self.kind == "sqlite":
            return SqliteStore(self._path, clock=clock, synchronous="OFF")
        if self.kind == "postgres":
            return PgStore(self._dsn, clock=clock)
        if self._memory is None:
            self._memory = MemoryStore(clock=clock)
        return self._memory.twin()

    def engine(self, *workflows: Any, **options: Any) -> Engine:
        """An engine over this database, not entered yet."""
        options.setdefault("observers", [self.watch])
        return Engine(self.store(), list(workflows), **options)

    @asynccontextmanager
    async def running(self, *workflows: Any, **options: Any) -> AsyncIterator[Engine]:
        """An entered engine with one worker."""
        async with self.engine(*workflows, **options) as engine, engine.worker():
            yield engine

    async def result(self, workflow: Any, input: Any = None, **options: Any) -> Any:
        """Run a workflow from its start to its result, alone on this stage."""
        async with self.running(workflow) as engine:
            run = await engine.start(workflow, input, **options)
            return await run.result(timeout=PATIENCE_S)


def kinds(entries: Any) -> list[str]:
    """The kinds of journal entries, in commit order."""
    return [entry.kind for entry in entries]


def units(entries: Any, kind: str) -> list[str]:
    """The units that have an entry of this kind, in commit order."""
    return [str(entry.unit) for entry in entries if entry.kind == kind]


async def count_runs(engine: Engine) -> int:
    """How many runs there are."""
    return len([info async for info in engine.runs(limit=10_000)])


class Calls:
    """Handlers that remember that they were called, in order."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __getitem__(self, name: str) -> int:
        return self.made.count(name)

    def noting(self, name: str, gives: Any = None) -> Callable[[Any], Any]:
        """A handler that notes ``name`` and gives ``gives`` (or what ``gives(ctx)`` gives)."""

        async def handler(ctx: Any) -> Any:
            self.made.append(name)
            return gives(ctx) if callable(gives) else gives

        return handler

    def failing(self, name: str, times: int = 1_000_000, gives: Any = None) -> Callable[[Any], Any]:
        """A handler that notes ``name`` and raises, the first ``times`` times."""

        async def handler(ctx: Any) -> Any:
            self.made.append(name)
            if self.made.count(name) <= times:
                raise ValueError(f"{name} is broken")
            return gives(ctx) if callable(gives) else gives

        return handler
