"""What came of it all: results, journals and the ledger, laid beside the closed form."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import Any

import pytest
from tests.torment.checker import Record, check_order, check_rollback, check_unit, drops, units_of
from tests.torment.mixed import expected_result, expected_units, fails, stages

from durable_core import Engine, JournalEntry, Run, RunFailed
from durable_core.codec.records import entry_from_record
from durable_core.engine.store_url import store_from
from durable_core.kernel.invariants import check_journal

LIVE = ("pending", "running", "suspended", "compensating")


async def all_ended(engine: Engine) -> bool:
    """Whether no run is on its way any more."""
    return [info async for info in engine.runs(status=LIVE, limit=1)] == []


async def what_is_wrong(
    engine: Engine,
    url: str,
    runs: Iterable[Run[Any]],
    records: Iterable[Record],
    killed: Collection[int],
) -> list[str]:
    """Where the books disagree, for all runs of ``MIXED`` by their numbers and their children."""
    runs = list(runs)
    wrong = await _check_runs(runs)
    books = {info.id: await engine.journal(info.id) async for info in engine.runs()}
    # By the one clock of this machine: a process that was stopped may be late to tell.
    records = sorted(records, key=itemgetter("at"))
    ledger, dropped = units_of(records), drops(records)
    for (run_id, _), unit in ledger.items():
        wrong += check_unit(unit, books[run_id], killed, dropped)
    for n, run in enumerate(runs):
        wanted = expected_units(n) if fails(n) else set()
        wrong += check_rollback(run.id, books[run.id], wanted, ledger)
        wrong += check_order(run.id, books[run.id], stages(n), ledger)
    await _check_invariants(url, books)
    return wrong


async def _check_runs(runs: Sequence[Run[Any]]) -> list[str]:
    """Whether every run ended as it had to."""
    wrong = []
    for n, run in enumerate(runs):
        wanted = "failed" if fails(n) else "completed"
        info = await run.info()
        if info.status != wanted:
            wrong.append(f"{run.id}: is {info.status}, not {wanted}: {await run.explain()}")
        elif wanted == "completed" and await run.result(timeout=5) != expected_result(n):
            wrong.append(f"{run.id}: gave {info.result}")
        elif wanted == "failed":
            with pytest.raises(RunFailed) as caught:
                await run.result(timeout=5)
            if caught.value.not_compensated:
                wrong.append(f"{run.id}: {caught.value}")
    return wrong


async def _check_invariants(url: str, books: dict[str, tuple[JournalEntry, ...]]) -> None:
    """The kernel's own rules, over every stored journal."""
    store = store_from(url)
    await store.open()
    try:
        for run_id, entries in books.items():
            records = await store.journal(run_id, limit=len(entries) + 1)
            check_journal(run_id, [entry_from_record(record) for record in records])
    finally:
        await store.close()
