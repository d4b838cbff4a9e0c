"""Delivering: messages into the inboxes of locked runs; to others they are posted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from durable_core.kernel.value import Payload
from durable_core.store import DeliverVerdict, Message, payload_digest

from ..ring import Ring
from ..steps import Query, Steps
from . import queries
from .creating import time_of

Verdict = DeliverVerdict


@attrs.define(slots=True)
class Receiver:
    """A run whose lease row, or outcome row if it has ended, is locked."""

    arrived: int
    ended: bool


def deliver(
    messages: Sequence[Message],
    now_ms: int | None,
    inbox_limit: int | None,
    ring: Ring | None = None,
) -> Steps[tuple[DeliverVerdict, ...]]:
    """The verb ``deliver``. Only what a token makes exclusive waits for a locked run; it takes no
    ring along."""
    exclusive = [message.run_id for message in messages if message.token is not None]
    if exclusive:  # before anything else is in hand
        yield Query(queries.LOCK_LEASES, (exclusive,))
    receivers = yield from _lock(list(dict.fromkeys(message.run_id for message in messages)))
    now = yield from time_of(now_ms)
    yield from _route(receivers, now)
    verdicts = []
    for message in messages:
        receiver = receivers.get(message.run_id)
        if receiver is None:
            verdicts.append((yield from _post(message, now, inbox_limit)))
        else:
            verdicts.append((yield from _put(message, receiver, now, inbox_limit)))
    return tuple(verdicts)


def post(
    messages: Sequence[Message], now_ms: int | None, inbox_limit: int
) -> Steps[tuple[DeliverVerdict, ...]]:
    """The verb ``deliver`` in a caller's own transaction: nothing is locked."""
    now = yield from time_of(now_ms)
    verdicts = []
    for message in messages:
        verdicts.append((yield from _post(message, now, inbox_limit)))
    return tuple(verdicts)


def route(run_ids: Sequence[str], now: int) -> Steps[None]:
    """Put what was posted to these runs into their inboxes, as far as nobody holds them."""
    receivers = yield from _lock(run_ids)
    yield from _route(receivers, now)
    yield Query(queries.DROP_POSTED, (list(run_ids),))


def _lock(run_ids: Sequence[str]) -> Steps[dict[str, Receiver]]:
    rows = yield Query(queries.LOCK_FREE_LEASES, (list(run_ids),))
    receivers = {row[0]: Receiver(arrived=row[2], ended=False) for row in rows}
    others = [run_id for run_id in run_ids if run_id not in receivers]
    if others:
        for run_id, arrived in (yield Query(queries.LOCK_FREE_OUTCOMES, (others,))):
            receivers[run_id] = Receiver(arrived=arrived, ended=True)
    return receivers


def _route(receivers: dict[str, Receiver], now: int) -> Steps[None]:
    waiting = yield Query(queries.POSTED_TO, (list(receivers),))
    if not waiting:
        return
    rows = yield Query(queries.TAKE_POSTED, ([run_id for (run_id,) in waiting],))
    for row in sorted(rows, key=lambda row: int(row[0])):
        _, run_id, kind, name, data, encoding, meta, dedupe, token, _, reopens, anyone = row
        message = Message(
            run_id=run_id,
            kind=kind,
            name=name,
            payload=None if encoding is None else Payload(data, encoding),
            meta=meta,
            dedupe=dedupe,
            token=token,
            reopens=reopens,
            anyone=anyone,
        )
        yield from _put(message, receivers[run_id], now, None, kept=True)


def _put(
    message: Message, to: Receiver, now: int, limit: int | None, *, kept: bool = False
) -> Steps[DeliverVerdict]:
    """``kept``: it was acknowledged before, so it is refused only as a duplicate. Answers are
    looked for in this order: used before, ended, stale, full."""
    run_id, token, dedupe = message.run_id, message.token, message.dedupe
    digest = payload_digest(message.payload)
    is_open = False
    if token is not None:
        rows = yield Query(queries.READ_TOKEN, (run_id, token))
        is_open = bool(rows)
        if rows and rows[0][0] is not None:
            return Verdict.DUPLICATE if rows[0][0] == digest else Verdict.CONFLICT
    if dedupe is not None and (yield Query(queries.HAS_DEDUPE, (run_id, dedupe))):
        return Verdict.DUPLICATE
    if to.ended and not message.reopens and not kept:
        return Verdict.FINISHED
    if token is not None and not is_open:
        return Verdict.STALE
    if limit is not None and to.arrived >= limit:
        ((count,),) = yield Query(queries.COUNT_INBOX, (run_id,))
        if count >= limit:
            return Verdict.FULL
    to.arrived += 1
    yield from _receive(message, to, now)
    payload = message.payload
    data, encoding = (None, None) if payload is None else (payload.data, payload.encoding)
    facts = (message.kind, message.name, now, data, encoding, message.meta, message.reopens)
    yield Query(queries.INSERT_MESSAGE, (run_id, to.arrived, *facts))
    if dedupe is not None:
        yield Query(queries.INSERT_DEDUPE, (run_id, dedupe))
    if token is not None:
        yield Query(queries.USE_TOKEN, (run_id, token, digest))
    return Verdict.DELIVERED


def _receive(message: Message, to: Receiver, now: int) -> Steps[None]:
    """Count it, and wake the run or open it again."""
    if not to.ended:
        yield Query(queries.RECEIVE, (message.run_id, to.arrived, message.anyone, now))
    elif message.reopens:
        yield Query(queries.REOPEN, (message.run_id, now, to.arrived, message.anyone))
        yield Query(queries.DELETE_OUTCOME, (message.run_id,))
        to.ended = False
    else:
        yield Query(queries.RECEIVE_LATE, (message.run_id, to.arrived))


def _post(message: Message, now: int, limit: int | None) -> Steps[DeliverVerdict]:
    """No lock is taken or waited for, so the answer is what could be seen."""
    run_id, payload = message.run_id, message.payload
    state = yield Query(queries.POST_STATE, (run_id,))
    if not state:
        return Verdict.UNKNOWN
    ((ended, arrived),) = state
    posted = yield Query(queries.READ_POSTED, (run_id,))
    digest = None if message.token is None else payload_digest(payload)
    is_open = False
    if message.token is not None:
        tokens = yield Query(queries.READ_TOKEN, (run_id, message.token))
        is_open = bool(tokens)
        used = [used for (used,) in tokens] + [row[2] for row in posted if row[1] == message.token]
        if used and used[-1] is not None:
            return Verdict.DUPLICATE if used[-1] == digest else Verdict.CONFLICT
    if message.dedupe is not None and (
        message.dedupe in [row[0] for row in posted]
        or (yield Query(queries.HAS_DEDUPE, (run_id, message.dedupe)))
    ):
        return Verdict.DUPLICATE
    if ended and not message.reopens:
        return Verdict.FINISHED
    if message.token is not None and not is_open:
        return Verdict.STALE
    if limit is not None and arrived + len(posted) >= limit:
        ((count,),) = yield Query(queries.COUNT_INBOX, (run_id,))
        if count + len(posted) >= limit:
            return Verdict.FULL
    data, encoding = (None, None) if payload is None else (payload.data, payload.encoding)
    facts: Iterable[object] = (message.kind, message.name, data, encoding, message.meta)
    keys = (message.dedupe, message.token, digest, message.reopens, message.anyone)
    rows = yield Query(queries.POST, (run_id, *facts, *keys, now))
    return Verdict.DELIVERED if rows else Verdict.UNKNOWN
