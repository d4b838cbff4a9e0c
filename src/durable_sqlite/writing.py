"""Writing: create, deliver and commit, as steps of one transaction.

A ``Batch`` is a unit of work. It reads the lease row of each run it touches once, works on it
in memory, and writes rows and entries back in bulk by ``flush``. Rules:

1. Everything but lease rows and entries is written at once, because later parts of the batch
   look at it; lease rows are looked at through the batch, entries not at all.
2. What a verdict other than *applied* stands for has written nothing.
3. The caller holds the write lock (``BEGIN IMMEDIATE``), so what was read stays true.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from durable_core.store import (
    Commit,
    CommitResult,
    CommitVerdict,
    CreateResult,
    DeliverVerdict,
    InboxRecord,
    Message,
    NewRun,
    RunRecord,
    payload_digest,
)

from . import queries
from .rows import (
    LeaseRow,
    Row,
    entry_to_row,
    inbox_from_row,
    lease_from_new,
    message_to_row,
    record_from_row,
    run_to_row,
)
from .steps import Many, Query, Steps


def create(runs: Sequence[NewRun], now_ms: int) -> Steps[tuple[CreateResult, ...]]:
    """The verb ``create``."""
    batch = Batch(now_ms)
    results = []
    for new in runs:
        created = yield from batch.create(new)
        if created:
            record = RunRecord.of_new(new, now_ms)
        else:
            (row,) = yield Query(queries.READ_RECORD, (new.run_id,))
            record = record_from_row(row)
        results.append(CreateResult(created=created, record=record))
    yield from batch.flush()
    return tuple(results)


def deliver(
    messages: Sequence[Message], now_ms: int, inbox_limit: int
) -> Steps[tuple[DeliverVerdict, ...]]:
    """The verb ``deliver``."""
    batch = Batch(now_ms)
    yield from batch.look_up([message.run_id for message in messages])
    verdicts = []
    for message in messages:
        verdicts.append((yield from batch.deliver(message, inbox_limit)))
    yield from batch.flush()
    return tuple(verdicts)


def commit(commits: Sequence[Commit], now_ms: int) -> Steps[CommitResult]:
    """The verb ``commit``; the mail is read when all of them are applied."""
    batch = Batch(now_ms)
    yield from batch.look_up([one.run_id for one in commits])
    verdicts = yield from batch.commit(commits)
    yield from batch.flush()
    seen: dict[str, int] = {}
    for one, verdict in zip(commits, verdicts, strict=True):
        if verdict is CommitVerdict.APPLIED:
            seen[one.run_id] = max(one.seen, seen.get(one.run_id, 0))
    mail: dict[str, tuple[InboxRecord, ...]] = {}
    for run_id, known in seen.items():
        row = yield from batch.lease(run_id)
        if row is not None and row.owner is not None and row.arrived > known:
            unseen = yield Query(queries.READ_INBOX, (run_id, known))
            if unseen:
                mail[run_id] = tuple(map(inbox_from_row, unseen))
    return CommitResult(verdicts=verdicts, now_ms=now_ms, mail=mail)


class Batch:
    """One transaction's work; ``flush`` ends it."""

    def __init__(self, now_ms: int) -> None:
        self._now = now_ms
        self._leases: dict[str, LeaseRow | None] = {}
        self._entries: list[Row] = []

    def flush(self) -> Steps[None]:
        """Write back what was kept in memory."""
        if self._entries:
            yield Many(queries.INSERT_ENTRY, self._entries)
            self._entries = []
        rows = [row for row in self._leases.values() if row is not None]
        moved = [row.whole() for row in rows if row.moved]
        if moved:
            yield Many(queries.UPDATE_LEASE, moved)
        progressed = [row.progress() for row in rows if row.progressed and not row.moved]
        if progressed:
            yield Many(queries.UPDATE_PROGRESS, progressed)
        for row in rows:
            row.moved = row.progressed = False

    def look_up(self, run_ids: Sequence[str]) -> Steps[None]:
        """Read the lease rows of these by one statement; what it does not find is looked for
        again, by itself."""
        if len(run_ids) > 1:
            rows = yield Query(queries.READ_LEASES, (json.dumps(run_ids),))
            self._leases = {row[0]: LeaseRow(*row) for row in rows}

    def lease(self, run_id: str) -> Steps[LeaseRow | None]:
        """The run's lease row as this batch left it; None for an unknown or ended run."""
        if run_id not in self._leases:
            rows = yield Query(queries.READ_LEASE, (run_id,))
            self._leases[run_id] = LeaseRow(*rows[0]) if rows else None
        return self._leases[run_id]

    # --- create ------------------------------------------------------------------------------

    def create(self, new: NewRun) -> Steps[bool]:
        """True if the run was not there yet."""
        if not (yield Query(queries.INSERT_RUN, run_to_row(new, self._now))):
            return False
        row = lease_from_new(new, self._now)
        self._leases[new.run_id] = row
        yield Query(queries.INSERT_LEASE, row.columns())
        self._entries += [entry_to_row(new.run_id, 0, entry) for entry in new.entries]
        if new.attributes:
            attributes = [(*item, self._now, new.run_id) for item in new.attributes.items()]
            yield Many(queries.INSERT_ATTRIBUTE, attributes)
        return True

    # --- deliver -----------------------------------------------------------------------------

    def deliver(self, message: Message, inbox_limit: int | None) -> Steps[DeliverVerdict]:
        """Answers are looked for in this order: known, used before, ended, stale, full."""
        row = live = yield from self.lease(message.run_id)
        if row is None:
            ended = yield Query(queries.READ_ENDED, (message.run_id,))
            if not ended:
                return DeliverVerdict.UNKNOWN
            row = LeaseRow(*ended[0])
        verdict = yield from self._used_before(message)
        if verdict is not None:
            return verdict
        if live is None and not message.reopens:
            return DeliverVerdict.FINISHED
        if message.token is not None and not (
            yield Query(queries.READ_TOKEN, (message.run_id, message.token))
        ):
            return DeliverVerdict.STALE
        # Only a run that ever got so many messages can have so many now.
        if inbox_limit is not None and row.arrived >= inbox_limit:
            ((count,),) = yield Query(queries.COUNT_INBOX, (message.run_id,))
            if count >= inbox_limit:
                return DeliverVerdict.FULL
        if live is None:
            yield from self._reopen(row)
        yield from self._put(message, row)
        return DeliverVerdict.DELIVERED

    def _used_before(self, message: Message) -> Steps[DeliverVerdict | None]:
        if message.token is not None:
            used = yield Query(queries.READ_TOKEN, (message.run_id, message.token))
            if used and used[0][0] is not None:
                same = used[0][0] == payload_digest(message.payload)
                return DeliverVerdict.DUPLICATE if same else DeliverVerdict.CONFLICT
        if message.dedupe is not None:
            ((used,),) = yield Query(queries.HAS_DEDUPE, (message.run_id, message.dedupe))
            if used:
                return DeliverVerdict.DUPLICATE
        return None

    def _put(self, message: Message, row: LeaseRow) -> Steps[None]:
        """Into the inbox, and make the run due if nobody holds it: one transaction."""
        row.arrived += 1
        row.progressed = True
        yield Query(queries.INSERT_MESSAGE, message_to_row(message, row.arrived, self._now))
        if message.dedupe is not None:
            yield Query(queries.INSERT_DEDUPE, (message.run_id, message.dedupe))
        if message.token is not None:
            digest = payload_digest(message.payload)
            yield Query(queries.USE_TOKEN, (digest, message.run_id, message.token))
        if message.anyone:
            row.anyone, row.moved = 1, True
        if row.pin:
            row.pin, row.moved = "", True
        if row.owner is None:
            row.wake(self._now)

    def _reopen(self, row: LeaseRow) -> Steps[None]:
        """An ended run becomes live again; ``row`` came from its outcome."""
        self._open_again(row)
        yield Query(queries.DELETE_OUTCOME, (row.run_id,))
        yield Query(queries.INSERT_LEASE, row.columns())
        self._leases[row.run_id] = row

    def _open_again(self, row: LeaseRow) -> None:
        row.status, row.waiting, row.failure = "pending", None, None
        row.owner, row.deaths, row.pin = None, 0, ""
        row.updated_at_ms = self._now
        row.wake(self._now)

    # --- commit ------------------------------------------------------------------------------

    def commit(self, commits: Sequence[Commit]) -> Steps[tuple[CommitVerdict, ...]]:
        """First all transitions, then their children, then their messages."""
        verdicts, applied = [], []
        for one in commits:
            verdict = yield from self._apply(one)
            verdicts.append(verdict)
            if verdict is CommitVerdict.APPLIED:
                applied.append(one)
        for one in applied:
            for child in one.children:
                yield from self.create(child)
        for one in applied:
            for message in one.messages:
                yield from self.deliver(message, None)
        return tuple(verdicts)

    def _apply(self, one: Commit) -> Steps[CommitVerdict]:
        """One transition, whole or not at all; what comes of it for other runs is not part."""
        row = yield from self.lease(one.run_id)
        if row is None or row.owner is None or row.epoch != one.epoch:
            return CommitVerdict.FENCED
        if row.entry_count != one.after_seq:
            return CommitVerdict.CONFLICT
        if one.not_before_ms is not None:
            if self._now < one.not_before_ms:
                return CommitVerdict.EARLY
            if (yield from self._has_unseen(row, one)):
                return CommitVerdict.UNHEARD
        self._progress(row, one)
        if one.renews:
            yield Query(queries.REMOVE_ENTRIES, (one.run_id, one.after_seq))
        if one.consumed:
            yield Many(queries.CONSUME, [(one.run_id, seq) for seq in one.consumed])
        if one.tokens_opened:
            yield Many(queries.OPEN_TOKEN, [(one.run_id, token) for token in one.tokens_opened])
        if one.tokens_closed:
            yield Many(queries.CLOSE_TOKEN, [(one.run_id, token) for token in one.tokens_closed])
        if one.finished:
            yield from self._finish(row, one)
        elif one.release is not None:
            yield from self._release(row, one)
        return CommitVerdict.APPLIED

    def _progress(self, row: LeaseRow, one: Commit) -> None:
        if one.entries:
            self._entries += [entry_to_row(one.run_id, one.epoch, entry) for entry in one.entries]
            row.entry_count += len(one.entries)
            if row.deaths:
                row.deaths, row.moved = 0, True
        row.status, row.generation = one.status, one.generation
        row.waiting, row.failure = one.waiting, one.failure
        row.updated_at_ms = self._now
        row.progressed = True

    def _release(self, row: LeaseRow, one: Commit) -> Steps[None]:
        """Give the run back; what nobody has seen yet must not be slept over."""
        assert one.release is not None
        row.owner, row.due_at_ms = None, one.release.due_at_ms
        row.pin = one.release.pin or ""
        row.moved = True
        if (yield from self._has_unseen(row, one)):
            row.wake(self._now)

    def _has_unseen(self, row: LeaseRow, one: Commit) -> Steps[bool]:
        """The counter alone does not tell: of what was consumed under earlier epochs, the holder
        has seen nothing."""
        if row.arrived <= one.seen:
            return False
        ((unseen,),) = yield Query(queries.HAS_UNSEEN, (one.run_id, one.seen))
        return bool(unseen)

    def _finish(self, row: LeaseRow, one: Commit) -> Steps[None]:
        """The lease row goes and an outcome stands, unless an unseen message opens it again."""
        yield Query(queries.CLOSE_TOKENS, (one.run_id,))
        if row.arrived > one.seen:
            ((reopened,),) = yield Query(queries.HAS_REOPENER, (one.run_id, one.seen))
            if reopened:
                row.due_at_ms = None
                self._open_again(row)
                return
        yield Query(queries.INSERT_OUTCOME, row.outcome(self._now))
        yield Query(queries.DELETE_LEASE, (one.run_id,))
        self._leases[one.run_id] = None
