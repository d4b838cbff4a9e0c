"""Leases after the claim: renew them, read their mail; and the removal of ended runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from durable_core.store import InboxRecord, Lease, RenewResult

from ..rows import lease_columns, mail_from_rows, renewed
from ..steps import Query, Steps
from . import queries
from .creating import time_of
from .delivering import route


def renew(leases: Sequence[Lease], lease_ms: int, now_ms: int | None) -> Steps[RenewResult]:
    """The verb ``renew``. Of several runs, those in other hands are passed over."""
    lock = queries.LOCK_LEASES if len(leases) == 1 else queries.LOCK_FREE_LEASES
    rows = yield Query(lock, ([lease.run_id for lease in leases],))
    locked = {row[0] for row in rows}
    run_ids, epochs, seen = lease_columns([held for held in leases if held.run_id in locked])
    now = yield from time_of(now_ms)
    yield Query(queries.RENEW, (run_ids, epochs, now + lease_ms))
    return renewed(leases, (yield Query(queries.KEPT, (run_ids, epochs, seen))), now)


def inbox(
    leases: Sequence[Lease], now_ms: int | None
) -> Steps[Mapping[str, tuple[InboxRecord, ...]]]:
    """The verb ``inbox``."""
    held = lease_columns(leases)
    posted = yield Query(queries.POSTED_TO, (held[0],))
    if posted:
        now = yield from time_of(now_ms)
        yield from route([run_id for (run_id,) in posted], now)
    return mail_from_rows((yield Query(queries.READ_MAIL, held)))
