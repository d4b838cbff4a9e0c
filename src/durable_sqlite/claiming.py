"""Claiming: which due runs a worker takes, and when to look again, as steps of one transaction.

Best first means lowest rank: the time since which a run is due, minus a minute for each step
of priority, so that priority is a head start and nothing starves. Within one queue, kind, pin
and priority the claim index holds the runs in that very order, so the best of each such group
are read from its head and the groups are merged here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

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

from . import queries
from .rows import LeaseRow, entry_from_row, inbox_from_row, record_from_row
from .steps import Many, Query, Steps
from .writing import Batch, commit

Pins: TypeAlias = dict[tuple[str, str], set[str]]
"""By workflow and version."""

AGEING_MS = 60_000
LOWEST_PRIORITY = -(2**63)


class Group(NamedTuple):
    """A range of the claim index this worker may claim from."""

    queue: str
    workflow: str
    version: str
    pin: str
    priority: int


class Candidate(NamedTuple):
    """A due run, ordered by rank."""

    rank: int
    run_id: str


def claim(request: ClaimRequest, now_ms: int) -> Steps[ClaimBatch]:
    """The verb ``claim``."""
    groups = yield from _groups(request)
    due = yield from _due(request, groups, now_ms)
    chosen = [candidate.run_id for candidate in sorted(due)[: request.limit]]
    yield from _take(chosen, request, now_ms)
    runs = yield from _read_all(chosen, request.journal_limit)
    next_due = yield from _next_due(request, groups)
    return ClaimBatch(runs=runs, now_ms=now_ms, next_due_ms=next_due)


def deliver_and_claim(
    messages: Sequence[Message],
    request: ClaimRequest,
    now_ms: int,
    *,
    inbox_limit: int,
    foreseen: Foreseen | None,
) -> Steps[Delivery]:
    """The verb ``deliver_and_claim``."""
    batch = Batch(now_ms)
    yield from batch.look_up([message.run_id for message in messages])
    verdicts, receivers = [], set()
    for message in messages:
        verdict = yield from batch.deliver(message, inbox_limit)
        verdicts.append(verdict)
        if verdict is DeliverVerdict.DELIVERED:
            receivers.add(message.run_id)
    pins, free = _fitting(request), []
    for run_id in receivers:
        row = yield from batch.lease(run_id)
        if row is not None and _may_take(row, request, pins, now_ms):
            assert row.due_at_ms is not None, "what is due has a due time"
            free.append(Candidate(row.due_at_ms - row.priority * AGEING_MS, run_id))
    yield from batch.flush()
    chosen = [candidate.run_id for candidate in sorted(free)[: request.limit]]
    yield from _take(chosen, request, now_ms)
    landed = None
    if foreseen is not None:
        landed = CommitVerdict.FENCED
        row = yield from batch.lease(foreseen.run_id)  # as it was before
        if row is not None and row.run_id in chosen and foreseen.fits(row.epoch, now_ms):
            (landed,) = (yield from commit([foreseen.commit], now_ms)).verdicts
        if landed is CommitVerdict.APPLIED:
            chosen.remove(foreseen.run_id)
    runs = yield from _read_all(chosen, request.journal_limit)
    return Delivery(verdicts=tuple(verdicts), runs=runs, now_ms=now_ms, foreseen=landed)


def _may_take(row: LeaseRow, request: ClaimRequest, pins: Pins, now_ms: int) -> bool:
    """Whether nobody has the run, and it is due, within reach and no suspect."""
    if row.owner is not None or row.due_at_ms is None or row.due_at_ms > now_ms:
        return False
    fits = row.queue in request.queues and row.pin in pins.get((row.workflow, row.version), ())
    return (fits or bool(row.anyone)) and row.deaths < request.suspect_deaths


def _take(chosen: Sequence[str], request: ClaimRequest, now_ms: int) -> Steps[None]:
    if chosen:
        until = now_ms + request.lease_ms
        facts = (request.mark, request.worker, request.worker, until, now_ms)
        yield Many(queries.TAKE, [(*facts, run_id) for run_id in chosen])


def _read_all(chosen: Sequence[str], journal_limit: int) -> Steps[tuple[ClaimedRun, ...]]:
    runs = []
    for run_id in chosen:
        runs.append((yield from _read(run_id, journal_limit)))
    return tuple(runs)


def _fitting(request: ClaimRequest) -> Pins:
    """The pins that fit each kind; '' is no pin."""
    pins: Pins = {}
    for kind in request.kinds:
        pins.setdefault((kind.workflow, kind.version), {""}).add(kind.fingerprint)
    return pins


def _groups(request: ClaimRequest) -> Steps[list[Group]]:
    """The groups that hold any run with a due time, whether due or not."""
    groups = []
    for queue in dict.fromkeys(request.queues):
        for (workflow, version), pins in _fitting(request).items():
            pin, priority = "", LOWEST_PRIORITY
            while True:
                after = (queue, workflow, version, pin, priority)
                rows = yield Query(queries.NEXT_GROUP, after)
                if not rows:
                    break
                ((pin, priority),) = rows
                if pin in pins:
                    groups.append(Group(queue, workflow, version, pin, priority))
    return groups


def _due(request: ClaimRequest, groups: list[Group], now_ms: int) -> Steps[set[Candidate]]:
    """The best of each group, of those for anyone, and of the suspects."""
    due: set[Candidate] = set()
    end = (now_ms, request.suspect_deaths, request.limit)
    for group in groups:
        rows = yield Query(queries.READY, (*group, *end))
        due.update(_candidates((run_id, at, group.priority) for run_id, at in rows))
    due.update(_candidates((yield Query(queries.READY_FOR_ANYONE, end))))
    suspects = yield from _suspects(request)
    ready = sorted(candidate for candidate, due_at_ms in suspects if due_at_ms <= now_ms)
    due.update(ready[: request.suspects])
    return due


def _candidates(rows: Iterable[tuple[str, int, int]]) -> Iterable[Candidate]:
    return (Candidate(at - priority * AGEING_MS, run_id) for run_id, at, priority in rows)


def _suspects(request: ClaimRequest) -> Steps[list[tuple[Candidate, int]]]:
    """Suspects within reach, each with its due time; there are never many."""
    pins = _fitting(request)
    found = []
    for row in (yield Query(queries.SUSPECTS, (request.suspect_deaths,))):
        run_id, due_at_ms, priority, queue, workflow, version, pin, anyone = row
        fits = queue in request.queues and pin in pins.get((workflow, version), ())
        if fits or anyone:
            found.append((Candidate(due_at_ms - priority * AGEING_MS, run_id), due_at_ms))
    return found


def _read(run_id: str, journal_limit: int) -> Steps[ClaimedRun]:
    (row,) = yield Query(queries.READ_RECORD, (run_id,))
    record = record_from_row(row)
    entries, inbox = [], []
    if record.entry_count:
        entries = yield Query(queries.READ_ENTRIES, (run_id, 0, journal_limit))
    if row[-1]:  # anything ever arrived
        inbox = yield Query(queries.READ_INBOX, (run_id, 0))
    return ClaimedRun(
        run=record,
        entries=tuple(map(entry_from_row, entries)),
        inbox=tuple(map(inbox_from_row, inbox)),
    )


def _next_due(request: ClaimRequest, groups: list[Group]) -> Steps[int | None]:
    """The earliest due time within reach, after this claim: the head of each group."""
    dues: list[int] = []
    for group in groups:
        rows = yield Query(queries.NEXT_DUE, (*group, request.suspect_deaths))
        dues += [at for (at,) in rows]
    rows = yield Query(queries.NEXT_DUE_FOR_ANYONE, (request.suspect_deaths,))
    dues += [at for (at,) in rows]
    if request.suspects > 0:
        dues += [at for _, at in (yield from _suspects(request))]
    return min(dues, default=None)
