"""Migrations of the SQLite adapter: applied once, whole, by anybody; verified otherwise."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import attrs
import pytest
from tests.stores.sqlite_kit import opened, plain

from durable_core.errors import SchemaVersionError
from durable_core.testing.contract_kit import new_run
from durable_sqlite import SqliteStore, queries, schema
from durable_sqlite.steps import drive


def test_migrations_are_numbered_from_one() -> None:
    known = schema.migrations()
    assert [migration.version for migration in known] == list(range(1, len(known) + 1))
    assert all(migration.name.startswith(f"{migration.version:04}_") for migration in known)


def test_a_checksum_does_not_depend_on_line_ends() -> None:
    one = schema.migrations()[0]
    assert attrs.evolve(one, text=one.text.replace("\n", "\r\n")).checksum == one.checksum
    assert attrs.evolve(one, text=one.text + "-- more").checksum != one.checksum


async def test_opening_again_applies_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as store:
        await store.create([new_run()])
    with plain(path) as connection:
        before = connection.execute("SELECT * FROM durable_schema").fetchall()
    async with opened(path, clock=lambda: 1) as store:
        assert set(await store.get(["r1"])) == {"r1"}
    with plain(path) as connection:
        assert connection.execute("SELECT * FROM durable_schema").fetchall() == before
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_other_tables_in_the_file_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with plain(path) as connection:
        connection.execute("CREATE TABLE run (mine)")
        connection.execute("INSERT INTO run VALUES (7)")
    async with opened(path) as store:
        await store.create([new_run()])
    with plain(path) as connection:
        assert connection.execute("SELECT mine FROM run").fetchall() == [(7,)]
        names = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    ours = {name for (name,) in names if not name.startswith("sqlite_")} - {"run"}
    assert ours and all(name.startswith("durable_") for name in ours)


async def test_without_migrating_the_schema_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = SqliteStore(path)
    with pytest.raises(SchemaVersionError, match="no database"):
        await store.open(migrate=False)
    assert not path.exists()
    with plain(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(SchemaVersionError, match=r"0001_init.*migrate"):
        await store.open(migrate=False)
    await store.open(migrate=True)
    await store.close()
    await store.open(migrate=False)
    await store.close()


@pytest.mark.parametrize("migrate", [None, True, False])
async def test_a_newer_schema_is_refused(tmp_path: Path, migrate: bool | None) -> None:
    path = tmp_path / "a.db"
    async with opened(path):
        pass
    with plain(path) as connection:
        connection.execute(queries.RECORD_MIGRATION, (99, "0099_later", "x", 1))
    with pytest.raises(SchemaVersionError, match=r"99.*upgrade"):
        await SqliteStore(path).open(migrate=migrate)


@pytest.mark.parametrize("migrate", [None, False])
async def test_an_edited_migration_is_refused(tmp_path: Path, migrate: bool | None) -> None:
    path = tmp_path / "a.db"
    async with opened(path):
        pass
    with plain(path) as connection:
        connection.execute("UPDATE durable_schema SET checksum = 'other'")
    with pytest.raises(SchemaVersionError, match=r"0001_init.*edited"):
        await SqliteStore(path).open(migrate=migrate)


async def test_many_may_migrate_at_once(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path / "a.db", synchronous="OFF") for _ in range(8)]
    try:
        await asyncio.gather(*(store.open() for store in stores))
        await stores[0].create([new_run()])
        assert set(await stores[-1].get(["r1"])) == {"r1"}
    finally:
        for store in stores:
            await store.close()


def test_a_migration_that_fails_leaves_nothing() -> None:
    good = schema.migrations()[0]
    bad = schema.Migration(2, "0002_bad", "CREATE TABLE durable_x (y);\nCREATE TABLE durable_x;\n")
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError):
        drive(connection, schema.migrate("here", lambda: 1, (good, bad)))
    assert connection.in_transaction, "no statement may commit on its own"
    connection.execute("ROLLBACK")
    assert connection.execute("SELECT * FROM sqlite_schema").fetchall() == []
    connection.close()


def test_a_later_migration_is_applied_alone() -> None:
    known = (*schema.migrations(), schema.Migration(2, "0002_more", "CREATE TABLE durable_x (y);"))
    connection = sqlite3.connect(":memory:", isolation_level=None)
    drive(connection, schema.migrate("here", lambda: 1))
    with pytest.raises(SchemaVersionError, match="0002_more"):
        drive(connection, schema.verify("here", known))
    drive(connection, schema.migrate("here", lambda: 1, known))
    drive(connection, schema.verify("here", known))
    connection.close()


async def test_an_old_sqlite_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(SchemaVersionError, match=r"3\.37"):
        await SqliteStore(":memory:").open()


async def test_a_schema_that_vanished_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as store:
        with plain(path) as connection:
            connection.execute("DROP VIEW durable_record")
        with pytest.raises(SchemaVersionError, match="durable_record"):
            await store.get(["r1"])
