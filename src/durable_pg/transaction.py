"""Transaction: one run's fence, the user's statements and the journal entry in one commit.

The fence is a lock on the run's lease row, taken first: whoever would take the run over waits
until the transaction is over, and nobody else waits for it (messages to the run are posted).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg.transaction

from durable_core.errors import DurableError, LeaseLostError
from durable_core.store import Commit, CommitResult, CommitVerdict, Lease

from .connection import Connection, Connections
from .leasing import holds
from .queries import TRANSACTION_ID
from .schema_name import SchemaName
from .steps import Steps, drive
from .translate import DRIVER_ERRORS, translated

Committing = Callable[[Commit], Steps[CommitResult]]


class PgTransaction:
    """What ``PgStore.transaction`` gives; ``conn`` is for the user's own statements."""

    def __init__(
        self,
        conn: Connection,
        lease: Lease,
        *,
        place: str,
        schema: SchemaName,
        committing: Committing,
    ) -> None:
        self.conn: Any = conn
        self._conn = conn
        self._lease = lease
        self._place = place
        self._schema = schema
        self._committing = committing
        self._outer: asyncpg.transaction.Transaction | None = conn.transaction(
            isolation="read_committed"
        )
        self._id: str | None = None

    async def begin(self) -> None:
        """Lock, and look at the fence."""
        assert self._outer is not None
        await self._outer.start()
        if not await drive(self._conn, holds(self._lease), self._schema):
            raise LeaseLostError(
                f"The lease on run {self._lease.run_id!r} (epoch {self._lease.epoch}) is no "
                "longer held: another worker may have the run now. Nothing was written."
            )
        self._id = await self._conn.fetchval(TRANSACTION_ID)

    async def commit(self, one: Commit) -> CommitVerdict:
        """Write the transition and commit everything; any verdict but *applied* undoes all."""
        if one.run_id != self._lease.run_id:
            raise DurableError(
                f"This transaction holds run {self._lease.run_id!r}, not {one.run_id!r}."
            )
        # Goes on to its end when the caller is cancelled, so that the verdict is not lost.
        return await asyncio.shield(asyncio.ensure_future(self._commit(one)))

    async def _commit(self, one: Commit) -> CommitVerdict:
        await self._check_whole()
        committing = False
        try:
            (verdict,) = (await drive(self._conn, self._committing(one), self._schema)).verdicts
            if verdict is CommitVerdict.APPLIED:
                outer, self._outer = self._outer, None
                assert outer is not None
                committing = True
                await outer.commit()
            else:
                await self.roll_back()
            return verdict
        except DRIVER_ERRORS as error:
            await self.roll_back()
            raise translated(error, self._place, sent=committing) from error

    async def _check_whole(self) -> None:
        """It is the very transaction that was begun, and still open."""
        if self._conn.is_closed():
            raise DurableError(
                f"The connection to {self._place} was closed in the middle of a transaction of "
                "the store. Nothing was written."
            )
        try:
            here = await self._conn.fetchval(TRANSACTION_ID)
        except DRIVER_ERRORS as error:
            await self.roll_back()
            raise translated(error, self._place) from error
        if self._outer is None or here != self._id:
            raise DurableError(
                "The transaction is over: it was committed before, or one of the handler's own "
                "statements ended it. A transaction of the store is ended by the store alone: "
                "leave out BEGIN, COMMIT and ROLLBACK (savepoints and conn.transaction() are fine)."
            )

    async def roll_back(self) -> None:
        """Undo everything, if it is open still."""
        outer, self._outer = self._outer, None
        if outer is not None and not self._conn.is_closed():
            with suppress(*DRIVER_ERRORS):
                await outer.rollback()


@asynccontextmanager
async def transaction(
    connections: Connections, lease: Lease, *, schema: SchemaName, committing: Committing
) -> AsyncIterator[PgTransaction]:
    """Begin, hand over; what was not committed is undone."""
    async with connections.held() as conn:
        held = PgTransaction(
            conn, lease, place=connections.place, schema=schema, committing=committing
        )
        try:
            try:
                await held.begin()
            except DRIVER_ERRORS as error:
                raise translated(error, connections.place) from error
            yield held
        finally:
            await held.roll_back()
