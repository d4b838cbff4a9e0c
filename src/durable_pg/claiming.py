"""Claiming: which due runs a worker takes, and when to look again; one call of a function."""

from __future__ import annotations

from collections.abc import Sequence

from durable_core.store import ClaimBatch, ClaimRequest, Delivery, Message

from . import queries
from .rows import claimed_from_row, lane_of, message_columns
from .steps import Query, Steps
from .writing import DELIVERIES


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
    mark: int | None,
) -> Steps[Delivery]:
    """The verb ``deliver_and_claim``; as of ``deliver``, only what has a token waits."""
    lanes = claimable(request)
    rows = yield Query(
        queries.DELIVER_AND_CLAIM,
        (
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
            mark,
        ),
    )
    return Delivery(
        verdicts=tuple([DELIVERIES[verdict] for verdict in rows[0][1]]),
        runs=tuple([claimed_from_row(row[2:]) for row in rows[1:]]),
        now_ms=rows[0][0],
    )


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
