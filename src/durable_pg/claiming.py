"""Claiming: which due runs a worker takes, and when to look again; one call of a function."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from durable_core.store import (
    ClaimBatch,
    ClaimRequest,
    CommitVerdict,
    Delivery,
    Foreseen,
    Message,
)

from . import queries
from .rows import (
    claimed_from_row,
    commit_columns,
    has_consequences,
    lane_of,
    message_columns,
)
from .steps import Query, Steps
from .writing import COMMITS, DELIVERIES, commit


def claim(request: ClaimRequest, now_ms: int | None) -> Steps[ClaimBatch]:
    """The verb ``claim``."""
    lanes = claimable(request)
    rows = yield Query(
        queries.CLAIM,
        (
            now_ms,
            request.worker,
            request.lease_ms,
            request.limit,
            [lane for lane, _ in lanes],
            [pin for _, pin in lanes],
            request.suspect_deaths,
            request.suspects,
            request.journal_limit,
            request.mark,
        ),
    )
    return ClaimBatch(
        runs=tuple([claimed_from_row(row[2:]) for row in rows[1:]]),
        now_ms=rows[0][0],
        next_due_ms=rows[0][1],
    )


def deliver_and_claim(
    messages: Sequence[Message],
    request: ClaimRequest,
    now_ms: int | None,
    inbox_limit: int,
    foreseen: Foreseen | None,
) -> Steps[Delivery]:
    """The verb ``deliver_and_claim``; as of ``deliver``, only what has a token waits. A commit that
    has consequences takes a statement of its own, and the caller's transaction around both."""
    lanes = claimable(request)
    parameters = (
        now_ms,
        inbox_limit,
        any(message.token is not None for message in messages),
        *message_columns(messages),
        request.worker,
        request.lease_ms,
        request.limit,
        [lane for lane, _ in lanes],
        [pin for _, pin in lanes],
        request.suspect_deaths,
        request.journal_limit,
        request.mark,
    )
    if foreseen is not None and not has_consequences(foreseen.commit):
        together = (
            *parameters,
            foreseen.after_epoch,
            foreseen.before_ms,
            *commit_columns([foreseen.commit]),
        )
        rows = yield Query(queries.DELIVER_AND_COMMIT, together)
        return Delivery(
            verdicts=tuple([DELIVERIES[verdict] for verdict in rows[0][1]]),
            runs=tuple([claimed_from_row(row[3:]) for row in rows[1:]]),
            now_ms=rows[0][0],
            foreseen=COMMITS[rows[0][2]],
        )
    known = () if foreseen is None else (yield from _last_lease(foreseen.run_id))
    rows = yield Query(queries.DELIVER_AND_CLAIM, parameters)
    delivery = Delivery(
        verdicts=tuple([DELIVERIES[verdict] for verdict in rows[0][1]]),
        runs=tuple([claimed_from_row(row[2:]) for row in rows[1:]]),
        now_ms=rows[0][0],
    )
    if foreseen is None:
        return delivery
    fits = any(foreseen.fits(epoch, delivery.now_ms) for epoch in known)
    return (yield from _with(foreseen, fits, delivery, now_ms, request.journal_limit))


def _last_lease(run_id: str) -> Steps[Sequence[int]]:
    """Its epoch, if the run is not locked by others, who may wait for whoever sends this; of one
    that has ended, too, since a message may open it again."""
    rows = yield Query(queries.LOCK_FREE_LEASE, (run_id,))
    if rows:
        return [rows[0][0]]
    return [row[1] for row in (yield Query(queries.READ_OUTCOMES, ([run_id],)))]


def _with(
    foreseen: Foreseen, fits: bool, delivery: Delivery, now_ms: int | None, journal_limit: int
) -> Steps[Delivery]:
    """The delivery, and the commit of a run that was leased by it. The others are read again: what
    it sends may be to one of them."""
    claimed = [each.run.run_id for each in delivery.runs]
    if not fits or foreseen.run_id not in claimed:
        return attrs.evolve(delivery, foreseen=CommitVerdict.FENCED)
    (landed,) = (yield from commit([foreseen.commit], now_ms)).verdicts
    if landed is not CommitVerdict.APPLIED:
        return attrs.evolve(delivery, foreseen=landed)
    claimed.remove(foreseen.run_id)
    rows = (yield Query(queries.CLAIMED, (claimed, journal_limit))) if claimed else ()
    return attrs.evolve(delivery, runs=tuple(map(claimed_from_row, rows)), foreseen=landed)


def claimable(request: ClaimRequest) -> list[tuple[int, str]]:
    """The lanes and pins this worker may claim from; '' is no pin."""
    return list(
        dict.fromkeys(
            (lane_of(queue, kind.workflow, kind.version), pin)
            for queue in request.queues
            for kind in request.kinds
            for pin in ("", kind.fingerprint)
        )
    )
