"""Stage: stores whose clock a test sets and whose commits it sees, and can hold back.

A worker whose commits and claims are held back is a worker that has frozen: its lease runs out
when the clock is set forward, another takes over, and then it wakes up, none the wiser. All the
stores of one stage are one database.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from durable_core import Retry, Run, RunInfo, StepContext
from durable_core.store import (
    ClaimBatch,
    ClaimRequest,
    Commit,
    CommitResult,
    CommitVerdict,
    Store,
)
from durable_core.testing.memory import MemoryStore
from durable_pg import PgStore
from durable_sqlite import SqliteStore

Ctx = StepContext[Any, Any]

PATIENCE_S = 30.0
"""How long a test waits for what must happen before it gives up."""

ONCE = Retry(max_attempts=1)
AT_ONCE = Retry(max_attempts=3, initial=0)


class Clock:
    """The time of a stage's database, in ms since 1970; it moves only when it is told to."""

    def __init__(self) -> None:
        self.ms = 1_800_000_000_000

    def __call__(self) -> int:
        return self.ms

    def forward(self, **span: float) -> None:
        """Go on by a ``timedelta`` given by its parts."""
        self.ms += timedelta(**span) // timedelta(milliseconds=1)


class Bell:
    """Rings at every commit, for whoever waits."""

    def __init__(self) -> None:
        self.next = asyncio.Event()

    def ring(self) -> None:
        """Wake everybody who waits for the next ring."""
        rung, self.next = self.next, asyncio.Event()
        rung.set()


class Tap:
    """What one store was asked to write, and a way to stop it from doing so."""

    def __init__(self, bell: Bell) -> None:
        self.applied: list[Commit] = []
        self.verdicts: list[CommitVerdict] = []
        self.freezes_claims = True
        self._bell = bell
        self._claiming = 0
        self._unclaiming = asyncio.Event()
        self._wanted: Callable[[Commit], bool] | None = None
        self._frozen = asyncio.Event()
        self._thawed = asyncio.Event()
        self._thawed.set()

    @contextmanager
    def freezing(self, before: Callable[[Commit], bool]) -> Iterator[asyncio.Event]:
        """Freeze just before the first such commit, until the block is left; gives the event."""
        self._wanted = before
        self._frozen.clear()
        try:
            yield self._frozen
        finally:
            self._wanted = None
            self._thawed.set()

    async def before(self, commits: Sequence[Commit]) -> None:
        """The store is about to write these."""
        if self._wanted is not None and any(self._wanted(commit) for commit in commits):
            self._wanted = None
            self._thawed.clear()
            while self._claiming and self.freezes_claims:  # it could see the clock set forward
                self._unclaiming.clear()
                await self._unclaiming.wait()
            self._frozen.set()
        await self._thawed.wait()

    @asynccontextmanager
    async def claim(self) -> AsyncIterator[None]:
        """Around a claim: not begun while the store is frozen."""
        if self.freezes_claims:
            await self._thawed.wait()
        self._claiming += 1
        try:
            yield
        finally:
            self._claiming -= 1
            self._unclaiming.set()

    def after(self, commits: Sequence[Commit], result: CommitResult) -> None:
        """The store has answered."""
        for commit, verdict in zip(commits, result.verdicts, strict=True):
            self.verdicts.append(verdict)
            if verdict is CommitVerdict.APPLIED:
                self.applied.append(commit)
        self._bell.ring()


class TappedMemory(MemoryStore):
    """A ``MemoryStore`` with a tap."""

    def __init__(self, clock: Clock, bell: Bell, like: TappedMemory | None = None) -> None:
        super().__init__(clock=clock)
        if like is not None:
            self._shared = like._shared
        self.tap = Tap(bell)

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        async with self.tap.claim():
            return await super().claim(request)

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        await self.tap.before(commits)
        result = await super().commit(commits)
        self.tap.after(commits, result)
        return result


class TappedSqlite(SqliteStore):
    """A ``SqliteStore`` with a tap."""

    def __init__(self, path: Path, clock: Clock, bell: Bell) -> None:
        super().__init__(path, clock=clock)
        self.tap = Tap(bell)

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        async with self.tap.claim():
            return await super().claim(request)

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        await self.tap.before(commits)
        result = await super().commit(commits)
        self.tap.after(commits, result)
        return result


class TappedPg(PgStore):
    """A ``PgStore`` with a tap."""

    def __init__(self, dsn: str, clock: Clock, bell: Bell) -> None:
        super().__init__(dsn, clock=clock)
        self.tap = Tap(bell)

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        async with self.tap.claim():
            return await super().claim(request)

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        await self.tap.before(commits)
        result = await super().commit(commits)
        self.tap.after(commits, result)
        return result


class Stage:
    """One database, its clock, and as many stores on it as are wanted."""

    def __init__(self, kind: str, folder: Path, dsn: str = "") -> None:
        self.kind = kind
        self.dsn = dsn
        self.clock = Clock()
        self.path = folder / "stage.db"
        self._bell = Bell()
        self._doomed = itertools.count()
        self._memory: TappedMemory | None = None

    def store(self) -> TappedMemory | TappedSqlite | TappedPg:
        """A store of its own, as another process would have."""
        if self.kind == "sqlite":
            return TappedSqlite(self.path, self.clock, self._bell)
        if self.kind == "postgres":
            return TappedPg(self.dsn, self.clock, self._bell)
        self._memory = TappedMemory(self.clock, self._bell, self._memory)
        return self._memory

    async def until(self, run: Run[Any], *statuses: str) -> RunInfo:
        """The run as soon as it has one of these statuses."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                ring = self._bell.next
                info = await run.info()
                if info.status in statuses:
                    return info
                await ring.wait()

    async def until_recorded(self, run: Run[Any], kind: str, unit: str | None = None) -> None:
        """Return as soon as the run's journal has such an entry."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                ring = self._bell.next
                for entry in await run.journal():
                    if entry.kind == kind and unit in (None, str(entry.unit)):
                        return
                await ring.wait()

    async def die_holding(self, run: Run[Any], store: Store) -> None:
        """A worker claims the run and is never heard of again; its lease runs out."""
        kinds = await kinds_of(store, run.id)
        request = ClaimRequest(
            worker=f"doomed {next(self._doomed)}",
            lease_ms=1_000,
            limit=1,
            queues=("default",),
            kinds=kinds,
        )
        batch = await store.claim(request)
        assert [claimed.run.run_id for claimed in batch.runs] == [run.id]
        self.clock.forward(seconds=2)


async def kinds_of(store: Store, run_id: str) -> tuple[Any, ...]:
    """What a worker must know to claim this run."""
    from durable_core.store import Kind

    record = (await store.get([run_id]))[run_id]
    return (Kind(workflow=record.workflow, version=record.version, fingerprint=record.fingerprint),)


def writes(unit: str, kind: str | None = None) -> Callable[[Commit], bool]:
    """Whether a commit has an entry of this unit (and kind)."""

    def question(commit: Commit) -> bool:
        return any(entry.unit == unit and kind in (None, entry.kind) for entry in commit.entries)

    return question


async def kinds(run: Run[Any]) -> list[str]:
    """The kinds of a run's entries, in commit order."""
    return [entry.kind for entry in await run.journal()]


async def units(run: Run[Any], kind: str) -> list[str]:
    """The units of a run's entries of one kind, in commit order."""
    return [str(entry.unit) for entry in await run.journal() if entry.kind == kind]
