"""Pruning: the removal of old ended runs, as steps of one transaction."""

from __future__ import annotations

import json
from collections.abc import Sequence

from . import queries
from .steps import Query, Steps

ENTRIES_MAX = 50_000
"""Entries that one transaction removes, unless a single run has more: all writers wait for it."""


def prune(before_ms: int, statuses: Sequence[str] | None, limit: int) -> Steps[int]:
    """The verb ``prune``."""
    found = yield Query(
        queries.FIND_PRUNABLE,
        {
            "before_ms": before_ms,
            "statuses": None if statuses is None else json.dumps(statuses),
            "limit": limit,
        },
    )
    gone: list[str] = []
    entries = 0
    for run_id, entry_count in found:
        entries += entry_count
        if gone and entries > ENTRIES_MAX:
            break
        gone.append(run_id)
    if gone:
        for statement in queries.DELETE_RUNS:
            yield Query(statement, (json.dumps(gone),))
    return len(gone)
