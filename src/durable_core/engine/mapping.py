"""Mapping: between what the kernel says and what the store keeps; pure, one function a shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ..codec.records import (
    entry_from_record,
    entry_to_record,
    facts_from_text,
    facts_to_text,
    failure_to_text,
    waits_to_text,
)
from ..kernel.event import MessageArrived
from ..kernel.journal import NO_JOURNAL, Journal
from ..kernel.limits import Limits
from ..kernel.outcome import ChildStart, Outgoing, Transition
from ..kernel.run import RunContext, RunStatus
from ..store import Commit, EntryRecord, InboxRecord, Lease, Message, NewRun, Release, RunRecord


class Parent(Protocol):
    """Of a run, what its children inherit."""

    @property
    def run_id(self) -> str:
        """Its id."""
        ...

    @property
    def queue(self) -> str:
        """Where it is claimed from."""
        ...

    @property
    def priority(self) -> int:
        """Before which others it is claimed."""
        ...

    @property
    def depth(self) -> int:
        """How many parents it has above it."""
        ...


def run_context(record: RunRecord, limits: Limits) -> RunContext:
    """The facts of a run, as the kernel wants them."""
    return RunContext(
        run_id=record.run_id,
        workflow=record.workflow,
        version=record.version,
        fingerprint=record.fingerprint,
        input=record.input,
        created_at_ms=record.created_at_ms,
        parent_id=record.parent_id,
        parent_unit=record.parent_unit,
        depth=record.depth,
        deadline_ms=record.deadline_ms,
        deaths=record.deaths,
        limits=limits,
    )


def message_arrived(record: InboxRecord) -> MessageArrived:
    """An inbox row as an event."""
    return MessageArrived(
        seq=record.seq,
        kind=record.kind,
        name=record.name,
        at_ms=record.at_ms,
        payload=record.payload,
        facts=facts_from_text(record.meta),
    )


def commit_of(
    transition: Transition, run: Parent, epoch: int, seen: int, not_before_ms: int | None = None
) -> Commit:
    """A transition as the store commits it. ``seen``: the newest message it was told of;
    ``not_before_ms``: the moment, where time decided it."""
    release = None
    if transition.release:
        release = Release(due_at_ms=transition.claim_at_ms)
    waiting, failure = texts_of(transition)
    return Commit(
        run_id=run.run_id,
        epoch=epoch,
        after_seq=transition.after_seq,
        status=transition.status.value,
        generation=transition.generation,
        entries=tuple([entry_to_record(entry) for entry in transition.entries]),
        consumed=transition.consumed,
        seen=seen,
        children=tuple([new_child(c, run) for c in transition.children])
        if transition.children
        else (),
        messages=tuple([message_of(m) for m in transition.messages]) if transition.messages else (),
        tokens_opened=transition.tokens_opened,
        tokens_closed=transition.tokens_closed,
        waiting=waiting,
        failure=failure,
        finished=transition.ended,
        release=release,
        renews=transition.renews,
        not_before_ms=not_before_ms,
    )


def texts_of(transition: Transition) -> tuple[str | None, str | None]:
    """What it waits for and why it fails, as the store keeps them."""
    waiting = waits_to_text(transition.waiting) if transition.waiting else None
    failure = None if transition.failure is None else failure_to_text(transition.failure)
    return waiting, failure


def hand_back(
    lease: Lease,
    *,
    status: str,
    generation: int,
    waiting: str | None,
    failure: str | None,
    after_seq: int,
    now_ms: int,
) -> Commit:
    """Give the run up as it stands, due at once."""
    if status == RunStatus.RUNNING.value:
        status = RunStatus.SUSPENDED.value
    return Commit(
        run_id=lease.run_id,
        epoch=lease.epoch,
        after_seq=after_seq,
        status=status,
        generation=generation,
        seen=lease.seen,
        waiting=waiting,
        failure=failure,
        release=Release(due_at_ms=now_ms),
    )


def hand_back_unused(record: RunRecord, *, seen: int, now_ms: int) -> Commit:
    """Give up a run on which nothing was done under its lease."""
    return hand_back(
        Lease(run_id=record.run_id, epoch=record.epoch, seen=seen),
        status=record.status,
        generation=record.generation,
        waiting=record.waiting,
        failure=record.failure,
        after_seq=record.entry_count,
        now_ms=now_ms,
    )


def new_child(child: ChildStart, parent: Parent) -> NewRun:
    """A child inherits its parent's queue and priority."""
    return NewRun(
        run_id=child.run_id,
        workflow=child.spec.workflow,
        version=child.spec.version,
        fingerprint=child.spec.fingerprint,
        queue=parent.queue,
        priority=parent.priority,
        input=child.spec.input,
        digest=child.spec.digest,
        parent_id=parent.run_id,
        parent_unit=str(child.unit),
        depth=parent.depth + 1,
    )


def message_of(outgoing: Outgoing) -> Message:
    """A message to another run."""
    return Message(
        run_id=outgoing.run_id,
        kind=outgoing.kind,
        name=outgoing.name,
        payload=outgoing.payload,
        meta=facts_to_text(outgoing.facts),
        dedupe=outgoing.dedupe,
        reopens=outgoing.reopens,
        anyone=outgoing.anyone,
    )


def journal_of(entries: Iterable[EntryRecord]) -> Journal:
    """The journal of these records. Raises ``EncodingError``."""
    known = [entry_from_record(entry) for entry in entries]
    return Journal(known) if known else NO_JOURNAL


def newest(records: Iterable[InboxRecord], seen: int) -> int:
    """The highest arrival number among these and ``seen``."""
    return max((record.seq for record in records), default=seen)
