"""Transaction: one run's fence, the user's statements and the journal entry in one commit.

It has a connection of its own, because the user executes on it statement by statement, and it
holds the database's only write lock for as long: all other writers wait. Its connection is
closed when the block is left, in whatever way, so an open transaction cannot outlive it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiosqlite

from durable_core.errors import DurableError, LeaseLostError
from durable_core.store import Commit, CommitVerdict, Lease

from . import queries
from .connection import (
    Patience,
    StoreConnection,
    commit,
    connect,
    in_thread,
    prepare,
    roll_back,
)
from .leasing import holds
from .steps import drive
from .translate import DRIVER_ERRORS, translated
from .writing import Batch


class SqliteTransaction:
    """What ``SqliteStore.transaction`` gives; ``conn`` is for the user's own statements."""

    def __init__(
        self,
        conn: aiosqlite.Connection,
        lease: Lease,
        place: str,
        patience: Patience,
        clock: Callable[[], int],
    ) -> None:
        self.conn = conn
        self._lease = lease
        self._place = place
        self._patience = patience
        self._clock = clock

    async def commit(self, one: Commit) -> CommitVerdict:
        """Write the transition and commit everything; any verdict but *applied* undoes all."""
        if one.run_id != self._lease.run_id:
            raise DurableError(
                f"This transaction holds run {self._lease.run_id!r}, not {one.run_id!r}."
            )
        try:
            return await in_thread(self.conn, lambda connection: self._commit(connection, one))
        except DRIVER_ERRORS as error:
            raise translated(error, self._place) from error

    async def check(self) -> None:
        """Raise if the transaction is over."""
        try:
            await in_thread(self.conn, _check_open)
        except DRIVER_ERRORS as error:
            raise translated(error, self._place) from error

    def begin(self, connection: StoreConnection, synchronous: str) -> None:
        """Lock, look at the fence, and hand over; on the connection's thread."""
        prepare(connection, synchronous, self._patience)
        self._patience.tries(lambda: connection.execute(queries.BEGIN))
        if not drive(connection, holds(self._lease)):
            raise LeaseLostError(
                f"The lease on run {self._lease.run_id!r} (epoch {self._lease.epoch}) is no "
                "longer held: another worker may have the run now. Nothing was written."
            )
        connection.guard(True)

    def _commit(self, connection: StoreConnection, one: Commit) -> CommitVerdict:
        _check_open(connection)
        connection.guard(False)
        try:
            batch = Batch(self._clock())
            (verdict,) = drive(connection, batch.commit([one]))
            if verdict is CommitVerdict.APPLIED:
                drive(connection, batch.flush())
                commit(connection, self._place, self._patience)
            return verdict
        finally:
            roll_back(connection)
            connection.guard(True)


def _check_open(connection: StoreConnection) -> None:
    if not connection.in_transaction:
        raise DurableError(
            "The transaction is over: it was committed before, or SQLite undid it when one "
            "of its statements failed (disk full, ON CONFLICT ROLLBACK). Nothing was written."
        )


@asynccontextmanager
async def transaction(
    target: str,
    lease: Lease,
    *,
    place: str,
    synchronous: str,
    patience: Patience,
    clock: Callable[[], int],
) -> AsyncIterator[SqliteTransaction]:
    """Open, begin, hand over; always close."""
    # With an isolation level, Python begins a transaction before a statement that writes. Ours
    # is open already; should it be lost, that BEGIN is refused, and no statement of the user
    # can commit by itself.
    conn = connect(target, isolation_level="IMMEDIATE")
    opened = asyncio.ensure_future(_open(conn))
    try:
        await asyncio.shield(opened)
        held = SqliteTransaction(conn, lease, place, patience, clock)
        await in_thread(conn, lambda connection: held.begin(connection, synchronous))
    except BaseException as error:
        await close(conn, opened)
        if isinstance(error, DRIVER_ERRORS):
            raise translated(error, place) from error
        raise
    try:
        yield held
    finally:
        await close(conn, opened)


async def _open(conn: aiosqlite.Connection) -> None:
    await conn


async def close(conn: aiosqlite.Connection, opened: asyncio.Future[None]) -> None:
    """Close a connection that may still be opening; goes on to the end when cancelled."""

    async def finish() -> None:
        await opened
        await conn.close()

    await asyncio.shield(asyncio.ensure_future(finish()))
