"""Rows and records: the protocol's records to columns of parameters, and rows to records; pure.

The functions of ``migrations`` take a batch as columns, one array for each: ``Columns`` builds
them. Numbers that refer to another array's row count from 1, as Postgres does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from durable_core.kernel.value import Payload
from durable_core.store import (
    ClaimedRun,
    Commit,
    EntryRecord,
    InboxRecord,
    Lease,
    Message,
    NewRun,
    RenewResult,
    RunRecord,
    payload_digest,
)

Row = Sequence[Any]
Columns = tuple[list[Any], ...]


def columns(rows: Sequence[Row], width: int) -> Columns:
    """Rows turned on their side."""
    return tuple(map(list, zip(*rows, strict=True))) if rows else tuple([] for _ in range(width))


# --- hashes ----------------------------------------------------------------------------------


def _hash(*texts: str) -> int:
    joined = "\x1f".join(texts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "big", signed=True)


@lru_cache(maxsize=4_096)
def lane_of(queue: str, workflow: str, version: str) -> int:
    """What claims select by, as one number of 64 bits."""
    return _hash(queue, workflow, version)


def value_hash(value: str) -> int:
    """What attributes are found by: their values may be too long for an index."""
    return _hash(value)


# --- records to columns ----------------------------------------------------------------------

NO_NEW_RUNS: Columns = tuple([] for _ in range(34))
NO_MESSAGES: Columns = tuple([] for _ in range(11))


def new_run_columns(runs: Sequence[NewRun]) -> Columns:
    """20 columns of the runs, 4 of their attributes, 10 of their entries."""
    if not runs:
        return NO_NEW_RUNS
    attributes = [
        (number, name, value, value_hash(value))
        for number, new in enumerate(runs, 1)
        for name, value in new.attributes.items()
    ]
    entries = [
        (number, *entry_row(entry)) for number, new in enumerate(runs, 1) for entry in new.entries
    ]
    return (
        *columns([_new_run_row(new) for new in runs], 20),
        *columns(attributes, 4),
        *columns(entries, 10),
    )


def _new_run_row(new: NewRun) -> Row:
    return (
        new.run_id,
        new.workflow,
        new.version,
        new.fingerprint,
        new.queue,
        lane_of(new.queue, new.workflow, new.version),
        new.input.data,
        new.input.encoding,
        new.digest,
        new.priority,
        new.due_in_ms,
        new.parent_id,
        new.parent_unit,
        new.depth,
        json.dumps(dict(new.attributes)) if new.attributes else "{}",
        new.deadline_ms,
        len(new.entries),
        new.owner,
        new.epoch,
        new.status,
    )


def entry_row(entry: EntryRecord) -> Row:
    """seq, kind, unit, attempt, at, payload, encoding, meta, format."""
    payload = entry.payload
    return (
        entry.seq,
        entry.kind,
        entry.unit,
        entry.attempt,
        entry.at_ms,
        None if payload is None else payload.data,
        None if payload is None else payload.encoding,
        entry.meta,
        entry.format,
    )


def message_columns(messages: Sequence[Message]) -> Columns:
    """11 columns."""
    if not messages:
        return NO_MESSAGES
    return columns([_message_row(message) for message in messages], 11)


def _message_row(message: Message) -> Row:
    payload = message.payload
    return (
        message.run_id,
        message.kind,
        message.name,
        None if payload is None else payload.data,
        None if payload is None else payload.encoding,
        message.meta,
        message.dedupe,
        message.token,
        None if message.token is None else payload_digest(payload),
        message.reopens,
        message.anyone,
    )


def commit_columns(commits: Sequence[Commit]) -> Columns:
    """15 columns of the commits, 12 of their entries, 3 of consumed messages: what every commit
    may have. They are of different runs."""
    entries = [
        (number, one.run_id, one.epoch, *entry_row(entry))
        for number, one in enumerate(commits, 1)
        for entry in one.entries
    ]
    consumed = [
        (number, one.run_id, seq) for number, one in enumerate(commits, 1) for seq in one.consumed
    ]
    return (
        *columns([_commit_row(one) for one in commits], 15),
        *columns(entries, 12),
        *columns(consumed, 3),
    )


def _commit_row(one: Commit) -> Row:
    release = one.release
    return (
        one.run_id,
        one.epoch,
        one.after_seq,
        len(one.entries),
        one.status,
        one.generation,
        one.seen,
        one.waiting,
        one.failure,
        one.finished,
        release is not None and not one.finished,
        None if release is None else release.due_at_ms,
        "" if release is None else release.pin or "",
        one.renews,
        one.not_before_ms,
    )


def consequence_columns(commits: Sequence[Commit]) -> Columns:
    """What few commits have: 4 columns of tokens, 1 + 34 of children, 1 + 11 of messages."""
    tokens = [
        (number, one.run_id, token, opened)
        for number, one in enumerate(commits, 1)
        for opened, these in ((True, one.tokens_opened), (False, one.tokens_closed))
        for token in these
    ]
    children = [(number, c) for number, one in enumerate(commits, 1) for c in one.children]
    messages = [(number, m) for number, one in enumerate(commits, 1) for m in one.messages]
    return (
        *columns(tokens, 4),
        [number for number, _ in children],
        *new_run_columns([child for _, child in children]),
        [number for number, _ in messages],
        *message_columns([message for _, message in messages]),
    )


def has_consequences(one: Commit) -> bool:
    """Whether a commit changes more than its run's journal, lease and inbox."""
    return bool(one.children or one.messages or one.tokens_opened or one.tokens_closed)


def lease_columns(leases: Sequence[Lease]) -> Columns:
    """run ids, epochs, seen."""
    return (
        [lease.run_id for lease in leases],
        [lease.epoch for lease in leases],
        [lease.seen for lease in leases],
    )


# --- rows to records -------------------------------------------------------------------------


def record_from_row(row: Row) -> RunRecord:
    """From the view "record"."""
    return RunRecord(
        run_id=row[0],
        workflow=row[1],
        version=row[2],
        fingerprint=row[3],
        queue=row[4],
        input=Payload(row[5], row[6]),
        digest=row[7],
        priority=row[8],
        parent_id=row[9],
        parent_unit=row[10],
        depth=row[11],
        attributes={} if row[12] == "{}" else json.loads(row[12]),
        deadline_ms=row[13],
        created_at_ms=row[14],
        updated_at_ms=row[15],
        finished_at_ms=row[16],
        status=row[17],
        generation=row[18],
        waiting=row[19],
        failure=row[20],
        entry_count=row[21],
        epoch=row[22],
        owner=row[23],
        due_at_ms=row[24],
        deaths=row[25],
        pin=row[26],
    )


RECORD_WIDTH = 27


def claimed_from_row(row: Row) -> ClaimedRun:
    """From "claim": a record, then journal and inbox as columns, null when empty."""
    entries, inbox = row[RECORD_WIDTH : RECORD_WIDTH + 9], row[RECORD_WIDTH + 9 :]
    return ClaimedRun(
        run=record_from_row(row),
        entries=tuple(map(entry_from_row, zip(*entries, strict=True))) if entries[0] else (),
        inbox=tuple(map(inbox_from_row, zip(*inbox, strict=True))) if inbox[0] else (),
    )


def entry_from_row(row: Row) -> EntryRecord:
    """seq, kind, unit, attempt, at, payload, encoding, meta, format."""
    seq, kind, unit, attempt, at_ms, data, encoding, meta, form = row
    return EntryRecord(
        seq=seq,
        kind=kind,
        unit=unit,
        attempt=attempt,
        at_ms=at_ms,
        payload=None if encoding is None else Payload(data, encoding),
        meta=meta,
        format=form,
    )


def inbox_from_row(row: Row) -> InboxRecord:
    """seq, kind, name, at, payload, encoding, meta."""
    seq, kind, name, at_ms, data, encoding, meta = row
    return InboxRecord(
        seq=seq,
        kind=kind,
        name=name,
        at_ms=at_ms,
        payload=None if encoding is None else Payload(data, encoding),
        meta=meta,
    )


def renewed(leases: Sequence[Lease], kept: Sequence[Row], now_ms: int) -> RenewResult:
    """From rows of run id, epoch and whether there is mail, one for each lease that holds."""
    held = {(run_id, epoch) for run_id, epoch, _ in kept}
    return RenewResult(
        lost=frozenset(lease.run_id for lease in leases if (lease.run_id, lease.epoch) not in held),
        mail=frozenset(run_id for run_id, _, mail in kept if mail),
        now_ms=now_ms,
    )


def mail_from_rows(rows: Iterable[Row]) -> dict[str, tuple[InboxRecord, ...]]:
    """Messages by run, from rows that begin with the run's id."""
    mail: dict[str, list[InboxRecord]] = {}
    for row in rows:
        mail.setdefault(row[0], []).append(inbox_from_row(row[1:]))
    return {run_id: tuple(records) for run_id, records in mail.items()}
