"""Committing: transitions of runs whose lease rows are locked, written in sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from durable_core.store import Commit, CommitResult, CommitVerdict

from ..rows import Row, columns, entry_row, lease_columns, mail_from_rows
from ..steps import Query, Steps
from ..writing import applied_of, in_rounds, newest_leases
from . import queries
from .creating import insert, time_of
from .delivering import deliver


def commit(commits: Sequence[Commit], now_ms: int | None) -> Steps[CommitResult]:
    """The verb ``commit``."""
    # Locked first: the time is read when all that could be waited for was waited for.
    yield Query(queries.LOCK_LEASES, ([one.run_id for one in commits],))
    now = yield from time_of(now_ms)
    verdicts = yield from in_rounds(commits, lambda round_: _apply(round_, now))
    applied = applied_of(commits, verdicts)
    yield from insert([child for one in applied for child in one.children], now)
    messages = [message for one in applied for message in one.messages]
    if messages:
        yield from deliver(messages, now, None)
    mail = yield Query(queries.READ_MAIL, lease_columns(newest_leases(applied)))
    return CommitResult(verdicts=tuple(verdicts), now_ms=now, mail=mail_from_rows(mail))


def _apply(commits: Sequence[Commit], now: int) -> Steps[Sequence[CommitVerdict]]:
    """Of different runs."""
    run_ids = [one.run_id for one in commits]
    rows = yield Query(queries.LOCK_LEASES, (run_ids,))
    leases = {row[0]: row for row in rows}
    by_time = [one for one in commits if one.not_before_ms is not None]
    unheard: set[str] = (yield from _unheard(by_time)) if by_time else set()
    verdicts = [_verdict(one, leases.get(one.run_id), now, unheard) for one in commits]
    applied = applied_of(commits, verdicts)
    yield from _write(applied)
    unseen = yield from _unseen(applied, leases)
    yield from _progress([one for one in applied if not one.finished], unseen, now)
    yield from _finish([one for one in applied if one.finished], unseen, now)
    return verdicts


def _unheard(by_time: Sequence[Commit]) -> Steps[set[str]]:
    """Runs with messages that their holders have not seen, in their inbox or on their way."""
    known = columns([(one.run_id, one.seen) for one in by_time], 2)
    in_inbox = yield Query(queries.UNSEEN, known)
    posted = yield Query(queries.POSTED_TO, (known[0],))
    return {row[0] for row in (*in_inbox, *posted)}


def _verdict(one: Commit, lease: Row | None, now: int, unheard: Set[str]) -> CommitVerdict:
    if lease is None:
        return CommitVerdict.FENCED
    _, epoch, _, entry_count, owner, _ = lease
    if owner is None or epoch != one.epoch:
        return CommitVerdict.FENCED
    if entry_count != one.after_seq:
        return CommitVerdict.CONFLICT
    if one.not_before_ms is not None:
        if now < one.not_before_ms:
            return CommitVerdict.EARLY
        if one.run_id in unheard:
            return CommitVerdict.UNHEARD
    return CommitVerdict.APPLIED


def _write(applied: Sequence[Commit]) -> Steps[None]:
    """Entries, consumed messages, tokens."""
    entries = [
        (one.run_id, one.epoch, *entry_row(entry)) for one in applied for entry in one.entries
    ]
    renewed = [(one.run_id, one.after_seq) for one in applied if one.renews]
    if renewed:
        yield Query(queries.REMOVE_ENTRIES, columns(renewed, 2))
    if entries:
        yield Query(queries.INSERT_ENTRIES, columns(entries, 11))
    consumed = [(one.run_id, seq) for one in applied for seq in one.consumed]
    if consumed:
        yield Query(queries.CONSUME, columns(consumed, 2))
    opened = [(one.run_id, token) for one in applied for token in one.tokens_opened]
    if opened:
        yield Query(queries.OPEN_TOKENS, columns(opened, 2))
    closed = [(one.run_id, token) for one in applied for token in one.tokens_closed]
    if closed:
        yield Query(queries.CLOSE_TOKENS, columns(closed, 2))


def _unseen(applied: Sequence[Commit], leases: Mapping[str, Row]) -> Steps[dict[str, bool]]:
    """Runs to be given up that have messages nobody has seen; and whether one of them reopens.
    The counter alone does not tell: of what was consumed under earlier epochs, the holder has
    seen nothing."""
    asked = [
        (one.run_id, one.seen)
        for one in applied
        if (one.finished or one.release is not None) and leases[one.run_id][2] > one.seen
    ]
    if not asked:
        return {}
    return {run_id: reopens for run_id, reopens in (yield Query(queries.UNSEEN, columns(asked, 2)))}


def _progress(going: Sequence[Commit], unseen: Mapping[str, bool], now: int) -> Steps[None]:
    rows = []
    for one in going:
        due, pin = None, ""
        if one.release is not None:
            due, pin = one.release.due_at_ms, one.release.pin or ""
            if one.run_id in unseen:  # what nobody has seen must not be slept over
                due = now if due is None else min(due, now)
        rows.append(
            (
                one.run_id,
                one.after_seq + len(one.entries),
                bool(one.entries),
                one.status,
                one.generation,
                one.waiting,
                one.failure,
                one.release is not None,
                due,
                pin,
            )
        )
    if rows:
        yield Query(queries.PROGRESS, (*columns(rows, 10), now))


def _finish(ended: Sequence[Commit], unseen: Mapping[str, bool], now: int) -> Steps[None]:
    if not ended:
        return
    yield Query(queries.CLOSE_ALL_TOKENS, ([one.run_id for one in ended],))
    anew = [
        (one.run_id, one.after_seq + len(one.entries), one.generation)
        for one in ended
        if unseen.get(one.run_id)
    ]
    if anew:
        yield Query(queries.BEGIN_ANEW, (*columns(anew, 3), now))
    outcomes = [
        (
            one.run_id,
            one.status,
            one.generation,
            one.waiting,
            one.failure,
            one.after_seq + len(one.entries),
        )
        for one in ended
        if not unseen.get(one.run_id)
    ]
    if outcomes:
        yield Query(queries.INSERT_OUTCOMES, (*columns(outcomes, 6), now))
        yield Query(queries.DELETE_LEASES, ([row[0] for row in outcomes],))
