"""Rows and records: the columns of ``queries`` to the protocol's records and back; pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs

from durable_core.kernel.value import Payload
from durable_core.store import EntryRecord, InboxRecord, Message, NewRun, RunRecord

Row = Sequence[Any]


@attrs.define(slots=True)
class LeaseRow:
    """A row of ``durable_lease`` while a transaction works on it, in column order.

    ``progressed`` and ``moved`` say what must be written back: the columns no index holds, or
    all of them.
    """

    run_id: str
    queue: str
    workflow: str
    version: str
    pin: str
    priority: int
    due_at_ms: int | None
    anyone: int
    deaths: int
    owner: str | None
    epoch: int
    arrived: int
    entry_count: int
    generation: int
    status: str
    waiting: str | None
    failure: str | None
    created_at_ms: int
    updated_at_ms: int
    progressed: bool = False
    moved: bool = False

    def columns(self) -> Row:
        """For INSERT_LEASE."""
        return (
            self.run_id,
            self.queue,
            self.workflow,
            self.version,
            self.pin,
            self.priority,
            self.due_at_ms,
            self.anyone,
            self.deaths,
            self.owner,
            self.epoch,
            self.arrived,
            self.entry_count,
            self.generation,
            self.status,
            self.waiting,
            self.failure,
            self.created_at_ms,
            self.updated_at_ms,
        )

    def progress(self) -> Row:
        """For UPDATE_PROGRESS."""
        return (
            self.arrived,
            self.entry_count,
            self.generation,
            self.status,
            self.waiting,
            self.failure,
            self.updated_at_ms,
            self.run_id,
        )

    def whole(self) -> Row:
        """For UPDATE_LEASE."""
        return (self.pin, self.due_at_ms, self.anyone, self.deaths, self.owner, *self.progress())

    def outcome(self, now_ms: int) -> Row:
        """For INSERT_OUTCOME."""
        return (
            self.run_id,
            self.status,
            self.generation,
            self.waiting,
            self.failure,
            self.entry_count,
            self.epoch,
            self.arrived,
            self.created_at_ms,
            now_ms,
        )

    def wake(self, now_ms: int) -> None:
        """Make the run due at once."""
        self.due_at_ms = now_ms if self.due_at_ms is None else min(self.due_at_ms, now_ms)
        self.moved = True


def lease_from_new(new: NewRun, now_ms: int) -> LeaseRow:
    """The lease row of a run that was just created."""
    return LeaseRow(
        run_id=new.run_id,
        queue=new.queue,
        workflow=new.workflow,
        version=new.version,
        pin="",
        priority=new.priority,
        due_at_ms=now_ms + new.due_in_ms,
        anyone=0,
        deaths=0,
        owner=new.owner,
        epoch=new.epoch,
        arrived=0,
        entry_count=len(new.entries),
        generation=1,
        status=new.status,
        waiting=None,
        failure=None,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
    )


def run_to_row(new: NewRun, now_ms: int) -> Row:
    """For INSERT_RUN."""
    return (
        new.run_id,
        new.workflow,
        new.version,
        new.fingerprint,
        new.queue,
        new.input.data,
        new.input.encoding,
        new.digest,
        new.priority,
        new.parent_id,
        new.parent_unit,
        new.depth,
        json.dumps(dict(new.attributes)) if new.attributes else "{}",
        new.deadline_ms,
        now_ms,
    )


def record_from_row(row: Row) -> RunRecord:
    """From the view ``durable_record``, whose last column only the claim looks at."""
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


def entry_to_row(run_id: str, epoch: int, entry: EntryRecord) -> Row:
    """For INSERT_ENTRY."""
    payload = entry.payload
    return (
        run_id,
        entry.seq,
        epoch,
        entry.kind,
        entry.unit,
        entry.attempt,
        entry.at_ms,
        None if payload is None else payload.data,
        None if payload is None else payload.encoding,
        entry.meta,
        entry.format,
    )


def entry_from_row(row: Row) -> EntryRecord:
    """From READ_ENTRIES."""
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


def message_to_row(message: Message, seq: int, now_ms: int) -> Row:
    """For INSERT_MESSAGE."""
    payload = message.payload
    return (
        message.run_id,
        seq,
        message.kind,
        message.name,
        now_ms,
        None if payload is None else payload.data,
        None if payload is None else payload.encoding,
        message.meta,
        int(message.reopens),
    )


def inbox_from_row(row: Row) -> InboxRecord:
    """From READ_INBOX."""
    seq, kind, name, at_ms, data, encoding, meta = row
    return InboxRecord(
        seq=seq,
        kind=kind,
        name=name,
        at_ms=at_ms,
        payload=None if encoding is None else Payload(data, encoding),
        meta=meta,
    )
