"""Connection: one thread hop a batch, and whole transactions inside it.

A verb's transaction runs as one function on the connection's own thread: BEGIN, all its
statements, COMMIT. Cancelling the task that waits for it cancels the waiting only; the function
goes on to its end, so no transaction is ever left open or torn. Rules:

1. Writers begin with ``BEGIN IMMEDIATE``: a transaction that reads first and writes later is
   refused at once when somebody wrote in between, whatever the busy timeout.
2. Nobody queues for SQLite's lock. Who finds it taken tries again after a random 0.2 to 2 ms:
   that is fair between processes, where SQLite's own busy handler starves some.
3. After an error, SQLite may have rolled back already (disk full): roll back only what is open.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import aiosqlite
import attrs

from . import queries
from .steps import Steps, drive
from .translate import code_of, is_busy, translated

T = TypeVar("T")

RUN_HERE = "-- durable-core: run a function on this connection's thread"
RETRY_S = (0.0002, 0.002)
LAST_TRIES_S = 1.0
"""How much longer a store that is closing waits for the lock."""


class _Answer:
    """Stands for a cursor whose rows are a function's result."""

    def __init__(self, result: Any) -> None:
        self._result = result

    def fetchall(self) -> Any:
        return self._result


class StoreConnection(sqlite3.Connection):
    """A connection that also executes functions: the public door to its aiosqlite thread."""

    guarded = False
    """True while a user has this connection inside ``Store.transaction``."""
    refused: sqlite3.Error | None = None
    """Why the database could not be opened; ``prepare`` raises it."""

    def __init__(self, database: str, *args: Any, **kwargs: Any) -> None:
        if not kwargs.get("uri"):
            _create_private(database)
        try:
            super().__init__(database, *args, **kwargs)
        except sqlite3.Error as error:
            # aiosqlite does not wait for the thread of a connection that never was; so be one,
            # and be closed in the usual way.
            self.refused = error
            super().__init__(":memory:")

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        """As usual, but ``RUN_HERE`` calls its one parameter."""
        if sql is RUN_HERE:
            (work,) = parameters
            return _Answer(work(self))
        if self.guarded:
            return self.cursor().execute(sql, parameters)
        return super().execute(sql, parameters)

    def executemany(self, sql: str, rows: Any, /) -> Any:
        """As usual."""
        return self.cursor().executemany(sql, rows)

    def executescript(self, script: str, /) -> Any:
        """As usual."""
        return self.cursor().executescript(script)

    def cursor(self, factory: Any = None) -> Any:
        """While guarded, one that says why it refuses."""
        return super().cursor(factory or (_GuardedCursor if self.guarded else sqlite3.Cursor))

    def commit(self) -> None:
        """Refused while guarded."""
        with _said_clearly():
            super().commit()

    def rollback(self) -> None:
        """Refused while guarded."""
        with _said_clearly():
            super().rollback()

    def guard(self, on: bool) -> None:
        """Refuse (or allow again) every statement that begins or ends a transaction."""
        self.guarded = on
        self.set_authorizer(_deny_transactions if on else None)


class _GuardedCursor(sqlite3.Cursor):
    """What the user executes with inside ``Store.transaction``."""

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        with _said_clearly():
            return super().execute(sql, parameters)

    def executemany(self, sql: str, rows: Any, /) -> Any:
        with _said_clearly():
            return super().executemany(sql, rows)

    def executescript(self, script: str, /) -> Any:
        with _said_clearly():
            return super().executescript(script)


@contextlib.contextmanager
def _said_clearly() -> Iterator[None]:
    """The guard's refusal as an error of ours; all others are the user's to see."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if code_of(error) != sqlite3.SQLITE_AUTH:
            raise
        raise translated(error, "this database") from error


def _deny_transactions(action: int, *_names: str | None) -> int:
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION else sqlite3.SQLITE_OK


def _create_private(path: str) -> None:
    """A new database is its owner's alone; SQLite gives the -wal and -shm files the same mode.

    Only ever a new file: closing any descriptor of an open database would drop the locks that
    other connections of this process hold on it. What goes wrong here, SQLite will say better.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def connect(target: str, *, isolation_level: Any = None) -> aiosqlite.Connection:
    """A connection yet to be awaited. ``target`` is a path or a ``file:`` URI of ours."""
    return aiosqlite.connect(
        target,
        factory=StoreConnection,
        timeout=0,
        isolation_level=isolation_level,
        cached_statements=256,
        uri=target.startswith("file:/durable-"),
    )


async def in_thread(connection: aiosqlite.Connection, work: Callable[[StoreConnection], T]) -> T:
    """Run ``work`` on the connection's thread; it runs to its end even if the caller does not."""
    result: Any = await connection.execute_fetchall(RUN_HERE, (work,))
    answer: T = result
    return answer


@attrs.define(slots=True)
class Patience:
    """How long to try for a lock that others hold."""

    limit_s: float
    closing: threading.Event = attrs.field(factory=threading.Event)

    def tries(self, attempt: Callable[[], T]) -> T:
        """Call until it is not refused with SQLITE_BUSY; the last refusal is raised."""
        started = time.monotonic()
        while True:
            try:
                return attempt()
            except sqlite3.OperationalError as error:
                limit = min(self.limit_s, LAST_TRIES_S) if self.closing.is_set() else self.limit_s
                if not is_busy(error) or time.monotonic() - started > limit:
                    raise
            time.sleep(random.uniform(*RETRY_S))


def prepare(connection: StoreConnection, synchronous: str, patience: Patience) -> None:
    """Settings that every connection of the store needs; none of them is kept in the file."""
    if connection.refused is not None:
        raise connection.refused
    connection.execute(queries.NO_BUSY_TIMEOUT)
    connection.execute(queries.DISTRUST_SCHEMA)
    connection.execute(queries.CHECKPOINT_EVERY)
    patience.tries(lambda: connection.execute(queries.SYNCHRONOUS[synchronous]))


def write(
    connection: StoreConnection, steps: Callable[[], Steps[T]], place: str, patience: Patience
) -> T:
    """One write transaction, whole or not at all. ``steps`` is called with the lock held."""
    patience.tries(lambda: connection.execute(queries.BEGIN))
    try:
        result = drive(connection, steps())
        commit(connection, place, patience)
        return result
    except BaseException:
        roll_back(connection)
        raise


def commit(connection: StoreConnection, place: str, patience: Patience) -> None:
    """COMMIT; an error that leaves the outcome open is raised as such."""
    try:
        patience.tries(lambda: connection.execute(queries.COMMIT))
    except sqlite3.Error as error:
        undone = connection.in_transaction
        raise translated(error, place, committing=not undone) from error


def roll_back(connection: StoreConnection) -> None:
    """End the transaction, if one is open still."""
    if connection.in_transaction:
        connection.execute(queries.ROLLBACK)


def read(connection: StoreConnection, steps: Callable[[], Steps[T]], patience: Patience) -> T:
    """One read transaction: all statements see the same moment. Waits only where the database
    has no write-ahead log (in memory), or while it is being recovered."""

    def attempt() -> T:
        connection.execute(queries.BEGIN_READ)
        try:
            return drive(connection, steps())
        finally:
            roll_back(connection)

    return patience.tries(attempt)
