"""Pruning: ended runs are removed whole."""

from __future__ import annotations

from ..steps import Query, Steps
from . import queries

ENTRIES_MAX = 50_000
"""Entries that one transaction removes, and what the last run among them has beyond it."""


def prune(before_ms: int, statuses: tuple[str, ...] | None, limit: int) -> Steps[int]:
    """The verb ``prune``."""
    wanted = None if statuses is None else list(statuses)
    found = yield Query(queries.LOCK_PRUNABLE, (before_ms, wanted, limit))
    ids = [run_id for run_id, _ in found]
    reopened = {run_id for (run_id,) in (yield Query(queries.ABOUT_TO_REOPEN, (ids,)))}
    gone: list[str] = []
    entries = 0
    for run_id, entry_count in found:
        if entries < ENTRIES_MAX and run_id not in reopened:
            gone.append(run_id)
            entries += entry_count
    if gone:
        for statement in queries.DELETE_RUNS:
            yield Query(statement, (gone,))
    return len(gone)
