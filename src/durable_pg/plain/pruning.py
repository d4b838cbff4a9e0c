"""Pruning: ended runs are removed whole."""

from __future__ import annotations

from ..steps import Query, Steps
from . import queries


def prune(before_ms: int, statuses: tuple[str, ...] | None, limit: int) -> Steps[int]:
    """The verb ``prune``."""
    wanted = None if statuses is None else list(statuses)
    found = yield Query(queries.LOCK_PRUNABLE, (before_ms, wanted, limit))
    gone = [run_id for (run_id,) in found]
    for (run_id,) in (yield Query(queries.ABOUT_TO_REOPEN, (gone,))):
        gone.remove(run_id)
    if gone:
        for statement in queries.DELETE_RUNS:
            yield Query(statement, (gone,))
    return len(gone)
