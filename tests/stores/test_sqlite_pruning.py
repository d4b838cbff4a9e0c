"""Pruning on SQLite: all or nothing, in transactions of a bounded size, along one index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.stores.sqlite_kit import opened, plain

from durable_core.errors import DurableError
from durable_core.store import Message, Store
from durable_core.testing.contract_kit import (
    claim,
    commit_all,
    finish,
    new_run,
    signal,
    started,
    step,
)
from durable_sqlite import pruning, queries

EVER_MS = 1 << 60
TABLES = ("attribute", "entry", "inbox", "dedupe", "token", "outcome", "run")


async def ended(store: Store, run_id: str, **facts: Any) -> None:
    """A run that has left rows in every table, and ended."""
    await started(store, run_id, attributes={"a": "1"}, **facts)
    await commit_all(store, [step(run_id, tokens_opened=("t",))])
    await store.deliver([signal(run_id, token="t", dedupe="d"), signal(run_id)])
    await commit_all(store, [finish(run_id, after_seq=1, consumed=(1,), seen=2)])


def contents(path: Path) -> dict[str, list[Any]]:
    """All rows of all tables."""
    with plain(path) as connection:
        return {
            table: connection.execute(f"SELECT * FROM durable_{table}").fetchall()
            for table in (*TABLES, "lease")
        }


async def test_nothing_is_left_of_a_pruned_run(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as store:
        await ended(store, "a")
        assert all(contents(path)[table] for table in TABLES)
        assert await store.prune(before_ms=EVER_MS) == 1
        assert not any(contents(path).values())


@pytest.mark.parametrize("table", TABLES)
async def test_a_failure_in_the_middle_leaves_everything(tmp_path: Path, table: str) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as store:
        await ended(store, "a")
        await ended(store, "b")
        with plain(path) as connection:
            connection.execute(
                f"CREATE TRIGGER no BEFORE DELETE ON durable_{table} WHEN old.run_id = 'b' "
                "BEGIN SELECT RAISE (ABORT, 'not this one'); END"
            )
        before = contents(path)
        with pytest.raises(DurableError, match="not this one"):
            await store.prune(before_ms=EVER_MS)
        assert contents(path) == before
        with plain(path) as connection:
            connection.execute("DROP TRIGGER no")
        assert await store.prune(before_ms=EVER_MS) == 2


async def test_large_runs_are_removed_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "ENTRIES_MAX", 10)
    async with opened(tmp_path / "a.db") as store:
        for run_id, entries in {"a": 4, "b": 6, "c": 1, "d": 500, "e": 1}.items():
            await started(store, run_id)
            await commit_all(store, [finish(run_id, n=entries)])
        assert [await store.prune(before_ms=EVER_MS) for _ in range(5)] == [2, 1, 1, 1, 0]


async def test_the_search_for_what_may_go_reads_one_index(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path):
        pass
    with plain(path) as connection:
        facts = {"before_ms": 1, "statuses": None, "limit": 1}
        plan = connection.execute(f"EXPLAIN QUERY PLAN {queries.FIND_PRUNABLE}", facts).fetchall()
    details = [row[3] for row in plan]
    assert "COVERING INDEX durable_outcome_finished (finished_at_ms<?)" in details[0]
    assert not any("TEMP B-TREE" in detail for detail in details)


async def test_a_child_that_ends_again_is_still_its_parents(tmp_path: Path) -> None:
    """What pruning knows of a run's parent is written anew with each end."""
    async with opened(tmp_path / "a.db") as store:
        await started(store, "p")
        await started(store, "c", parent_id="p")
        await commit_all(store, [finish("c", status="failed")])
        await store.deliver([Message(run_id="c", kind="retry", reopens=True)])
        await claim(store)
        await commit_all(store, [finish("c", epoch=2, after_seq=1, consumed=(1,), seen=1)])
        assert await store.prune(before_ms=EVER_MS) == 0
        await commit_all(store, [finish("p")])
        assert [await store.prune(before_ms=EVER_MS) for _ in range(3)] == [1, 1, 0]


async def test_pruned_pages_are_used_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        for generation in range(3):
            runs = [f"{generation}-{n}" for n in range(200)]
            await store.create([new_run(run_id) for run_id in runs])
            await claim(store, limit=200)
            await commit_all(store, [finish(run_id, n=5) for run_id in runs])
            assert await store.prune(before_ms=EVER_MS) == 200
            with plain(tmp_path / "a.db") as connection:
                ((pages,),) = connection.execute("PRAGMA page_count").fetchall()
            if generation == 0:
                first = pages
        assert pages <= first * 1.2
