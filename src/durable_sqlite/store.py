"""SqliteStore: the protocol's verbs on one SQLite file.

Two connections: the writer, which runs one transaction at a time, each as one function on its
own thread; and a reader, which never waits for it. Methods stand in the protocol's order.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Literal, TypeVar

import aiosqlite
import attrs

from durable_core.errors import DurableError, SchemaVersionError, StoreUnavailableError
from durable_core.store import (
    ClaimBatch,
    ClaimRequest,
    Commit,
    CommitResult,
    CommitVerdict,
    CreateResult,
    DeliverVerdict,
    Delivery,
    EntryRecord,
    Foreseen,
    InboxRecord,
    Lease,
    Message,
    NewRun,
    RenewResult,
    RunFilter,
    RunRecord,
)

from . import claiming, leasing, pruning, queries, reading, schema, writing
from .connection import Patience, StoreConnection, connect, in_thread, prepare, read, write
from .steps import Query, Steps, drive, join
from .transaction import SqliteTransaction, transaction
from .translate import DRIVER_ERRORS, translated

T = TypeVar("T")

POLL_S = (0.005, 0.025)
"""How often to look for other processes' commits: at first, and when nothing has come long."""


@attrs.frozen(slots=True)
class _Link:
    """What an open store holds, and where it may be used from."""

    writer: aiosqlite.Connection
    reader: aiosqlite.Connection
    file: str  # as SQLite names it
    loop: asyncio.AbstractEventLoop
    pid: int


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class SqliteStore:
    """A ``Store`` in a SQLite file; ``:memory:`` is a database shared by its twins.

    ``durability``: what is acknowledged survives a power cut (``strict``), or the last commits
    may be lost in one (``relaxed``); no crash of a process loses anything, and nothing is ever
    torn. ``synchronous`` says the same, and more, in SQLite's own words (``strict`` is FULL,
    ``relaxed`` is NORMAL). ``patience_ms`` is how long a verb tries for a lock that other
    processes hold. The database's clock is this machine's.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["strict", "relaxed"] | None = None,
        synchronous: str | None = None,
        clock: Callable[[], int] | None = None,
        patience_ms: int = 30_000,
    ) -> None:
        text = os.fspath(path)
        self._in_memory = text == ":memory:"
        self._target = (
            f"file:/durable-{uuid.uuid4().hex}?vfs=memdb"
            if self._in_memory
            else os.path.abspath(text)
        )
        self._place = "the database in memory" if self._in_memory else repr(self._target)
        self._synchronous = _synchronous(durability, synchronous)
        self._clock = clock or _wall_clock_ms
        self._patience_ms = patience_ms
        self._patience = Patience(patience_ms / 1_000)
        self._link: _Link | None = None
        self._told: int | None = None  # the data version the last ``wait_for_work`` told of

    async def open(self, *, migrate: bool | None = None) -> None:
        """Connect, and migrate unless ``migrate`` is False."""
        if self._link is not None:
            self._checked()
            return
        schema.check_sqlite()
        if migrate is False and not self._exists():
            raise SchemaVersionError(
                f"There is no database at {self._place}: open the store with migrate=True once, "
                "and check that the path is the one you mean."
            )
        self._patience = Patience(self._patience_ms / 1_000)
        opening = asyncio.ensure_future(self._open(migrate is not False))
        try:
            self._link = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._drop)
            raise
        self._told = await self._data_version()

    async def close(self) -> None:
        """Close both connections and end their threads; what is under way runs to its end."""
        link, self._link = self._link, None
        if link is None:
            return
        self._patience.closing.set()
        await asyncio.shield(asyncio.ensure_future(_close(link)))

    def twin(self) -> SqliteStore:
        """An unopened store on the same database."""
        twin = SqliteStore(
            self._target,
            synchronous=self._synchronous,
            clock=self._clock,
            patience_ms=self._patience_ms,
        )
        twin._target, twin._place = self._target, self._place
        twin._in_memory = self._in_memory
        return twin

    async def now_ms(self) -> int:
        """The clock of this machine, which is the database's."""
        self._checked()
        return self._clock()

    async def create(self, runs: Sequence[NewRun], *, conn: Any = None) -> tuple[CreateResult, ...]:
        """Create runs that do not exist yet."""

        def steps() -> Steps[tuple[CreateResult, ...]]:
            return writing.create(runs, self._clock())

        return await (self._write(steps) if conn is None else self._join(conn, steps))

    async def deliver(
        self, messages: Sequence[Message], *, inbox_limit: int = 10_000, conn: Any = None
    ) -> tuple[DeliverVerdict, ...]:
        """Put messages into inboxes and make their runs due."""

        def steps() -> Steps[tuple[DeliverVerdict, ...]]:
            return writing.deliver(messages, self._clock(), inbox_limit)

        return await (self._write(steps) if conn is None else self._join(conn, steps))

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        """Lease due runs."""
        return await self._write(lambda: claiming.claim(request, self._clock()))

    async def deliver_and_claim(
        self,
        messages: Sequence[Message],
        request: ClaimRequest,
        *,
        inbox_limit: int = 10_000,
        foreseen: Foreseen | None = None,
    ) -> Delivery:
        """Put messages into inboxes, and lease those of their runs that nobody has."""
        return await self._write(
            lambda: claiming.deliver_and_claim(
                messages,
                request,
                self._clock(),
                inbox_limit=inbox_limit,
                foreseen=foreseen,
            )
        )

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        """Apply transitions, each fenced, each with its own verdict."""
        return await self._write(lambda: writing.commit(commits, self._clock()))

    async def settled(self, commits: Sequence[Commit]) -> tuple[CommitVerdict, ...]:
        """Which of these commits landed; behind everything that was sent to the writer."""
        return await self._write(lambda: leasing.settled(commits))

    async def renew(self, leases: Sequence[Lease], *, lease_ms: int) -> RenewResult:
        """Extend the leases whose epoch is current."""
        return await self._write(lambda: leasing.renew(leases, lease_ms, self._clock()))

    async def inbox(self, leases: Sequence[Lease]) -> Mapping[str, tuple[InboxRecord, ...]]:
        """Unseen messages of held runs."""
        return await self._read(lambda: leasing.inbox(leases))

    async def get(self, run_ids: Sequence[str]) -> Mapping[str, RunRecord]:
        """The records of the runs that exist."""
        return await self._read(lambda: reading.get(run_ids))

    async def find(self, query: RunFilter) -> tuple[RunRecord, ...]:
        """One page of runs, newest first."""
        return await self._read(lambda: reading.find(query))

    async def journal(
        self, run_id: str, *, after_seq: int = 0, limit: int = 1_000
    ) -> tuple[EntryRecord, ...]:
        """Entries in commit order."""
        return await self._read(lambda: reading.journal(run_id, after_seq, limit))

    async def prune(
        self, *, before_ms: int, statuses: tuple[str, ...] | None = None, limit: int = 1_000
    ) -> int:
        """Remove ended runs, the oldest end first."""
        return await self._write(lambda: pruning.prune(before_ms, statuses, limit))

    async def wait_for_work(self, timeout_ms: int | None) -> bool:
        """Look every few ms whether anybody else has committed; own commits do not count."""
        link = self._checked()
        end = None if timeout_ms is None else link.loop.time() + timeout_ms / 1_000
        told, (pause, longest) = self._told, POLL_S
        while True:
            version = await self._data_version()
            if version != told:
                self._told = version
                return True
            left = pause if end is None else end - link.loop.time()
            if left <= 0:
                return False
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 1.2, longest)

    def transaction(self, lease: Lease) -> AbstractAsyncContextManager[SqliteTransaction]:
        """A transaction that holds the run's fence and the database's write lock."""
        self._checked()
        return transaction(
            self._target,
            lease,
            place=self._place,
            synchronous=self._synchronous,
            patience=self._patience,
            clock=self._clock,
        )

    # --- connections -------------------------------------------------------------------------

    def _exists(self) -> bool:
        return self._in_memory or os.path.exists(self._target)

    async def _open(self, migrate: bool) -> _Link:
        writer = await self._connect(partial(self._prepare_writer, migrate=migrate))
        try:
            reader = await self._connect(self._prepare_reader)
            file = await in_thread(reader, lambda connection: drive(connection, _main_file()))
        except BaseException:
            await writer.close()
            raise
        return _Link(writer, reader, file, asyncio.get_running_loop(), os.getpid())

    async def _connect(self, set_up: Callable[[StoreConnection], None]) -> aiosqlite.Connection:
        connection = connect(self._target)
        try:
            await connection
            await in_thread(connection, set_up)
        except BaseException as error:
            await connection.close()
            if isinstance(error, DRIVER_ERRORS):
                raise translated(error, self._place) from error
            raise
        return connection

    def _prepare_writer(self, connection: StoreConnection, *, migrate: bool) -> None:
        patience = self._patience
        prepare(connection, self._synchronous, patience)
        ((mode,),) = patience.tries(lambda: connection.execute(queries.USE_WAL).fetchall())
        if mode != "wal" and not self._in_memory:
            raise StoreUnavailableError(
                f"SQLite cannot keep a write-ahead log for {self._place} (journal mode {mode}): "
                "put the database on a local file system."
            )
        had = read(connection, schema.applied, patience)
        if migrate and schema.missing(had, self._place, schema.migrations()):
            steps = partial(schema.migrate, self._place, self._clock)
            write(connection, steps, self._place, patience)
        read(connection, partial(schema.verify, self._place), patience)

    def _prepare_reader(self, connection: StoreConnection) -> None:
        prepare(connection, self._synchronous, self._patience)
        connection.execute(queries.READ_ONLY)

    def _drop(self, opening: asyncio.Future[_Link]) -> None:
        """The caller of ``open`` was cancelled; close what came of it."""
        if not opening.cancelled() and opening.exception() is None:
            self._link = self._link or opening.result()
            _keep(asyncio.ensure_future(self.close()))

    def _checked(self) -> _Link:
        """The connections, if the store is open and used from where it was opened."""
        link = self._link
        if link is None:
            raise DurableError("This store is not open: `await store.open()` first.")
        if link.pid != os.getpid():
            raise DurableError(
                f"This store was opened in process {link.pid} and cannot be used after a fork, in "
                f"process {os.getpid()}: its thread does not exist here. Open a store of its own "
                "(`store.twin()`) in each process, after the fork."
            )
        if link.loop is not asyncio.get_running_loop():
            raise DurableError(
                "This store was opened in another event loop: open a store of its own "
                "(`store.twin()`) in each loop."
            )
        return link

    # --- running steps -----------------------------------------------------------------------

    async def _write(self, steps: Callable[[], Steps[T]]) -> T:
        work = partial(write, steps=steps, place=self._place, patience=self._patience)
        return await self._translated(in_thread(self._checked().writer, work))

    async def _read(self, steps: Callable[[], Steps[T]]) -> T:
        work = partial(read, steps=steps, patience=self._patience)
        return await self._translated(in_thread(self._checked().reader, work))

    async def _data_version(self) -> int:
        """Changes when *another* connection has committed. Asked on the writer's connection, so
        that the store's own commits do not count."""

        def steps() -> Steps[int]:
            ((version,),) = yield Query(queries.DATA_VERSION)
            return int(version)

        work = partial(read, steps=steps, patience=self._patience)
        return await self._translated(in_thread(self._checked().writer, work))

    async def _join(self, conn: Any, steps: Callable[[], Steps[T]]) -> T:
        """Run on the caller's connection, in the caller's transaction, which stays open."""
        link = self._checked()
        if not isinstance(conn, aiosqlite.Connection):
            raise DurableError(
                f"conn= must be an aiosqlite.Connection, not {type(conn).__qualname__}."
            )
        try:
            await self._check_joinable(conn, link)
            return await join(conn, steps())
        except DRIVER_ERRORS as error:
            raise translated(error, "the database of conn=") from error

    async def _check_joinable(self, conn: aiosqlite.Connection, link: _Link) -> None:
        """A write transaction is open, or now begun by the driver, on the store's database."""
        if conn.isolation_level is not None or conn.in_transaction:
            await conn.execute_fetchall(queries.TOUCH)
        if not conn.in_transaction:
            raise DurableError(
                "conn= is in autocommit mode and has no transaction open: execute BEGIN first, "
                "and commit when your own statements are done."
            )
        file = await join(conn, _main_file())
        if file != link.file:
            raise DurableError(
                f"conn= is connected to {file!r}, but the store keeps its runs in {self._place}: "
                "one transaction cannot span both."
            )

    async def _translated(self, verb: Awaitable[T]) -> T:
        try:
            return await verb
        except DRIVER_ERRORS as error:
            raise translated(error, self._place) from error


def _synchronous(durability: object, synchronous: object) -> str:
    """SQLite's word for what was asked for."""
    if durability is None:
        word = queries.DURABILITY["strict"] if synchronous is None else synchronous
        if word not in tuple(queries.SYNCHRONOUS):
            raise DurableError(f"synchronous={word!r} is none of {', '.join(queries.SYNCHRONOUS)}.")
        return str(word)
    if durability not in tuple(queries.DURABILITY):
        raise DurableError(f"durability={durability!r} is neither 'strict' nor 'relaxed'.")
    if synchronous is not None:
        raise DurableError("Give a store durability= or synchronous=, not both.")
    return queries.DURABILITY[str(durability)]


def _main_file() -> Steps[str]:
    ((file,),) = yield Query(queries.MAIN_FILE)
    return str(file)


async def _close(link: _Link) -> None:
    for connection in (link.reader, link.writer):
        try:
            await connection.close()
        except sqlite3.Error as error:
            raise translated(error, "the database") from error


_closing: set[asyncio.Future[None]] = set()


def _keep(task: asyncio.Future[None]) -> None:
    """Hold a task that nobody awaits until it is done."""
    _closing.add(task)
    task.add_done_callback(_closing.discard)
