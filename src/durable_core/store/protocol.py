"""The protocol itself: what a store can be asked to do; see the package's text for the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from .commits import Commit, CommitResult, CommitVerdict, Delivery, Foreseen
from .leases import ClaimBatch, ClaimRequest, Lease, RenewResult
from .messages import DeliverVerdict, InboxRecord, Message
from .runs import CreateResult, EntryRecord, NewRun, RunFilter, RunRecord


class StoreTransaction(Protocol):
    """A transaction that holds one run's fence: user rows and the journal entry in one commit."""

    @property
    def conn(self) -> Any:
        """The driver's own connection, for the user's statements."""
        ...

    async def check(self) -> None:
        """Raise ``DurableError`` where the user has made a commit impossible: by ending the
        transaction, by a statement that failed, by rows that a deferred constraint refuses."""
        ...

    async def commit(self, commit: Commit) -> CommitVerdict:
        """Write the transition and commit everything. On any other verdict, all is undone."""
        ...


class Store(Protocol):
    """A transactional, set-based store; see the package's text for the rules."""

    async def open(self, *, migrate: bool | None = None) -> None:
        """Connect. ``migrate`` True applies migrations, False only verifies the schema, None is
        the adapter's own habit. Raises ``SchemaVersionError``, ``StoreUnavailableError``."""
        ...

    async def close(self) -> None:
        """Give back every connection, thread and task. Idempotent."""
        ...

    def twin(self) -> Store:
        """An unopened store on the same database, for use in another thread's event loop."""
        ...

    async def now_ms(self) -> int:
        """The database's clock."""
        ...

    async def create(self, runs: Sequence[NewRun], *, conn: Any = None) -> tuple[CreateResult, ...]:
        """Create runs that do not exist yet; one transaction. With ``conn``, the caller's
        connection and transaction are used, and neither begun, committed nor rolled back."""
        ...

    async def deliver(
        self, messages: Sequence[Message], *, inbox_limit: int = 10_000, conn: Any = None
    ) -> tuple[DeliverVerdict, ...]:
        """Put messages into inboxes and make their runs due; one transaction."""
        ...

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        """Lease due runs: ``next_epoch`` with the request's mark, owner, due at now + lease. Sets
        status ``pending`` and ``suspended`` to ``running``. It need not be flushed before it is
        answered: a claim may be lost with the machine of the store; then it was never made."""
        ...

    async def deliver_and_claim(
        self,
        messages: Sequence[Message],
        request: ClaimRequest,
        *,
        inbox_limit: int = 10_000,
        foreseen: Foreseen | None = None,
    ) -> Delivery:
        """Put messages into inboxes, as ``deliver`` does, and lease those of their runs, as
        ``claim`` does, that this call delivered a message to, that nobody has, and that are due
        and within reach of the request; one transaction. No suspects, and no run whose message
        could not be put into its inbox yet. By the mark of its request a call whose
        answer is lost tells what it leased.

        ``foreseen`` is applied, by the rules of ``commit``, if its run is leased by this call,
        was not leased since ``after_epoch``, and it is not ``before_ms`` yet; else its verdict is
        *fenced*. The other runs are answered as it leaves them, with what it sent to them."""
        ...

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        """Apply transitions, each fenced, each with its own verdict; one transaction.

        All transitions of a batch are applied first, in order, then its children are created, in
        order, then its messages are delivered, in order (of the applied commits only).
        """
        ...

    async def settled(self, commits: Sequence[Commit]) -> tuple[CommitVerdict, ...]:
        """After an unknown outcome: which of these commits landed (a keyed re-read). *Applied*
        did; *conflict* did not, and its lease is still held: it may be sent again; *fenced* did
        not or, without entries, cannot be told from what came after: the lease is gone. One with
        ``not_before_ms`` and without entries that keeps the lease leaves nothing to tell it by: it
        did not land, as long as the lease is held."""
        ...

    async def renew(self, leases: Sequence[Lease], *, lease_ms: int) -> RenewResult:
        """Extend the leases whose epoch is current to now + ``lease_ms``."""
        ...

    async def inbox(self, leases: Sequence[Lease]) -> Mapping[str, tuple[InboxRecord, ...]]:
        """Messages newer than ``seen`` of runs held under these epochs; only runs that have any."""
        ...

    async def get(self, run_ids: Sequence[str]) -> Mapping[str, RunRecord]:
        """The records of the runs that exist."""
        ...

    async def find(self, query: RunFilter) -> tuple[RunRecord, ...]:
        """One page of runs, newest first."""
        ...

    async def journal(
        self, run_id: str, *, after_seq: int = 0, limit: int = 1_000
    ) -> tuple[EntryRecord, ...]:
        """Entries in commit order after ``after_seq``; an empty tuple for an unknown run."""
        ...

    async def prune(
        self, *, before_ms: int, statuses: tuple[str, ...] | None = None, limit: int = 1_000
    ) -> int:
        """Remove up to ``limit`` ended runs that finished before ``before_ms`` and whose status
        is one of these (None: any), the oldest end first; one transaction. Gives how many were
        removed: fewer where runs are large, but none only when there are none.

        A run is removed wholly (record, journal, inbox, dedupe keys, tokens, attributes) or not
        at all, and never while its parent exists: a family goes from the root down, over
        successive calls, so that a live parent, at any height, finds the records of its
        children. The id may be used anew afterwards, and sees nothing of the old run.
        """
        ...

    async def wait_for_work(self, timeout_ms: int | None) -> bool:
        """Return True soon after anything may have changed through another connection, or
        False when the time is up. May return True spuriously; never misses for long."""
        ...

    def transaction(self, lease: Lease) -> AbstractAsyncContextManager[StoreTransaction]:
        """Begin a transaction and take the fence first. Raises ``LeaseLostError``. Leaving it
        without a commit rolls back."""
        ...
