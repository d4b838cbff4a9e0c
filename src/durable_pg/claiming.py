"""Claiming: which due runs a worker takes, and when to look again; one call of a function."""

from __future__ import annotations

from durable_core.store import ClaimBatch, ClaimRequest

from . import queries
from .rows import claimed_from_row, lane_of
from .steps import Query, Steps


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
