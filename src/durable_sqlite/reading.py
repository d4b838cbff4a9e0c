"""Reading: records, pages of runs, journals, as steps of one read transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from durable_core.store import EntryRecord, RunFilter, RunRecord

from . import queries
from .rows import entry_from_row, record_from_row
from .steps import Query, Steps

LOWEST, HIGHEST = -(2**63), 2**63 - 1


def get(run_ids: Sequence[str]) -> Steps[Mapping[str, RunRecord]]:
    """The verb ``get``."""
    found = {}
    for run_id in run_ids:
        for row in (yield Query(queries.READ_RECORD, (run_id,))):
            found[run_id] = record_from_row(row)
    return found


def journal(run_id: str, after_seq: int, limit: int) -> Steps[tuple[EntryRecord, ...]]:
    """The verb ``journal``."""
    rows = yield Query(queries.READ_ENTRIES, (run_id, after_seq, limit))
    return tuple(map(entry_from_row, rows))


def find(query: RunFilter) -> Steps[tuple[RunRecord, ...]]:
    """The verb ``find``: by the narrowest way into the data that the filter allows."""
    before_ms, before_id = query.after or (HIGHEST, "")
    attributes = dict(query.attributes)
    wanted: dict[str, Any] = {
        "before_ms": before_ms,
        "before_id": before_id,
        "since_ms": LOWEST if query.since_ms is None else query.since_ms,
        "workflow": query.workflow,
        "parent_id": query.parent_id,
        "statuses": None if query.statuses is None else json.dumps(query.statuses),
        "attributes": json.dumps(attributes),
        "limit": query.limit,
    }
    if query.parent_id is not None:
        rows = yield Query(queries.FIND_CHILDREN, wanted)
    elif attributes:
        name, value = next(iter(attributes.items()))
        rows = yield Query(queries.FIND_ATTRIBUTE, {**wanted, "name": name, "value": value})
    elif query.statuses is not None:
        rows = yield from _by_status(query.statuses, wanted)
    else:
        rows = yield Query(queries.FIND_NEWEST, wanted)
    return tuple(map(record_from_row, rows[: query.limit]))


def _by_status(statuses: Sequence[str], wanted: Mapping[str, Any]) -> Steps[list[Any]]:
    """Live runs of these statuses and ended ones: each status is a range of an index."""
    rows = yield Query(queries.FIND_LIVE, wanted)
    for status in dict.fromkeys(statuses):
        rows += yield Query(queries.FIND_ENDED, {**wanted, "status": status})
    return sorted(rows, key=lambda row: (row[14], row[0]), reverse=True)
