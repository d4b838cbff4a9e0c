"""Databases: what the ``--db`` of a command stands for, what migrating does to it, and a store on
it."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Protocol

import attrs

from durable_core.engine.store_url import store_from
from durable_core.errors import DurableError, SchemaVersionError
from durable_core.store import Store

IN_MEMORY = frozenset({"memory://", "sqlite://", "sqlite:///", "sqlite:///:memory:"})


class Database(Protocol):
    """One that outlives a process. Errors are ``DurableError``, and never hold a password."""

    @property
    def name(self) -> str:
        """For messages."""

    async def applied(self) -> tuple[str, ...]:
        """The migrations it has had, in order; nothing is changed."""

    async def verify(self) -> None:
        """Raise unless its schema is this library's; nothing is changed."""

    async def migrate(self) -> None:
        """Apply what it lacks."""

    def sql(self) -> str:
        """What migrating an empty one would execute; nothing is connected to."""

    def store(self) -> Store:
        """A store on it, not yet open."""


def database_from(url: str, *, schema: str | None) -> Database:
    """The database of this URL. Raises ``DurableError`` for one that nobody understands."""
    if url in IN_MEMORY:
        raise DurableError(f"{url} lives in one process and ends with it: no other can see it")
    store_from(url)  # refuses what is no URL of a store, or has no driver here
    if url.lower().startswith("sqlite:"):
        if schema is not None:
            raise DurableError("a SQLite file has no schemas: leave out --schema")
        return SqliteDatabase(url)
    from durable_pg import dsn

    dsn.check(url)
    return PostgresDatabase(url, "durable" if schema is None else schema)


@attrs.frozen(slots=True)
class PostgresDatabase:
    """A schema of a Postgres database. Raises ``DurableError`` if it is no plain name."""

    url: str
    schema: str

    def __attrs_post_init__(self) -> None:
        from durable_pg.schema_name import SchemaName

        SchemaName(self.schema)

    @property
    def name(self) -> str:
        return f'schema "{self.schema}" of {without_password(self.url)}'

    async def applied(self) -> tuple[str, ...]:
        from durable_pg.connection import Address, Connections
        from durable_pg.schema import applied
        from durable_pg.schema_name import SchemaName
        from durable_pg.store import TIMEOUT_S

        schema = SchemaName(self.schema)
        address = Address(dsn=self.url, pool=None, pooler=False, timeout_s=TIMEOUT_S)
        connections = Connections(address)
        await connections.open()
        try:
            had = await connections.using(lambda conn: applied(conn, schema))
        finally:
            await connections.close()
        return tuple(name for _, name, _ in had)

    async def verify(self) -> None:
        await self._open(migrate=False)

    async def migrate(self) -> None:
        await self._open(migrate=True)

    async def _open(self, *, migrate: bool) -> None:
        store = self.store()
        await store.open(migrate=migrate)
        await store.close()

    def store(self) -> Store:
        from durable_pg import PgStore

        return PgStore(self.url, schema=self.schema, listen=False)

    def sql(self) -> str:
        from durable_pg import migration_sql

        return migration_sql(schema=self.schema)


@attrs.frozen(slots=True)
class SqliteDatabase:
    """A SQLite file. It is looked at without a store, which would change its journal mode."""

    url: str

    @property
    def name(self) -> str:
        return self.url

    @property
    def path(self) -> str:
        return os.path.abspath(self.url.partition("://")[2][1:])

    async def applied(self) -> tuple[str, ...]:
        return self._read() if self._exists else ()

    async def verify(self) -> None:
        if not self._exists:
            raise SchemaVersionError(
                f"There is no database at {self.path!r}: run `durable migrate --db {self.url}`, "
                "and check that the path is the one you mean."
            )
        self._read(verified=True)

    async def migrate(self) -> None:
        store = self.store()
        await store.open(migrate=True)
        await store.close()

    def store(self) -> Store:
        from durable_sqlite import SqliteStore

        return SqliteStore(self.path)

    def sql(self) -> str:
        from durable_sqlite import migration_sql

        return migration_sql()

    @property
    def _exists(self) -> bool:
        return os.path.exists(self.path)

    def _read(self, *, verified: bool = False) -> tuple[str, ...]:
        import sqlite3

        from durable_sqlite import schema
        from durable_sqlite.steps import drive
        from durable_sqlite.translate import translated

        try:
            with closing(sqlite3.connect(self.path)) as connection:
                if verified:
                    drive(connection, schema.verify(repr(self.path)))
                had = drive(connection, schema.applied())
        except sqlite3.Error as error:
            raise translated(error, repr(self.path)) from error
        return tuple(name for _, name, _ in had)


def without_password(url: str) -> str:
    """The URL of a store with neither password nor parameters."""
    if not url.lower().startswith("postgres"):
        return url
    from durable_pg import dsn

    return dsn.without_password(url)
