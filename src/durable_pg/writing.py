"""Writing: create, deliver and commit; each is one call of a function in the database.

Commits of one run in one batch are the exception: a function call applies transitions of
different runs, so a batch that names a run twice becomes several calls in one transaction. The
engine never sends one; the protocol allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from durable_core.store import (
    Commit,
    CommitResult,
    CommitVerdict,
    CreateResult,
    DeliverVerdict,
    Lease,
    Message,
    NewRun,
    RunRecord,
)

from . import queries
from .ring import NO_RING, Ring
from .rows import (
    commit_columns,
    consequence_columns,
    has_consequences,
    lease_columns,
    mail_from_rows,
    message_columns,
    new_run_columns,
    record_from_row,
)
from .steps import Query, Steps

DELIVERIES = (
    DeliverVerdict.DELIVERED,
    DeliverVerdict.DUPLICATE,
    DeliverVerdict.CONFLICT,
    DeliverVerdict.STALE,
    DeliverVerdict.FINISHED,
    DeliverVerdict.UNKNOWN,
    DeliverVerdict.FULL,
)
"""By the numbers that the functions answer with."""

COMMITS = (
    CommitVerdict.APPLIED,
    CommitVerdict.FENCED,
    CommitVerdict.CONFLICT,
    CommitVerdict.EARLY,
    CommitVerdict.UNHEARD,
)
"""By the numbers that the functions answer with."""


def create(
    runs: Sequence[NewRun], now_ms: int | None, ring: Ring | None = None
) -> Steps[tuple[CreateResult, ...]]:
    """The verb ``create``."""
    if not runs:
        return ()
    parameters = (now_ms, *new_run_columns(runs), *_columns(ring))
    rows = yield Query(queries.CREATE, parameters)
    if ring is not None:
        ring.sounds = rows[0][-1]
    made = {row[2]: row[1] for row in rows if row[0]}
    here = {row[2]: record_from_row(row[2:-1]) for row in rows if not row[0]}
    results = []
    for new in runs:
        at_ms = made.pop(new.run_id, None)
        if at_ms is not None:
            here[new.run_id] = RunRecord.of_new(new, at_ms)
        results.append(CreateResult(created=at_ms is not None, record=here[new.run_id]))
    return tuple(results)


def deliver(
    messages: Sequence[Message], now_ms: int | None, inbox_limit: int, ring: Ring | None = None
) -> Steps[tuple[DeliverVerdict, ...]]:
    """The verb ``deliver``. Only what a token makes exclusive waits for a locked run; the rest is
    posted to it."""
    if not messages:
        return ()
    wait = any(message.token is not None for message in messages)
    columns = message_columns(messages)
    parameters = (now_ms, inbox_limit, wait, *columns, *_columns(ring))
    ((verdicts, sounds),) = yield Query(queries.DELIVER, parameters)
    if ring is not None:
        ring.sounds = sounds
    return tuple(DELIVERIES[verdict] for verdict in verdicts)


def post(
    messages: Sequence[Message], now_ms: int | None, inbox_limit: int
) -> Steps[tuple[DeliverVerdict, ...]]:
    """The verb ``deliver`` in a caller's own transaction: nothing is locked, so nobody waits for
    the caller."""
    if not messages:
        return ()
    parameters = (now_ms, inbox_limit, *message_columns(messages))
    ((verdicts,),) = yield Query(queries.POST, parameters)
    return tuple(DELIVERIES[verdict] for verdict in verdicts)


def commit(commits: Sequence[Commit], now_ms: int | None) -> Steps[CommitResult]:
    """The verb ``commit``."""
    if names_a_run_twice(commits):
        return (yield from _commit_in_rounds(commits, now_ms))
    if any(map(has_consequences, commits)):
        parameters = (now_ms, *commit_columns(commits), *consequence_columns(commits))
        rows = yield Query(queries.COMMIT_ALL, parameters)
    else:
        rows = yield Query(queries.COMMIT_BATCH, (now_ms, *commit_columns(commits)))
    verdicts, at_ms = rows[0][0], rows[0][1]
    return CommitResult(
        verdicts=tuple([COMMITS[verdict] for verdict in verdicts or ()]),
        now_ms=at_ms,
        mail=mail_from_rows(row[2:] for row in rows[1:]) if len(rows) > 1 else {},
    )


def _columns(ring: Ring | None) -> tuple[str | None, str | None]:
    return NO_RING if ring is None else ring.columns()


def names_a_run_twice(commits: Sequence[Commit]) -> bool:
    """Whether the batch takes more than one call."""
    return len({one.run_id for one in commits}) < len(commits)


def in_rounds(
    commits: Sequence[Commit], apply: Callable[[Sequence[Commit]], Steps[Sequence[CommitVerdict]]]
) -> Steps[list[CommitVerdict]]:
    """Apply commits in rounds that have at most one commit of each run; verdicts in order."""
    left = list(enumerate(commits))
    verdicts: dict[int, CommitVerdict] = {}
    while left:
        first = {one.run_id: place for place, one in reversed(left)}
        round_ = [(place, one) for place, one in left if first[one.run_id] == place]
        left = [(place, one) for place, one in left if first[one.run_id] != place]
        found = yield from apply([one for _, one in round_])
        verdicts.update(zip([place for place, _ in round_], found, strict=True))
    return [verdicts[place] for place in range(len(commits))]


def _commit_in_rounds(commits: Sequence[Commit], now_ms: int | None) -> Steps[CommitResult]:
    """Children and messages follow when all transitions are through."""
    at_ms = 0

    def apply(round_: Sequence[Commit]) -> Steps[Sequence[CommitVerdict]]:
        nonlocal at_ms
        alone = [attrs.evolve(one, children=(), messages=()) for one in round_]
        result = yield from commit(alone, now_ms)
        at_ms = result.now_ms
        return result.verdicts

    verdicts = yield from in_rounds(commits, apply)
    applied = applied_of(commits, verdicts)
    yield from create([child for one in applied for child in one.children], now_ms)
    messages = [message for one in applied for message in one.messages]
    if messages:
        parameters = (now_ms, None, False, *message_columns(messages), *NO_RING)
        yield Query(queries.DELIVER, parameters)
    rows = yield Query(queries.INBOX, (now_ms, *lease_columns(newest_leases(applied))))
    return CommitResult(verdicts=tuple(verdicts), now_ms=at_ms, mail=mail_from_rows(rows))


def applied_of(commits: Sequence[Commit], verdicts: Sequence[CommitVerdict]) -> list[Commit]:
    """The commits that were applied."""
    pairs = zip(commits, verdicts, strict=True)
    return [one for one, verdict in pairs if verdict is CommitVerdict.APPLIED]


def newest_leases(applied: Sequence[Commit]) -> list[Lease]:
    """One lease for each run, with the highest message number that its commits have seen."""
    leases: dict[str, Lease] = {}
    for one in applied:
        known = leases[one.run_id].seen if one.run_id in leases else 0
        leases[one.run_id] = Lease(run_id=one.run_id, epoch=one.epoch, seen=max(one.seen, known))
    return list(leases.values())
