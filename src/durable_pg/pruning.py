"""Pruning: ended runs are removed whole, a batch in one call of a function."""

from __future__ import annotations

from . import queries
from .steps import Query, Steps


def prune(before_ms: int, statuses: tuple[str, ...] | None, limit: int) -> Steps[int]:
    """The verb ``prune``."""
    wanted = None if statuses is None else list(statuses)
    ((removed,),) = yield Query(queries.PRUNE, (before_ms, wanted, limit))
    return int(removed)
