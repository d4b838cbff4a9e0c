"""Reading: records, pages of runs, journals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from durable_core.store import EntryRecord, RunFilter, RunRecord

from . import queries
from .rows import entry_from_row, record_from_row, value_hash
from .steps import Query, Steps

LOWEST, HIGHEST = -(2**63), 2**63 - 1


def get(run_ids: Sequence[str]) -> Steps[Mapping[str, RunRecord]]:
    """The verb ``get``."""
    rows = yield Query(queries.READ_RECORDS, (list(run_ids),))
    return {row[0]: record_from_row(row) for row in rows}


def journal(run_id: str, after_seq: int, limit: int) -> Steps[tuple[EntryRecord, ...]]:
    """The verb ``journal``."""
    rows = yield Query(queries.READ_ENTRIES, (run_id, after_seq, limit))
    return tuple(map(entry_from_row, rows))


def find(query: RunFilter) -> Steps[tuple[RunRecord, ...]]:
    """The verb ``find``: by the narrowest way into the data that the filter allows."""
    before_ms, before_id = query.after or (HIGHEST, "")
    attributes = dict(query.attributes)
    since_ms = LOWEST if query.since_ms is None else query.since_ms
    page = (before_ms, before_id, since_ms, query.workflow, query.limit)
    statuses = None if query.statuses is None else list(dict.fromkeys(query.statuses))
    others = (statuses, list(attributes), list(attributes.values()))
    if query.parent_id is not None:
        rows = yield Query(queries.FIND_CHILDREN, (*page, *others, query.parent_id))
    elif attributes:
        name, value = next(iter(attributes.items()))
        first = (name, value_hash(value), value)
        rows = yield Query(queries.FIND_ATTRIBUTE, (*page, *others, *first))
    elif statuses is not None:
        live = yield Query(queries.FIND_LIVE, (*page, statuses))
        ended = yield Query(queries.FIND_ENDED, (*page, statuses))
        rows = sorted((*live, *ended), key=lambda row: (row[14], row[0]), reverse=True)
    else:
        rows = yield Query(queries.FIND_NEWEST, page)
    return tuple(map(record_from_row, rows[: query.limit]))
