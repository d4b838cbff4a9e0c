"""The store protocol: what an adapter must do, and the records that cross the seam.

A store commits; it decides nothing. Every verb is set-based, so that one round trip serves
many runs, and every verb is atomic: all of it happens, or none. Rules an adapter must keep:

1. *Fence.* A lease is a row per live run with an ``epoch`` that grows at every claim. A commit,
   renewal or transaction whose epoch is not the current one, or was given up by a release,
   changes nothing. A lease that expired and was not taken over is still good.
2. *Order.* Entries of a run are numbered 1..n without gap (the first ones are gone where a commit
   ``renews``); messages of a run are numbered by a per-run arrival counter that is advanced under
   the lease row's lock.
3. *No lost wake-up.* Delivering to an unowned run makes it due at once, in the same
   transaction. A commit that releases a run while messages newer than ``Commit.seen`` lie in
   its inbox leaves it due at once. One that finishes a run while a newer message that
   ``reopens`` lies there leaves it opened again. The inbox of an ended run is kept.
4. *Time.* "now" is the database's clock, in ms since the epoch, and is returned by the verbs
   that the engine's own sense of time is taken from. ``due_at_ms`` is when a run may be
   claimed: start time, lease expiry, and what is a little before a timer, retry or time-out, all
   in one; null means that only a message can move the run.
5. *Claim.* A run is claimable when it is due, whoever held it last; claiming one that still has
   another owner (whose lease expired) counts one worker death, and a commit with entries sets
   that count back to zero. An owner that claims its own run again lives: that is no death.
6. *Errors.* No exception of a driver leaves the adapter. What may have committed is reported as
   ``StoreUnavailableError(outcome_unknown=True)``, never re-sent.

Times are integers in ms since 1970 UTC. Texts that look like JSON are opaque to adapters.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import attrs

from .kernel.value import Payload


@attrs.frozen(slots=True, kw_only=True)
class NewRun:
    """A run to be created: ``pending``, generation 1, due ``delay_ms`` from now.

    With ``owner`` it is created as if that owner had claimed it in the same moment (an eager
    start): ``running``, leased for ``lease_ms`` under this ``epoch``, from which claims go on.

    ``digest`` identifies workflow name and canonical input, for duplicate starts.
    ``attributes`` maps attribute names to canonical JSON scalars (text).
    ``entries`` are copied into the journal (a fork), numbered from 1.
    """

    run_id: str
    workflow: str
    version: str
    fingerprint: str
    queue: str
    input: Payload
    digest: str
    priority: int = 0
    delay_ms: int = 0
    parent_id: str | None = None
    parent_unit: str | None = None
    depth: int = 0
    attributes: Mapping[str, str] = attrs.field(factory=dict)
    deadline_ms: int | None = None
    entries: tuple[EntryRecord, ...] = ()
    owner: str | None = None
    lease_ms: int = 0
    epoch: int = 0

    @property
    def due_in_ms(self) -> int:
        """From its creation until it is due."""
        return self.delay_ms if self.owner is None else self.lease_ms

    @property
    def status(self) -> str:
        """What it is created as."""
        return "pending" if self.owner is None else "running"


@attrs.frozen(slots=True, kw_only=True)
class RunRecord:
    """Everything the store knows of a run, but for its journal and inbox.

    ``status`` is the recorded one (``kernel.run.RunStatus`` value). ``waiting`` is the kernel's
    JSON list of waits, ``failure`` the JSON of a ``Failure``. ``epoch`` 0 means never claimed;
    ``due_at_ms`` is None for an ended run and for one that only a message can move. ``deaths``
    counts takeovers from an expired owner since the last commit with entries. ``pin`` is the
    fingerprint a worker must have to claim the run (one parked as ``definition_changed``),
    usually None.
    """

    run_id: str
    workflow: str
    version: str
    fingerprint: str
    queue: str
    input: Payload
    digest: str
    priority: int
    parent_id: str | None
    parent_unit: str | None
    depth: int
    attributes: Mapping[str, str]
    deadline_ms: int | None
    created_at_ms: int
    updated_at_ms: int
    finished_at_ms: int | None
    status: str
    generation: int
    waiting: str | None
    failure: str | None
    entry_count: int
    epoch: int
    owner: str | None
    due_at_ms: int | None
    deaths: int
    pin: str | None

    @classmethod
    def of_new(cls, new: NewRun, now_ms: int) -> RunRecord:
        """The record of a run that is created now."""
        return cls(
            run_id=new.run_id,
            workflow=new.workflow,
            version=new.version,
            fingerprint=new.fingerprint,
            queue=new.queue,
            input=new.input,
            digest=new.digest,
            priority=new.priority,
            parent_id=new.parent_id,
            parent_unit=new.parent_unit,
            depth=new.depth,
            attributes=dict(new.attributes),
            deadline_ms=new.deadline_ms,
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            finished_at_ms=None,
            status=new.status,
            generation=1,
            waiting=None,
            failure=None,
            entry_count=len(new.entries),
            epoch=new.epoch,
            owner=new.owner,
            due_at_ms=now_ms + new.due_in_ms,
            deaths=0,
            pin=None,
        )


@attrs.define(slots=True, kw_only=True)
class EntryRecord:
    """One journal entry as stored. ``meta`` is the kernel's JSON; ``format`` its version."""

    seq: int
    kind: str
    unit: str
    attempt: int
    at_ms: int
    payload: Payload | None = None
    meta: str | None = None
    format: int = 1


@attrs.frozen(slots=True, kw_only=True)
class Message:
    """Something to put into a run's inbox: signal, resume, cancel, child's end, and so on.

    ``dedupe``: a second message of the same run with the same key changes nothing.
    ``token``: the message is accepted only once, only while that suspension token is open.
    ``reopens``: may be delivered to an ended run, which becomes live again (``retry``, rollback
    of a completed child), and lifts a live run's ``pin``. A run opened again is ``pending``,
    due at once, its generation as it was, ``waiting`` and ``failure`` None. ``anyone``: any
    worker may claim the run for it, whatever its queue, known workflow or not; the run's next
    claim, by whomever, ends that.
    """

    run_id: str
    kind: str
    name: str = ""
    payload: Payload | None = None
    meta: str | None = None
    dedupe: str | None = None
    token: str | None = None
    reopens: bool = False
    anyone: bool = False


@attrs.frozen(slots=True, kw_only=True)
class InboxRecord:
    """A message that arrived and is not yet consumed; ``seq`` is its arrival number."""

    seq: int
    kind: str
    name: str
    at_ms: int
    payload: Payload | None = None
    meta: str | None = None


def payload_digest(payload: Payload | None) -> str:
    """What a store keeps of the payload that used a token; equal payloads have equal digests."""
    if payload is None:
        return "none"
    digest = hashlib.blake2b(digest_size=16)
    digest.update(payload.encoding.encode("utf-8", "surrogatepass"))
    digest.update(b"\x00")
    digest.update(payload.data)
    return digest.hexdigest()


class DeliverVerdict(enum.Enum):
    """What became of one message; where several would do, *unknown*, *duplicate* or *conflict*,
    *finished*, *stale*, *full* stand in this order."""

    DELIVERED = "delivered"
    DUPLICATE = "duplicate"
    """Its ``dedupe`` or ``token`` was used before, by an equal message or any deduped one."""
    CONFLICT = "conflict"
    """Its ``token`` was used before by a message with another payload."""
    STALE = "stale"
    """Its ``token`` is not one of the run's."""
    FINISHED = "finished"
    UNKNOWN = "unknown"
    FULL = "full"
    """The inbox holds ``inbox_limit`` messages already."""


@attrs.frozen(slots=True, kw_only=True)
class CreateResult:
    """``record`` is the new run or the one that was there before, ``created`` tells which."""

    created: bool
    record: RunRecord


@attrs.frozen(slots=True, kw_only=True)
class Kind:
    """A (workflow, version) a worker can advance, with the fingerprint of its definition."""

    workflow: str
    version: str
    fingerprint: str


@attrs.frozen(slots=True, kw_only=True)
class ClaimRequest:
    """What a worker asks for. ``worker`` becomes the owner of what is claimed, and is another
    one for every process and every start of a worker.

    At most ``limit`` runs of the given queues and kinds (or with an ``anyone`` message),
    highest priority first, ageing so that nothing starves. Runs with ``deaths`` of at least
    ``suspect_deaths`` are suspects, of which at most ``suspects`` are claimed. Entries beyond
    ``journal_limit`` of a run are left out; the engine pages them.
    """

    worker: str
    lease_ms: int
    limit: int
    queues: tuple[str, ...]
    kinds: tuple[Kind, ...]
    suspect_deaths: int = 3
    suspects: int = 1
    journal_limit: int = 2_000


@attrs.frozen(slots=True, kw_only=True)
class ClaimedRun:
    """One claimed run: its record (with the new epoch and deaths), journal prefix, whole inbox."""

    run: RunRecord
    entries: tuple[EntryRecord, ...]
    inbox: tuple[InboxRecord, ...]


@attrs.frozen(slots=True, kw_only=True)
class ClaimBatch:
    """``next_due_ms``: when, at the latest, the next claim by this worker could find something."""

    runs: tuple[ClaimedRun, ...]
    now_ms: int
    next_due_ms: int | None


@attrs.frozen(slots=True, kw_only=True)
class Lease:
    """The right to advance a run: its epoch, and the highest message number its holder knows."""

    run_id: str
    epoch: int
    seen: int = 0


@attrs.frozen(slots=True, kw_only=True)
class Release:
    """Give the run back: due at ``due_at_ms`` (None: only a message moves it), needing ``pin``."""

    due_at_ms: int | None
    pin: str | None = None


@attrs.define(slots=True, kw_only=True)
class Commit:
    """One run's transition; all of it lands, or none.

    Entries continue the journal after ``after_seq`` entries. Messages ``consumed`` leave the
    inbox (deduped ones leave a tombstone). ``children`` are created and ``messages`` delivered
    in the same transaction, whatever their inboxes hold; what cannot be delivered is dropped.
    ``waiting``, ``status``, ``generation`` and ``failure`` (JSON) replace the recorded ones.
    Closing a token makes an open one *stale*; of a used one it stays known what used it.
    With ``finished`` the run has ended: its lease row goes, an outcome stands, open tokens are
    closed. With ``release`` the lease is given up; otherwise the worker keeps it. With ``renews``
    the entries up to ``after_seq`` are removed: the journal begins with those of this commit.
    """

    run_id: str
    epoch: int
    after_seq: int
    status: str
    generation: int
    entries: tuple[EntryRecord, ...] = ()
    consumed: tuple[int, ...] = ()
    seen: int = 0
    children: tuple[NewRun, ...] = ()
    messages: tuple[Message, ...] = ()
    tokens_opened: tuple[str, ...] = ()
    tokens_closed: tuple[str, ...] = ()
    waiting: str | None = None
    failure: str | None = None
    finished: bool = False
    release: Release | None = None
    renews: bool = False


class CommitVerdict(enum.Enum):
    """What became of one commit."""

    APPLIED = "applied"
    FENCED = "fenced"
    """The epoch is not the current one, or the run has ended; nothing was written."""
    CONFLICT = "conflict"
    """The journal does not end at ``after_seq``; nothing was written."""


@attrs.frozen(slots=True, kw_only=True)
class CommitResult:
    """Verdicts in the order of the commits, and unseen messages of runs still held."""

    verdicts: tuple[CommitVerdict, ...]
    now_ms: int
    mail: Mapping[str, tuple[InboxRecord, ...]] = attrs.field(factory=dict)


@attrs.frozen(slots=True, kw_only=True)
class RenewResult:
    """``lost``: run ids whose epoch is no longer current. ``mail``: ids with unseen messages."""

    lost: frozenset[str]
    mail: frozenset[str]
    now_ms: int


@attrs.frozen(slots=True, kw_only=True)
class RunFilter:
    """Which runs to list, newest first; None means any. ``after`` is (created_at_ms, run_id)."""

    statuses: tuple[str, ...] | None = None
    workflow: str | None = None
    parent_id: str | None = None
    attributes: Mapping[str, str] = attrs.field(factory=dict)
    since_ms: int | None = None
    after: tuple[int, str] | None = None
    limit: int = 100


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
    """A transactional, set-based store; see the module's text for the rules."""

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
        """Lease due runs: epoch + 1, owner, due at now + lease. Sets status ``pending`` and
        ``suspended`` to ``running``."""
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
        not or, without entries, cannot be told from what came after: the lease is gone."""
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
