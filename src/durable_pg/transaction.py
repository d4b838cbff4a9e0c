"""Transaction: one run's fence, the user's statements and the journal entry in one commit.

The fence is a lock on the run's lease row, taken first: whoever would take the run over waits
until the transaction is over, and nobody else waits for it (messages to the run are posted).
Rules:

1. The user's connection is on loan: once the transaction is over, nothing can be done with it.
2. Whoever is cancelled, or fails, leaves the block when everything is undone on the server, the
   statement under way included: else a fence that nobody needs would keep others out.
3. A commit that has begun goes on to its end, so that its verdict is not lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import asyncpg.transaction

from durable_core.errors import DurableError, LeaseLostError, StoreUnavailableError
from durable_core.store import Commit, CommitResult, CommitVerdict, Lease

from .connection import Connections, Proxy, real
from .leasing import holds
from .queries import CHECK_CONSTRAINTS, TRANSACTION_ID
from .schema_name import SchemaName
from .steps import Steps, drive
from .translate import DRIVER_ERRORS, code_of, translated

Committing = Callable[[Commit], Steps[CommitResult]]
Committed = Callable[[Commit, CommitResult], None]


class PgTransaction:
    """What ``PgStore.transaction`` gives; ``conn`` is for the user's own statements."""

    def __init__(
        self,
        conn: Proxy,
        lease: Lease,
        *,
        connections: Connections,
        schema: SchemaName,
        committing: Committing,
        committed: Committed,
    ) -> None:
        self.conn: Any = conn
        self._lease = lease
        self._connections = connections
        self._place = connections.place
        self._schema = schema
        self._committing = committing
        self._committed = committed
        self._outer: asyncpg.transaction.Transaction | None = self.conn.transaction(
            isolation="read_committed"
        )
        self._id: str | None = None
        self._commit_task: asyncio.Future[CommitVerdict] | None = None

    async def begin(self) -> None:
        """Lock, and look at the fence."""
        assert self._outer is not None
        try:
            async with asyncio.timeout(self._connections.address.timeout_s):
                await self._outer.start()
                is_held = await drive(self.conn, holds(self._lease), self._schema)
                self._id = await self.conn.fetchval(TRANSACTION_ID)
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"Run {self._lease.run_id!r} is locked by another transaction in {self._place} "
                "(a handler that goes on although its lease has ended, or a session somebody "
                "forgot), or the database does not answer. Nothing was written."
            ) from error
        except DRIVER_ERRORS as error:
            raise translated(error, self._place) from error
        if not is_held:
            raise LeaseLostError(
                f"The lease on run {self._lease.run_id!r} (epoch {self._lease.epoch}) is no "
                "longer held: another worker may have the run now. Nothing was written."
            )

    async def commit(self, one: Commit) -> CommitVerdict:
        """Write the transition and commit everything; any verdict but *applied* undoes all. No
        statement can follow, whatever comes of it."""
        if one.run_id != self._lease.run_id:
            raise DurableError(
                f"This transaction holds run {self._lease.run_id!r}, not {one.run_id!r}."
            )
        if self._commit_task is not None or self._outer is None:
            raise _is_over()
        self._commit_task = self._connections.begin(self._commit(one))
        return await asyncio.shield(self._commit_task)

    async def end(self) -> None:
        """Undo everything that is not committed, and give the connection back."""
        if self._commit_task is not None:
            await asyncio.wait({self._commit_task})
        await self._give_back()

    async def _commit(self, one: Commit) -> CommitVerdict:
        assert self._outer is not None
        sent = False
        try:
            async with asyncio.timeout(self._connections.address.timeout_s):
                await self._check_whole()
                result = await drive(self.conn, self._committing(one), self._schema)
                (verdict,) = result.verdicts
                if verdict is CommitVerdict.APPLIED:
                    sent = True
                    await self._outer.commit()
                    self._outer = None
        except DRIVER_ERRORS as error:
            raise self._named(error, sent) from error
        finally:
            await self._give_back()
        if verdict is CommitVerdict.APPLIED:
            self._committed(one, result)
        return verdict

    async def check(self) -> None:
        """Raise for what the handler left behind that cannot be committed."""
        try:
            await self._check_whole()
            await self.conn.execute(CHECK_CONSTRAINTS)
        except DRIVER_ERRORS as error:
            raise self._named(error, code_of(error).startswith("23")) from error

    async def _check_whole(self) -> None:
        """It is the very transaction that was begun, and still open."""
        if self._is_closed():
            raise DurableError(
                f"The connection to {self._place} was closed in the middle of a transaction of the "
                "store: by the handler, or by the server, which does not let a transaction idle "
                "for long. Nothing was written."
            )
        if await self.conn.fetchval(TRANSACTION_ID) != self._id:
            raise _is_over()

    def _is_closed(self) -> bool:
        return real(self.conn) is None or self.conn.is_closed()

    def _named(self, error: BaseException, sent: bool) -> DurableError:
        """Our error for what the driver said of a commit; mostly of what the handler did."""
        code = code_of(error)
        if code == "25P02":
            return DurableError(
                "A statement of the handler failed, and with it the whole transaction: let its "
                "error out of the handler, or put what may fail into `async with "
                "conn.transaction():`. Nothing was written."
            )
        if code.startswith("23") and sent:
            return DurableError(
                f"What the handler wrote was refused at the commit, by a deferred constraint: "
                f"{error}. Nothing was written."
            )
        if isinstance(error, asyncpg.InterfaceError) and not self._is_closed():
            return DurableError(
                f"A statement of the handler is still under way on its connection ({error}): await "
                "all of them before the handler returns. Nothing was written."
            )
        return translated(error, self._place, sent=sent)

    async def _give_back(self) -> None:
        outer, self._outer = self._outer, None
        await self._connections.take_back(self.conn, None if outer is None else outer.rollback)


@asynccontextmanager
async def transaction(
    connections: Connections,
    lease: Lease,
    *,
    schema: SchemaName,
    committing: Committing,
    committed: Committed,
) -> AsyncIterator[PgTransaction]:
    """Begin, hand over; what was not committed is undone."""
    held = PgTransaction(
        await connections.lend(),
        lease,
        connections=connections,
        schema=schema,
        committing=committing,
        committed=committed,
    )
    try:
        await held.begin()
        yield held
    finally:
        await connections.to_the_end(held.end())


def _is_over() -> DurableError:
    return DurableError(
        "The transaction is over: it was committed before, or one of the handler's own "
        "statements ended it. A transaction of the store is ended by the store alone: "
        "leave out BEGIN, COMMIT and ROLLBACK (savepoints and conn.transaction() are fine)."
    )
