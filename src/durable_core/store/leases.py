"""Leases: what a worker asks for, gets, renews and gives back."""

from __future__ import annotations

import attrs

from .messages import InboxRecord
from .runs import EntryRecord, RunRecord

MARKS = 2**32
"""So many marks there are; far more than any run is claimed."""


def next_epoch(epoch: int, mark: int | None = None) -> int:
    """The one that a lease gets after this one; with a ``mark`` (of 32 bits), one that no other
    mark comes to: the next multiple of 2**32, and the mark."""
    return epoch + 1 if mark is None else (epoch // MARKS + 1) * MARKS + mark


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
    ``journal_limit`` of a run are left out; the engine pages them. The new epochs are
    ``next_epoch`` with this ``mark``, a random one for every call.
    """

    worker: str
    lease_ms: int
    limit: int
    queues: tuple[str, ...]
    kinds: tuple[Kind, ...]
    suspect_deaths: int = 3
    suspects: int = 1
    journal_limit: int = 2_000
    mark: int | None = None


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


@attrs.frozen(slots=True, kw_only=True)
class RenewResult:
    """``lost``: run ids whose epoch is no longer current. ``mail``: ids with unseen messages."""

    lost: frozenset[str]
    mail: frozenset[str]
    now_ms: int
