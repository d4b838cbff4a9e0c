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
from .rows import LeaseRow, inbox_from_row
from .steps import Query, Steps


def renew(leases: Sequence[Lease], lease_ms: int, now_ms: int) -> Steps[RenewResult]:
    """The verb ``renew``. The counter tells cheaply that there is no mail; that there is some,
    only the inbox: a new holder does not know the numbers of what others consumed."""
    lost, mail = set(), set()
    for lease in leases:
        rows = yield Query(queries.RENEW, (now_ms + lease_ms, lease.run_id, lease.epoch))
        if not rows:
            lost.add(lease.run_id)
        elif rows[0][0] > lease.seen:
            ((unseen,),) = yield Query(queries.HAS_UNSEEN, (lease.run_id, lease.seen))
            if unseen:
                mail.add(lease.run_id)
    return RenewResult(lost=frozenset(lost), mail=frozenset(mail), now_ms=now_ms)


def inbox(leases: Sequence[Lease]) -> Steps[Mapping[str, tuple[InboxRecord, ...]]]:
    """The verb ``inbox``."""
    found: dict[str, tuple[InboxRecord, ...]] = {}
    for lease in leases:
        rows = yield Query(queries.HELD, (lease.run_id, lease.epoch))
        if rows and rows[0][0] > lease.seen:
            unseen = yield Query(queries.READ_INBOX, (lease.run_id, lease.seen))
            if unseen:
                found[lease.run_id] = tuple(map(inbox_from_row, unseen))
    return found


def holds(lease: Lease) -> Steps[bool]:
    """Whether the fence holds; called with the write lock held, so it goes on holding."""
    return bool((yield Query(queries.HELD, (lease.run_id, lease.epoch))))


def settled(commits: Sequence[Commit]) -> Steps[tuple[CommitVerdict, ...]]:
    """The verb ``settled``."""
    verdicts = []
    for commit in commits:
        verdicts.append((yield from _settled(commit)))
    return tuple(verdicts)


def _settled(commit: Commit) -> Steps[CommitVerdict]:
    rows = yield Query(queries.READ_LEASE, (commit.run_id,))
    live = LeaseRow(*rows[0]) if rows else None
    if commit.entries:
        first = yield Query(queries.WHO_WROTE, (commit.run_id, commit.after_seq + 1))
        landed = [epoch for (epoch,) in first] == [commit.epoch]
    else:
        landed = yield from _left_behind(commit, live)
    if landed:
        return CommitVerdict.APPLIED
    held = live is not None and live.owner is not None and live.epoch == commit.epoch
    return CommitVerdict.CONFLICT if held else CommitVerdict.FENCED


def _left_behind(commit: Commit, live: LeaseRow | None) -> Steps[bool]:
    """Whether things are as a commit without entries would have left them."""
    row = live
    if row is None:
        ended = yield Query(queries.READ_ENDED, (commit.run_id,))
        if not ended:
            return False
        row = LeaseRow(*ended[0])
    given_up = commit.finished or commit.release is not None
    if commit.not_before_ms is not None and not given_up:
        return False
    if (
        row.epoch != commit.epoch
        or (live is None) != commit.finished
        or (row.owner is None) != given_up
        or row.entry_count != commit.after_seq
        or (row.status, row.generation) != (commit.status, commit.generation)
        or (row.waiting, row.failure) != (commit.waiting, commit.failure)
    ):
        return False
    for seq in commit.consumed:
        ((there,),) = yield Query(queries.HAS_MESSAGE, (commit.run_id, seq))
        if there:
            return False
    return True
