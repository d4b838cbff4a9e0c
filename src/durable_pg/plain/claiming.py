"""Claiming: which due runs a worker takes, and when to look again.

The plainest form: all due runs within reach are ranked. It is right at any size; with very many
due at once the function does better.
"""

from __future__ import annotations

from collections.abc import Sequence

from durable_core.store import (
    ClaimBatch,
    ClaimedRun,
    ClaimRequest,
    CommitVerdict,
    DeliverVerdict,
    Delivery,
    Foreseen,
    Message,
)

from ..claiming import claimable
from ..queries import LOCK_LEASES, READ_RECORDS
from ..rows import Row, entry_from_row, inbox_from_row, record_from_row
from ..steps import Query, Steps
from . import queries
from .committing import commit
from .creating import time_of
from .delivering import deliver, route


def claim(request: ClaimRequest, now_ms: int | None) -> Steps[ClaimBatch]:
    """The verb ``claim``."""
    now = yield from time_of(now_ms)
    again = yield from _route(now)
    lanes = claimable(request)
    reach = ([lane for lane, _ in lanes], [pin for _, pin in lanes])
    chosen = yield from _choose(request, reach, now)
    yield from _take(chosen, request, now)
    runs = yield from _read(chosen, request.journal_limit)
    limits = (request.suspect_deaths, request.suspects)
    ((next_due,),) = yield Query(queries.NEXT_DUE, (*reach, *limits))
    times = [time for time in (next_due, again) if time is not None]
    return ClaimBatch(runs=runs, now_ms=now, next_due_ms=min(times, default=None))


def deliver_and_claim(
    messages: Sequence[Message],
    request: ClaimRequest,
    now_ms: int | None,
    inbox_limit: int,
    foreseen: Foreseen | None,
) -> Steps[Delivery]:
    """The verb ``deliver_and_claim``. What is locked by others now was posted to, as was any run
    that still has something posted: it is not claimed."""
    verdicts = yield from deliver(messages, now_ms, inbox_limit)
    now = yield from time_of(now_ms)
    receivers = [
        message.run_id
        for message, verdict in zip(messages, verdicts, strict=True)
        if verdict is DeliverVerdict.DELIVERED
    ]
    lanes = claimable(request)
    reach = ([lane for lane, _ in lanes], [pin for _, pin in lanes])
    limits = (request.suspect_deaths, request.limit)
    free = yield Query(queries.FREE, (*reach, now, *limits, receivers))
    chosen = [run_id for run_id, _ in free]
    fits = foreseen is not None and (yield from _fits(foreseen, chosen, now))
    yield from _take(chosen, request, now)
    landed = None
    if foreseen is not None:
        landed = CommitVerdict.FENCED
        if fits:
            (landed,) = (yield from commit([foreseen.commit], now)).verdicts
        if landed is CommitVerdict.APPLIED:
            chosen.remove(foreseen.run_id)
    runs = yield from _read(chosen, request.journal_limit)
    return Delivery(verdicts=verdicts, runs=runs, now_ms=now, foreseen=landed)


def _fits(foreseen: Foreseen, chosen: Sequence[str], now: int) -> Steps[bool]:
    """Of a run that is about to be leased: only such a one is locked by us."""
    if foreseen.run_id not in chosen:
        return False
    ((_, epoch, *_),) = yield Query(LOCK_LEASES, ([foreseen.run_id],))
    return foreseen.fits(epoch, now)


def _route(now: int) -> Steps[int | None]:
    """Put what was posted into inboxes. If some of it is left, tells when to look again: there
    is more, or it is for runs in other hands, and nobody tells us when these let go."""
    receivers = yield Query(queries.RECEIVERS)
    if not receivers:
        return None
    yield from route([run_id for (run_id,) in receivers], now)
    if not (yield Query(queries.ANY_POSTED)):
        return None
    return now + (100 if len(receivers) < 200 else 0)


def _choose(
    request: ClaimRequest, reach: tuple[list[int], list[str]], now: int
) -> Steps[list[str]]:
    """Ids of the runs to take, best first, locked; those that others hold are passed over."""
    at = (*reach, now, request.suspect_deaths)
    due = [*(yield Query(queries.DUE, (*at, request.limit)))]
    due += yield Query(queries.SUSPECTS, (*at, request.suspects))
    ranked = sorted((rank, run_id) for run_id, rank in due)
    return [run_id for _, run_id in ranked[: request.limit]]


def _take(chosen: list[str], request: ClaimRequest, now: int) -> Steps[None]:
    if chosen:
        until = now + request.lease_ms
        yield Query(queries.TAKE, (chosen, request.worker, until, now, request.mark))


def _read(chosen: list[str], journal_limit: int) -> Steps[tuple[ClaimedRun, ...]]:
    if not chosen:
        return ()
    records = {row[0]: record_from_row(row) for row in (yield Query(READ_RECORDS, (chosen,)))}
    journals: dict[str, list[Row]] = {run_id: [] for run_id in chosen}
    for row in (yield Query(queries.READ_JOURNALS, (chosen, journal_limit))):
        journals[row[0]].append(row[1:])
    inboxes: dict[str, list[Row]] = {run_id: [] for run_id in chosen}
    for row in (yield Query(queries.READ_INBOXES, (chosen,))):
        inboxes[row[0]].append(row[1:])
    return tuple(
        ClaimedRun(
            run=records[run_id],
            entries=tuple(map(entry_from_row, journals[run_id])),
            inbox=tuple(map(inbox_from_row, inboxes[run_id])),
        )
        for run_id in chosen
    )
