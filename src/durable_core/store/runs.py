"""Runs and journal entries, as they are kept."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from ..kernel.value import Payload


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
    fingerprint a worker must have to claim the run, usually None.
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
class CreateResult:
    """``record`` is the new run or the one that was there before, ``created`` tells which."""

    created: bool
    record: RunRecord


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
