"""Stage: engines over one database, an observer that can be awaited, and a store with faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from durable_core import Engine, Retry
from durable_core.store import Commit, CommitResult, CommitVerdict, Store
from durable_core.testing.memory import MemoryStore
from durable_pg import PgStore
from durable_sqlite import SqliteStore

PATIENCE_S = 20.0
"""How long a test waits for what must happen; never how long it takes."""

AT_ONCE = Retry(max_attempts=3, initial=0, jitter=0)
ONCE = Retry(max_attempts=1)


class Watch:
    """An observer that keeps what it was told, and can be awaited."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._changed = asyncio.Event()

    def on_event(self, event: Any) -> None:
        self.events.append(event)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def names(self, run_id: str) -> list[str]:
        """What happened to this run."""
        return [type(event).__name__ for event in self.events if event.run_id == run_id]

    async def until(self, name: str, run_id: str, times: int = 1) -> None:
        """Return when this has happened so often to the run."""
        async with asyncio.timeout(PATIENCE_S):
            while self.names(run_id).count(name) < times:
                await self._changed.wait()


class Stage:
    """One database; every engine on it has a store of its own."""

    def __init__(self, kind: str, folder: Path, dsn: str = "") -> None:
        self.kind = kind
        self.path = folder / "engine.db"
        self.dsn = dsn
        self.watch = Watch()
        self._memory = MemoryStore()

    def store(self) -> Store:
        """An unopened store."""
        if self.kind == "sqlite":
            return SqliteStore(self.path, synchronous="OFF")
        if self.kind == "postgres":
            return PgStore(self.dsn)
        return self._memory.twin()

    def engine(self, *workflows: Any, **options: Any) -> Engine:
        """An engine, not entered yet."""
        options.setdefault("observers", [self.watch])
        return Engine(options.pop("store", None) or self.store(), list(workflows), **options)

    @asynccontextmanager
    async def running(
        self, *workflows: Any, worker: dict[str, Any] | None = None, **options: Any
    ) -> AsyncIterator[Engine]:
        """An entered engine with a worker."""
        async with self.engine(*workflows, **options) as engine, engine.worker(**(worker or {})):
            yield engine


async def execute(conn: Any, sql: str, *args: Any) -> list[Any]:
    """A statement on the connection of a store's transaction; it may have one parameter, $1."""
    if isinstance(conn, aiosqlite.Connection):
        return list(await conn.execute_fetchall(sql.replace("$1", "?"), args))
    return list(await conn.fetch(sql, *args))


class FaultyStore(MemoryStore):
    """A ``MemoryStore`` whose commits can be made to fail. ``faults`` are raised in turn, before
    the commit or (with ``after``) behind it; None lets one pass."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Exception | None] = []
        self.after = False
        self.batches: list[list[str]] = []
        self.refuses: Callable[[Commit], bool] = lambda commit: False
        self.settled_faults: list[Exception] = []
        self.settled_calls = 0

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        self.batches.append([commit.run_id for commit in commits])
        if any(self.refuses(commit) for commit in commits):
            raise ValueError("a batch with this commit cannot be written")
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and not self.after:
            raise fault
        result = await super().commit(commits)
        if fault is not None:
            raise fault
        return result

    async def settled(self, commits: Sequence[Commit]) -> tuple[CommitVerdict, ...]:
        self.settled_calls += 1
        if self.settled_faults:
            raise self.settled_faults.pop(0)
        return await super().settled(commits)
