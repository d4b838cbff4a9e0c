"""Store.transaction on SQLite: the user's rows and the journal entry are one commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from tests.stores.sqlite_kit import locked, nobody_holds_the_lock, opened, plain

from durable_core.errors import DurableError, StoreUnavailableError
from durable_core.store import CommitVerdict
from durable_core.testing.contract_kit import commit_one, lease, new_run, started, step
from durable_sqlite import SqliteStore

INSERT = "INSERT INTO mine VALUES (?)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with plain(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE mine (x UNIQUE)")
    return tmp_path / "a.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    async with opened(path) as store:
        await started(store)
        yield store


def mine(path: Path) -> list[Any]:
    with plain(path) as connection:
        return [x for (x,) in connection.execute("SELECT x FROM mine ORDER BY x")]


async def test_the_users_rows_and_the_entry_are_one_commit(store: SqliteStore, path: Path) -> None:
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, (1,))
        await transaction.conn.executemany(INSERT, [(2,), (3,)])
        async with transaction.conn.execute("SELECT count(*) FROM mine") as cursor:
            assert await cursor.fetchone() == (3,)
        assert mine(path) == []
        assert await transaction.commit(step()) is CommitVerdict.APPLIED
        assert mine(path) == [1, 2, 3]
    assert len(await store.journal("r1")) == 1


async def test_without_the_commit_the_users_rows_are_gone(store: SqliteStore, path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.transaction(lease()) as transaction:
            await transaction.conn.execute(INSERT, (1,))
            raise ZeroDivisionError
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, (1,))
        verdict = await transaction.commit(step(after_seq=7))
        assert verdict is CommitVerdict.CONFLICT
        assert mine(path) == []
    assert mine(path) == []
    assert nobody_holds_the_lock(path)


async def test_other_verbs_wait_until_it_is_over(store: SqliteStore) -> None:
    async with store.transaction(lease()) as transaction:
        creating = asyncio.ensure_future(store.create([new_run("r2")]))
        assert await store.get(["r2"]) == {}
        await transaction.commit(step())
    assert (await creating)[0].created


async def by_cursor(conn: aiosqlite.Connection) -> None:
    async with conn.cursor() as cursor:
        await cursor.execute("COMMIT")


ENDINGS: dict[str, Callable[[aiosqlite.Connection], Awaitable[Any]]] = {
    "commit": lambda conn: conn.commit(),
    "rollback": lambda conn: conn.rollback(),
    "COMMIT": lambda conn: conn.execute("COMMIT"),
    "ROLLBACK": lambda conn: conn.execute_fetchall("ROLLBACK"),
    "BEGIN": lambda conn: conn.execute("BEGIN"),
    "script": lambda conn: conn.executescript("INSERT INTO mine VALUES (9);"),
    "cursor": by_cursor,
}


@pytest.mark.parametrize("how", ENDINGS)
async def test_the_user_cannot_end_it(store: SqliteStore, path: Path, how: str) -> None:
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, (1,))
        with pytest.raises(DurableError, match="ended by the store alone"):
            await ENDINGS[how](transaction.conn)
        assert mine(path) == []
        await transaction.commit(step())
    assert mine(path) == [1]


async def test_savepoints_are_fine(store: SqliteStore, path: Path) -> None:
    async with store.transaction(lease()) as transaction:
        conn = transaction.conn
        await conn.execute(INSERT, (1,))
        await conn.execute("SAVEPOINT inner")
        await conn.execute(INSERT, (2,))
        await conn.execute("ROLLBACK TO inner")
        await conn.execute("RELEASE inner")
        await transaction.commit(step())
    assert mine(path) == [1]


async def test_a_transaction_sqlite_undid_is_not_written_on(store: SqliteStore, path: Path) -> None:
    async with store.transaction(lease()) as transaction:
        conn = transaction.conn
        await conn.execute(INSERT, (1,))
        with pytest.raises(Exception, match="UNIQUE"):
            await conn.execute("INSERT OR ROLLBACK INTO mine VALUES (1)")
        for again in range(2):
            with pytest.raises(DurableError):
                await conn.execute(INSERT, (again,))
        with pytest.raises(DurableError, match="is over"):
            await transaction.commit(step())
    assert mine(path) == []
    assert await store.journal("r1") == ()


async def test_nothing_can_be_written_after_the_commit(store: SqliteStore, path: Path) -> None:
    async with store.transaction(lease()) as transaction:
        await transaction.commit(step())
        with pytest.raises(DurableError):
            await transaction.conn.execute(INSERT, (1,))
        with pytest.raises(DurableError, match="is over"):
            await transaction.commit(step(after_seq=1))
    assert mine(path) == []


async def test_a_connection_the_user_closed_is_noticed(store: SqliteStore, path: Path) -> None:
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, (1,))
        await transaction.conn.close()
        with pytest.raises(DurableError, match="closed"):
            await transaction.commit(step())
    assert mine(path) == []


async def test_a_cursor_left_open_holds_nothing(store: SqliteStore, path: Path) -> None:
    async with store.transaction(lease()) as transaction:
        await transaction.conn.executemany(INSERT, [(i,) for i in range(50)])
        await transaction.conn.execute("SELECT x FROM mine")
    assert nobody_holds_the_lock(path)
    assert mine(path) == []


async def test_a_lock_held_too_long_is_named(path: Path) -> None:
    async with opened(path, patience_ms=20) as store:
        await started(store)
        with locked(path), pytest.raises(StoreUnavailableError, match="locked"):
            async with store.transaction(lease()):
                raise AssertionError("the block must not run")
        assert await commit_one(store, step()) is CommitVerdict.APPLIED


async def test_cancelling_at_any_moment_leaves_no_lock(store: SqliteStore, path: Path) -> None:
    done = 0

    async def transact(number: int) -> None:
        nonlocal done
        after = len(await store.journal("r1"))
        async with store.transaction(lease()) as transaction:
            await transaction.conn.execute(INSERT, (number,))
            await transaction.commit(step(after_seq=after))
        done += 1

    for number in range(120):
        task = asyncio.ensure_future(transact(number))
        for _ in range(number % 40):
            await asyncio.sleep(0)
            await asyncio.wait({task}, timeout=0.0001)
        task.cancel()
        await asyncio.wait({task})
        assert nobody_holds_the_lock(path)
        assert len(mine(path)) == len(await store.journal("r1"))
    assert done <= len(mine(path))
