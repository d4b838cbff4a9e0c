"""conn=: create and deliver inside the caller's own transaction."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from tests.stores.sqlite_kit import locked, nobody_holds_the_lock, opened, plain

from durable_core.errors import DurableError, SchemaVersionError, StoreUnavailableError
from durable_core.store import DeliverVerdict
from durable_core.testing.contract_kit import claim, ids, new_run, payload, signal, started
from durable_sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with plain(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE mine (x)")
    return tmp_path / "a.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with opened(path) as store:
        yield store


def mine(path: Path) -> list[Any]:
    with plain(path) as connection:
        return connection.execute("SELECT x FROM mine").fetchall()


async def test_the_callers_commit_commits_both(store: SqliteStore, path: Path) -> None:
    async with aiosqlite.connect(path) as conn:
        await conn.execute("INSERT INTO mine VALUES (1)")
        children = [new_run("a", attributes={"k": "1"}, entries=()), new_run("b")]
        results = await store.create([*children, new_run("a")], conn=conn)
        assert [result.created for result in results] == [True, True, False]
        verdicts = await store.deliver([signal("a", payload=payload("1"))] * 2, conn=conn)
        assert set(verdicts) == {DeliverVerdict.DELIVERED}
        assert conn.in_transaction
        assert await store.get(["a"]) == {}, "not before the caller commits"
        await conn.commit()
    assert mine(path) == [(1,)]
    batch = await claim(store)
    assert ids(batch) == ["a", "b"]
    assert [message.seq for message in batch.runs[0].inbox] == [1, 2]


async def test_the_callers_rollback_undoes_both(store: SqliteStore, path: Path) -> None:
    await store.create([new_run("r0", delay_ms=60_000)])
    before = await store.get(["r0"])
    async with aiosqlite.connect(path) as conn:
        await store.create([new_run()], conn=conn)
        await store.deliver([signal("r0"), signal()], conn=conn)
        await conn.execute("INSERT INTO mine VALUES (1)")
        await conn.rollback()
        assert not conn.in_transaction
    assert await store.get(["r0", "r1"]) == before
    assert mine(path) == []


async def test_the_callers_own_begin_is_respected(store: SqliteStore, path: Path) -> None:
    async with aiosqlite.connect(path, isolation_level=None) as conn:
        with pytest.raises(DurableError, match=r"autocommit.*BEGIN"):
            await store.create([new_run()], conn=conn)
        await conn.execute("BEGIN")
        await store.create([new_run()], conn=conn)
        await conn.execute("COMMIT")
        with pytest.raises(DurableError, match="autocommit"):
            await store.deliver([signal()], conn=conn)
    assert [record.run_id for record in (await store.get(["r1"])).values()] == ["r1"]
    assert await store.inbox([]) == {}


async def test_any_row_factory_will_do(store: SqliteStore, path: Path) -> None:
    def as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
        return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}

    for number, factory in enumerate([sqlite3.Row, as_dict]):
        async with aiosqlite.connect(path) as conn:
            conn.row_factory = factory  # type: ignore[assignment]
            await store.create([new_run(f"r{number}")], conn=conn)
            (again,) = await store.create([new_run(f"r{number}")], conn=conn)
            assert again.record.run_id == f"r{number}"
            assert conn.row_factory is factory
            await conn.commit()
    assert ids(await claim(store)) == ["r0", "r1"]


@pytest.mark.parametrize("conn", [object(), "conn", 1])
async def test_anything_else_is_refused(store: SqliteStore, conn: Any) -> None:
    with pytest.raises(DurableError, match=r"aiosqlite\.Connection"):
        await store.create([new_run()], conn=conn)


async def test_a_plain_sqlite3_connection_is_refused(store: SqliteStore, path: Path) -> None:
    with plain(path) as connection, pytest.raises(DurableError, match=r"not .*Connection"):
        await store.create([new_run()], conn=connection)


async def test_a_closed_connection_is_refused(store: SqliteStore, path: Path) -> None:
    async with aiosqlite.connect(path) as conn:
        pass
    with pytest.raises(DurableError, match="closed"):
        await store.create([new_run()], conn=conn)


async def test_another_database_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    async with aiosqlite.connect(tmp_path / "bare.db") as conn:
        with pytest.raises(SchemaVersionError, match="conn="):
            await store.create([new_run()], conn=conn)
    async with opened(tmp_path / "b.db"), aiosqlite.connect(tmp_path / "b.db") as conn:
        with pytest.raises(DurableError, match=r"b\.db.*a\.db"):
            await store.create([new_run()], conn=conn)
        await conn.rollback()


async def test_a_locked_database_is_not_waited_for(store: SqliteStore, path: Path) -> None:
    async with aiosqlite.connect(path, timeout=0) as conn:
        with locked(path), pytest.raises(StoreUnavailableError, match="locked"):
            await store.create([new_run()], conn=conn)
        await store.create([new_run()], conn=conn)
        await conn.rollback()


async def test_a_cancelled_call_leaves_the_transaction_to_the_caller(
    store: SqliteStore, path: Path
) -> None:
    for turns in range(0, 40, 3):
        async with aiosqlite.connect(path) as conn:
            await conn.execute("INSERT INTO mine VALUES (1)")
            task = asyncio.ensure_future(store.create([new_run()], conn=conn))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert conn.in_transaction
            await conn.rollback()
    assert mine(path) == []
    assert nobody_holds_the_lock(path)
    assert await store.get(["r1"]) == {}


async def test_the_connection_of_a_transaction_can_be_joined(store: SqliteStore) -> None:
    from durable_core.testing.contract_kit import lease, step

    await started(store)
    async with store.transaction(lease()) as transaction:
        await store.create([new_run("lost")], conn=transaction.conn)
    async with store.transaction(lease()) as transaction:
        await store.create([new_run("kept")], conn=transaction.conn)
        await transaction.commit(step())
    assert set(await store.get(["lost", "kept"])) == {"kept"}


async def test_a_join_is_noticed_by_the_stores_waiter(store: SqliteStore, path: Path) -> None:
    while await store.wait_for_work(0):
        pass
    async with aiosqlite.connect(path) as conn:
        await store.create([new_run()], conn=conn)
        assert not await store.wait_for_work(0)
        await conn.commit()
        assert await store.wait_for_work(10_000)
