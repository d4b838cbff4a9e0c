"""Leases after the claim: renew them, read their mail, and learn what became of a commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from durable_core.store import (
    Commit,
    CommitVerdict,
    InboxRecord,
    Lease,
    RenewResult,
)

from . import queries
from .rows import Row, lease_columns, mail_from_rows, renewed
from .steps import Query, Steps


def renew(leases: Sequence[Lease], lease_ms: int, now_ms: int | None) -> Steps[RenewResult]:
    """The verb ``renew``. Of several runs, those in other hands are passed over."""
    rows = yield Query(queries.RENEW, (now_ms, lease_ms, *lease_columns(leases)))
    return renewed(leases, [row[1:] for row in rows[1:]], rows[0][0])


def inbox(
    leases: Sequence[Lease], now_ms: int | None
) -> Steps[Mapping[str, tuple[InboxRecord, ...]]]:
    """The verb ``inbox``."""
    rows = yield Query(queries.INBOX, (now_ms, *lease_columns(leases)))
    return mail_from_rows(rows)


def holds(lease: Lease) -> Steps[bool]:
    """Whether the fence holds; the lease row is locked, so it goes on holding."""
    rows = yield Query(queries.LOCK_LEASE, (lease.run_id,))
    return any(epoch == lease.epoch and owner is not None for epoch, owner in rows)


def settled(commits: Sequence[Commit]) -> Steps[tuple[CommitVerdict, ...]]:
    """The verb ``settled``. A commit in doubt may still be going on in the server: it holds the
    lock of its lease row until it is over, so that lock is taken first."""
    run_ids = [commit.run_id for commit in commits]
    live = {row[0]: row for row in (yield Query(queries.LOCK_LEASES, (run_ids,)))}
    ended = {row[0]: row for row in (yield Query(queries.READ_OUTCOMES, (run_ids,)))}
    firsts = [commit.after_seq + 1 for commit in commits]
    rows = yield Query(queries.WHO_WROTE, (run_ids, firsts))
    wrote: dict[int, int] = {number: epoch for number, epoch in rows}
    consumed = [(commit.run_id, seq) for commit in commits for seq in commit.consumed]
    there: set[Row] = set()
    if consumed:
        pairs = ([run_id for run_id, _ in consumed], [seq for _, seq in consumed])
        there = {tuple(row) for row in (yield Query(queries.STILL_THERE, pairs))}
    verdicts = []
    for number, commit in enumerate(commits, 1):
        held = live.get(commit.run_id)
        row = held or ended.get(commit.run_id)
        if commit.entries:
            landed = wrote.get(number) == commit.epoch
        else:
            left = [(commit.run_id, seq) in there for seq in commit.consumed]
            landed = row is not None and not any(left) and _left_behind(commit, row, held is None)
        if landed:
            verdicts.append(CommitVerdict.APPLIED)
        elif held is not None and (held[1], held[2] is None) == (commit.epoch, False):
            verdicts.append(CommitVerdict.CONFLICT)
        else:
            verdicts.append(CommitVerdict.FENCED)
    return tuple(verdicts)


def _left_behind(commit: Commit, row: Row, has_ended: bool) -> bool:
    """Whether things are as a commit without entries would have left them."""
    _, epoch, owner, entry_count, *facts = row
    given_up = commit.finished or commit.release is not None
    if commit.not_before_ms is not None and not given_up:
        return False
    return (
        epoch == commit.epoch
        and has_ended == commit.finished
        and (owner is None) == given_up
        and entry_count == commit.after_seq
        and facts == [commit.status, commit.generation, commit.waiting, commit.failure]
    )
