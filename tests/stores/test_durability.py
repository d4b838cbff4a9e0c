"""Durability: the level that was asked for is in force on every connection a store commits with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import asyncpg
import pytest
from tests.stores.pg_kit import Place, on_postgres
from tests.stores.sqlite_kit import opened

from durable_core.errors import DurableError, StoreUnavailableError
from durable_core.testing.contract_kit import lease, started, step
from durable_pg import PgStore
from durable_sqlite import SqliteStore

Level = Literal["strict", "relaxed"]

NORMAL, FULL, EXTRA = 1, 2, 3
"""SQLite's numbers."""
BAD = [None, "", "STRICT", "off", "fast", 1, True, ["strict"]]


async def synchronous(connection: Any) -> int:
    ((number,),) = await connection.execute_fetchall("PRAGMA synchronous")
    return int(number)


@pytest.mark.parametrize(
    ("asked", "in_force"),
    [
        ({}, FULL),
        ({"durability": "strict"}, FULL),
        ({"durability": "relaxed"}, NORMAL),
        ({"synchronous": "FULL"}, FULL),
        ({"synchronous": "EXTRA"}, EXTRA),
    ],
)
async def test_sqlite_commits_as_it_was_asked_to(
    tmp_path: Path, asked: dict[str, Any], in_force: int
) -> None:
    first = SqliteStore(tmp_path / "a.db", **asked)
    for store in (first, first.twin()):
        await store.open()
        try:
            assert await synchronous(store._checked().writer) == in_force
            if store is first:
                await started(store)
                async with store.transaction(lease()) as transaction:
                    assert await synchronous(transaction.conn) == in_force
                    await transaction.commit(step())
        finally:
            await store.close()


async def test_relaxed_keeps_the_write_ahead_log(tmp_path: Path) -> None:
    """NORMAL is safe from torn pages with it, and only with it."""
    async with opened(tmp_path / "a.db", synchronous=None, durability="relaxed") as store:
        writer = store._checked().writer
        assert list(map(tuple, await writer.execute_fetchall("PRAGMA journal_mode"))) == [("wal",)]


@pytest.mark.parametrize("word", BAD[1:])
def test_other_words_are_refused(word: Any) -> None:
    for make in (SqliteStore, lambda _, **options: PgStore("postgresql://h/d", **options)):
        with pytest.raises(DurableError, match="neither 'strict' nor 'relaxed'"):
            make("a.db", durability=word)


def test_two_words_for_one_thing_are_refused() -> None:
    with pytest.raises(DurableError, match="not both"):
        SqliteStore("a.db", durability="relaxed", synchronous="FULL")


@pytest.mark.postgres
class TestPostgres:
    """On connections of ours it is set; on others it must be so already."""

    pytestmark = on_postgres

    @pytest.mark.parametrize(("level", "in_force"), [("strict", "on"), ("relaxed", "off")])
    async def test_every_connection_of_ours_commits_so(
        self, place: Place, level: Level, in_force: str
    ) -> None:
        """Also where the server, the database or the role say otherwise."""
        other = "off" if in_force == "on" else "on"
        dsn = f"{place.dsn}&synchronous_commit={other}"
        async with place.opened(dsn=dsn, durability=level) as store:
            for one in (store, store.twin()):
                await one.open()
                assert await one._checked().connections.fetch("SHOW synchronous_commit") == [
                    (in_force,)
                ]
                if one is not store:
                    await one.close()
            await started(store)
            for seq in range(2):  # the second time on a session that was wiped
                async with store.transaction(lease()) as transaction:
                    show = await transaction.conn.fetchval("SHOW synchronous_commit")
                    assert show == in_force
                    await transaction.conn.execute("SET synchronous_commit = local")
                    await transaction.commit(step(after_seq=seq))

    async def test_the_default_is_strict(self, place: Place) -> None:
        async with place.opened() as store:
            (row,) = await store._checked().connections.fetch("SHOW synchronous_commit")
            assert row[0] == "on"

    async def test_a_pool_must_commit_as_it_is_said_to(self, place: Place) -> None:
        for commits, level, other in (("off", "relaxed", "strict"), ("local", "strict", "relaxed")):
            settings = {"synchronous_commit": commits}
            async with asyncpg.create_pool(place.dsn, min_size=0, server_settings=settings) as pool:
                with pytest.raises(StoreUnavailableError, match=rf"= {commits}.*'{other}'.*ROLE"):
                    await place.store(dsn=pool, durability=other).open(migrate=True)
                async with place.opened(dsn=pool, durability=level) as store:
                    await started(store, commits)

    async def test_behind_a_pooler_too(self, place: Place) -> None:
        relaxed = f"{place.dsn}&synchronous_commit=off"
        with pytest.raises(StoreUnavailableError, match="ALTER ROLE"):
            await place.store(dsn=relaxed, pooler=True).open(migrate=True)
        with pytest.raises(StoreUnavailableError, match="ALTER ROLE"):
            await place.store(pooler=True, durability="relaxed").open(migrate=True)
        async with place.opened(dsn=relaxed, pooler=True, durability="relaxed") as store:
            await started(store)
