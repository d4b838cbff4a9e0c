"""Migrations of the Postgres adapter: applied once, whole, by anybody; verified otherwise."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
from tests.stores.pg_kit import Place, at_peace, on_postgres, own_place

from durable_core.errors import DurableError, SchemaVersionError, StoreUnavailableError
from durable_core.store import RunFilter
from durable_core.testing.contract_kit import claim, ids, new_run
from durable_pg import PgStore, migration_sql, queries, schema
from durable_pg.schema_name import SchemaName

pytestmark = on_postgres

CATALOG = {
    "columns": """
        SELECT c.relname, c.relkind, c.reloptions, a.attnum, a.attname, a.attnotnull,
            format_type(a.atttypid, a.atttypmod), l.collname, a.attidentity,
            pg_get_expr(d.adbin, d.adrelid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_collation l ON l.oid = a.attcollation
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE n.nspname = $1 AND c.relname NOT LIKE 'mine%' ORDER BY 1, 4
    """,
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = $1 ORDER BY 1",
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = $1 ORDER BY 1",
    "functions": """
        SELECT p.proname, pg_get_functiondef(p.oid) FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1 ORDER BY 1
    """,
}
"""What stands in a schema, apart from the rows."""


async def catalog(place: Place) -> dict[str, list[str]]:
    """All of it, with the schema's name taken out."""
    return {
        what: [re.sub(rf'"?{place.schema}"?', "S", repr(tuple(row))) for row in rows]
        for what, rows in {
            what: await place.eyes.fetch(sql, place.schema) for what, sql in CATALOG.items()
        }.items()
    }


async def has_anything(place: Place) -> bool:
    found = await catalog(place)
    return bool(found["columns"] or found["functions"])


def known_with(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let there be one more migration than there is."""
    shipped = schema.migrations()
    more = schema.Migration(shipped[-1].version + 1, "9999_more", text)
    monkeypatch.setattr(schema, "migrations", lambda **_: (*shipped, more))


def test_migrations_are_numbered_from_one() -> None:
    known = schema.migrations()
    assert [migration.version for migration in known] == list(range(1, len(known) + 1))
    assert all(migration.name.startswith(f"{migration.version:04}_") for migration in known)


def test_a_checksum_does_not_depend_on_line_ends() -> None:
    one = schema.migrations()[0]
    assert attrs.evolve(one, text=one.text.replace("\n", "\r\n")).checksum == one.checksum
    assert attrs.evolve(one, text=one.text + "-- more").checksum != one.checksum


# --- applying --------------------------------------------------------------------------------


async def test_opening_again_applies_nothing(place: Place) -> None:
    async with place.opened() as store:
        await store.create([new_run()])
    before = await place.eyes.fetch("SELECT * FROM migration")
    async with place.opened(clock=lambda: 1) as store:
        assert set(await store.get(["r1"])) == {"r1"}
    assert await place.eyes.fetch("SELECT * FROM migration") == before


async def test_many_may_migrate_at_once(place: Place) -> None:
    stores = [place.store() for _ in range(8)]
    try:
        await asyncio.gather(*(store.open(migrate=True) for store in stores))
        await stores[0].create([new_run()])
        assert set(await stores[-1].get(["r1"])) == {"r1"}
    finally:
        for store in stores:
            await store.close()
    versions = [version for (version,) in await place.eyes.fetch("SELECT version FROM migration")]
    assert sorted(versions) == [migration.version for migration in schema.migrations()]


async def test_a_schema_made_by_hand_is_the_same(place: Place) -> None:
    async with place.opened(), own_place() as other:
        await other.eyes.execute(f"BEGIN; {migration_sql(schema=other.schema)}; COMMIT")
        assert await catalog(other) == await catalog(place)
        store = other.store()
        await store.open()
        await store.close()


async def test_each_migration_can_be_applied_by_hand(place: Place) -> None:
    for migration in schema.migrations():
        store = place.store()
        with pytest.raises(SchemaVersionError, match=f"lacks .*{migration.name}"):
            await store.open(migrate=False)
        await place.eyes.execute(migration_sql(migration.version, schema=place.schema))
    async with place.opened() as store:
        await store.create([new_run()])


@pytest.mark.parametrize("version", [0, 99, "1"])
def test_there_is_no_sql_of_a_migration_there_is_none_of(version: Any) -> None:
    with pytest.raises(DurableError, match=rf"no migration {version!r}; there are 1, 2"):
        migration_sql(version)


async def test_a_migration_that_fails_leaves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place.opened():
        before = await catalog(place)
    for text in (
        "CREATE TABLE x (y int); CREATE TABLE x (y int)",
        "CREATE TABLE x (y int); nonsense",
    ):
        known_with(monkeypatch, text.replace("TABLE x", f"TABLE {place.schema}.x"))
        with pytest.raises(DurableError):
            await place.store().open(migrate=True)
        assert await catalog(place) == before
        assert await place.at_rest()


async def test_a_connection_lost_in_a_migration_leaves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place.opened():
        before = await catalog(place)
    died = "SELECT pg_terminate_backend(pg_backend_pid())"
    known_with(monkeypatch, f"CREATE TABLE {place.schema}.x (y int); {died}")
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        await place.store().open(migrate=True)
    await place.comes_to_rest()
    assert await catalog(place) == before


async def test_a_cancelled_migration_leaves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_pg.connection.CLOSE_S", 0.05)
    known_with(monkeypatch, f"CREATE TABLE {place.schema}.x (y int); SELECT pg_sleep(0.5)")
    opening = asyncio.ensure_future(place.store().open(migrate=True))
    async with asyncio.timeout(20):
        while not await place.eyes.fetch("SELECT FROM pg_stat_activity WHERE wait_event='PgSleep'"):
            pass
    opening.cancel()
    await asyncio.wait({opening})
    assert opening.cancelled()
    await place.comes_to_rest()
    assert not any("'x'" in column for column in (await catalog(place))["columns"])


async def test_a_later_migration_is_applied_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place.opened():
        before = await catalog(place)
    known_with(monkeypatch, f"CREATE TABLE {place.schema}.x (y int)")
    with pytest.raises(SchemaVersionError, match="lacks 9999_more"):
        await place.store().open()
    async with place.opened():
        more = set((await catalog(place))["columns"]) - set(before["columns"])
        assert len(more) == 1 and "'x'" in more.pop()


async def test_a_lock_that_a_migration_waits_for_too_long_is_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_WAIT", "50ms")
    lock = SchemaName(place.schema).lock
    async with place.connected() as other, other.transaction():
        await other.execute(queries.MIGRATION_LOCK.replace("$1", str(lock)))
        with pytest.raises(StoreUnavailableError, match=r"lock .*not to be had in time"):
            await place.store().open(migrate=True)
    assert not await has_anything(place)


async def test_a_migration_may_take_longer_than_a_verb(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_with(monkeypatch, "SELECT pg_sleep(1.2)")
    async with place.opened(timeout_s=1) as store:
        await store.create([new_run()])


# --- verifying -------------------------------------------------------------------------------


@pytest.mark.parametrize("migrate", [None, False])
async def test_without_migrating_the_schema_must_be_there(
    place: Place, migrate: bool | None
) -> None:
    missing = rf'"{place.schema}".*lacks 0001_tables, 0002_functions.*durable migrate --db'
    with pytest.raises(SchemaVersionError, match=missing) as caught:
        await place.store().open(migrate=migrate)
    assert f"--schema {place.schema}" in str(caught.value)
    assert "migrate=True" in str(caught.value) and "migration_sql()" in str(caught.value)
    assert not await has_anything(place)
    async with place.opened():
        pass
    store = place.store()
    await store.open(migrate=migrate)
    await store.close()


@pytest.mark.parametrize("migrate", [None, True, False])
async def test_a_newer_schema_is_refused(place: Place, migrate: bool | None) -> None:
    async with place.opened():
        pass
    await place.eyes.execute("INSERT INTO migration VALUES (99, '0099_later', 'x')")
    with pytest.raises(SchemaVersionError, match=r"99.*upgrade"):
        await place.store().open(migrate=migrate)


@pytest.mark.parametrize("migrate", [None, True, False])
async def test_an_edited_migration_is_refused(place: Place, migrate: bool | None) -> None:
    async with place.opened():
        pass
    await place.eyes.execute("UPDATE migration SET checksum = 'other' WHERE version = 1")
    with pytest.raises(SchemaVersionError, match=r"0001_tables.*edited"):
        await place.store().open(migrate=migrate)


async def test_what_a_plain_store_made_lacks_only_functions(place: Place) -> None:
    async with place.opened(plain=True) as store:
        await store.create([new_run()])
    with pytest.raises(SchemaVersionError, match="lacks 0002_functions"):
        await place.store().open()
    async with place.opened() as store:
        assert ids(await claim(store)) == ["r1"]
    async with place.opened(plain=True) as store:
        assert set(await store.get(["r1"])) == {"r1"}


async def test_a_schema_that_vanished_is_named(place: Place) -> None:
    async with place.opened() as store:
        await store.get(["r1"])
        await place.eyes.execute(f"DROP SCHEMA {place.schema} CASCADE")
        for verb in (store.get(["r1"]), store.create([new_run()]), store.find(RunFilter())):
            with pytest.raises(SchemaVersionError, match="durable migrate"):
                await verb


# --- names and neighbours --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "a b", 'x"y', "pg_x", "PG_x", "x" * 41, None, "ä", "1a", "a.b", "a\n", 7]
)
def test_what_is_no_plain_name_is_refused(name: Any) -> None:
    for made in (lambda: PgStore("postgresql://", schema=name), lambda: migration_sql(schema=name)):
        with pytest.raises(DurableError, match=r"^schema="):
            made()


@pytest.mark.parametrize("name", ["Upper", "select", "x" * 40])
async def test_any_plain_name_will_do(place: Place, name: str) -> None:
    twin = attrs.evolve(place, schema=name)
    try:
        async with twin.opened() as store:
            await store.create([new_run()])
            assert ids(await claim(store)) == ["r1"]
    finally:
        await place.eyes.execute(f'DROP SCHEMA "{name}" CASCADE')


async def test_two_schemas_in_one_database_do_not_see_each_other(place: Place) -> None:
    async with place.opened() as store, own_place() as other, other.opened() as stranger:
        await at_peace(stranger)
        await store.create([new_run()])
        assert await stranger.get(["r1"]) == {}
        assert ids(await claim(stranger)) == []
        assert not await stranger.wait_for_work(100), "nor hear each other"
        assert ids(await claim(store)) == ["r1"]


async def test_other_tables_in_the_schema_are_left_alone(place: Place) -> None:
    await place.eyes.execute("CREATE TABLE other AS SELECT 7 AS x; INSERT INTO mine VALUES (7)")
    async with place.opened() as store:
        await store.create([new_run()])
    assert await place.mine() == [7]
    assert await place.eyes.fetchval("SELECT x FROM other") == 7


@pytest.mark.parametrize(
    "taken",
    [
        "TABLE run (x int)",
        "VIEW lease AS SELECT 1",
        "TYPE entry AS ENUM ('a')",
        "FUNCTION now_ms_v1() RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
        "TABLE migration (version text, name text)",
    ],
)
async def test_a_schema_with_such_names_in_it_is_refused(place: Place, taken: str) -> None:
    await place.eyes.execute(f"CREATE {taken}")
    with pytest.raises(SchemaVersionError, match=r"(?s)already exists.*choose another schema"):
        await place.store().open(migrate=True)
    with pytest.raises(SchemaVersionError, match="lacks"):
        await place.store().open()
    if "FUNCTION" not in taken:
        assert len((await catalog(place))["columns"]) <= 2, "nothing is left of the attempt"


# --- roles and servers -----------------------------------------------------------------------


@asynccontextmanager
async def role(place: Place) -> AsyncIterator[str]:
    """A role that may log in, and nothing else."""
    name = f"role_{place.schema}"
    await place.eyes.execute(f"CREATE ROLE {name} LOGIN")
    try:
        yield name
    finally:
        await place.eyes.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_a_role_that_may_create_nothing_can_work(place: Place) -> None:
    async with role(place) as name:
        dsn = place.dsn.replace("//postgres@", f"//{name}@")
        await place.eyes.execute(f"GRANT USAGE ON SCHEMA {place.schema} TO {name}")
        with pytest.raises(StoreUnavailableError, match="to migrate it needs CREATE"):
            await place.store(dsn=dsn).open(migrate=True)
        with pytest.raises(SchemaVersionError, match="a role that may create tables"):
            await place.store(dsn=dsn).open()
        async with place.opened():
            pass
        with pytest.raises(StoreUnavailableError, match="SELECT, INSERT, UPDATE and DELETE"):
            await place.store(dsn=dsn).open()
        rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES"
        await place.eyes.execute(
            f"GRANT {rights} IN SCHEMA {place.schema} TO {name}; REVOKE ALL ON mine FROM {name}"
        )
        async with place.opened(dsn=dsn) as store:  # nothing is left to migrate
            await store.create([new_run()])
            assert ids(await claim(store)) == ["r1"]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_cannot_hold_every_text_is_refused(
    place: Place, encoding: str
) -> None:
    name = f"db_{place.schema}_{encoding.lower()}"
    await place.eyes.execute(
        f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    )
    try:
        dsn = place.dsn.replace("/postgres?", f"/{name}?")
        with pytest.raises(SchemaVersionError, match=rf"{encoding}.*ENCODING 'UTF8'"):
            await place.store(dsn=dsn).open(migrate=True)
    finally:
        await place.eyes.execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize("migrate", [None, True])
async def test_a_read_only_server_is_refused(place: Place, migrate: bool | None) -> None:
    async with place.opened():
        pass
    store = place.store(dsn=f"{place.dsn}&default_transaction_read_only=on")
    with pytest.raises(StoreUnavailableError, match=r"read-only.*target_session_attrs"):
        await store.open(migrate=migrate)


async def test_a_server_that_becomes_read_only_is_named(place: Place) -> None:
    async with place.opened() as store:
        await place.eyes.execute(
            f"CREATE FUNCTION {place.schema}.no() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN RAISE EXCEPTION ''no'' USING ERRCODE = ''25006''; END';"
            "CREATE TRIGGER no BEFORE INSERT ON run FOR EACH STATEMENT EXECUTE FUNCTION no()"
        )
        with pytest.raises(StoreUnavailableError, match="read-only") as caught:
            await store.create([new_run()])
        assert not caught.value.outcome_unknown


async def test_a_session_that_became_read_only_is_not_used_again(place: Place) -> None:
    """Its server is a standby by now, or will be; another connection may find the primary."""
    async with place.opened() as store:
        await store._checked().connections.using(
            lambda conn: conn.execute("SET default_transaction_read_only = on")
        )
        with pytest.raises(StoreUnavailableError, match=r"read-only.*target_session_attrs"):
            await store.create([new_run()])
        assert (await store.create([new_run()]))[0].created


async def test_an_old_server_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "OLDEST_SERVER", 99_00_00)
    with pytest.raises(SchemaVersionError, match=r"needs 99 or newer\."):
        await place.store().open(migrate=True)
    async with place.opened(plain=True) as store:  # which asks for less
        await store.create([new_run()])
    monkeypatch.setattr(schema, "OLDEST_PLAIN_SERVER", 98_00_00)
    with pytest.raises(SchemaVersionError, match=r"needs 98 or newer even with plain=True\."):
        await place.store(plain=True).open()
