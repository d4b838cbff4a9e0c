"""Creating: runs that are not there yet, as sets of rows."""

from __future__ import annotations

from collections.abc import Sequence

from durable_core.errors import StoreUnavailableError
from durable_core.store import CreateResult, NewRun, RunRecord

from ..queries import NOW, READ_RECORDS
from ..ring import Ring
from ..rows import columns, entry_row, new_run_columns, record_from_row, value_hash
from ..steps import Query, Steps
from . import queries


def time_of(now_ms: int | None) -> Steps[int]:
    """The given time, or the database's."""
    if now_ms is not None:
        return now_ms
    ((read,),) = yield Query(NOW)
    return int(read)


def create(
    runs: Sequence[NewRun], now_ms: int | None, ring: Ring | None = None
) -> Steps[tuple[CreateResult, ...]]:
    """The verb ``create``. It takes no ring along."""
    now = yield from time_of(now_ms)
    made = yield from insert(runs, now)
    others = [new.run_id for new in runs if new.run_id not in made]
    here = {}
    if others:
        rows = yield Query(READ_RECORDS, (others,))
        here = {row[0]: record_from_row(row) for row in rows}
    results = []
    for new in runs:
        created = made.pop(new.run_id, None) is not None
        if created:
            here[new.run_id] = RunRecord.of_new(new, now)
        if new.run_id not in here:
            raise StoreUnavailableError(
                f"run {new.run_id!r} was there, and was pruned before it could be read: start it "
                "again. Nothing was written."
            )
        results.append(CreateResult(created=created, record=here[new.run_id]))
    return tuple(results)


def insert(runs: Sequence[NewRun], now: int) -> Steps[dict[str, NewRun]]:
    """Insert, in the order of ids; gives those that were not there yet."""
    first: dict[str, NewRun] = {}
    for new in runs:
        first.setdefault(new.run_id, new)
    if not first:
        return {}
    parameters = (*new_run_columns(list(first.values()))[:17], now)
    rows = yield Query(queries.INSERT_RUNS, parameters)
    made = {run_id: first[run_id] for (run_id,) in rows}
    if not made:
        return made
    whole = new_run_columns(list(made.values()))
    leases = (whole[0], whole[5], whole[9], whole[10], *whole[16:20], now)
    yield Query(queries.INSERT_LEASES, leases)
    attributes = [
        (new.run_id, name, value, value_hash(value))
        for new in made.values()
        for name, value in new.attributes.items()
    ]
    if attributes:
        yield Query(queries.INSERT_ATTRIBUTES, (*columns(attributes, 4), now))
    entries = [(new.run_id, 0, *entry_row(one)) for new in made.values() for one in new.entries]
    if entries:
        yield Query(queries.INSERT_ENTRIES, columns(entries, 11))
    return made
