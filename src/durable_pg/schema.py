"""Schema: the migrations that belong to this version of the library, and applying them.

Migrations are append-only files, numbered from 1 and never edited once released. A migration
and its record commit together, under an advisory lock of the transaction, so that any number of
processes may migrate at once: all but one find that there is nothing left to do. Files marked
"durable: functions" in their first line are left out for databases that cannot have them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

import asyncpg
import attrs

from durable_core.errors import DurableError, SchemaVersionError

from . import queries
from .queries import in_schema
from .schema_name import SchemaName

OLDEST_SERVER = 15_00_00
OLDEST_PLAIN_SERVER = 13_00_00
"""Where the functions are not called. The plain statements use nothing that is younger, and other
engines that speak Postgres say an older version than the one whose SQL they know."""
FUNCTIONS = "-- durable: functions"
LOCK_WAIT = "30s"
"""How long a migration waits for another one, or for a table in use; it may take long itself."""


@attrs.frozen(slots=True)
class Migration:
    """One file of the folder ``migrations``."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Of the text, whatever line ends the file was unpacked with."""
        return hashlib.sha256("\n".join(self.text.splitlines()).encode()).hexdigest()

    @property
    def is_functions(self) -> bool:
        """Whether it holds functions only."""
        return self.text.startswith(FUNCTIONS)


@cache
def migrations(*, plain: bool = False) -> tuple[Migration, ...]:
    """All migrations this version knows, in order; ``plain``: without functions."""
    folder = resources.files(__package__).joinpath("migrations")
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    known = tuple(
        Migration(
            version=int(name.split("_")[0]),
            name=name.removesuffix(".sql"),
            text=folder.joinpath(name).read_text(encoding="utf-8"),
        )
        for name in names
    )
    return tuple(one for one in known if not (plain and one.is_functions))


def migration_sql(version: int | None = None, *, schema: str = "durable") -> str:
    """The SQL of one migration, or of all of them in order, with the records that it was applied:
    for ``psql``, or for a migration tool of your own. Run it in one transaction.

    Raises ``DurableError`` for a version there is none of and for a schema that is no plain name.
    """
    name = SchemaName(schema)
    chosen = [one for one in migrations() if version is None or one.version == version]
    if not chosen:
        numbers = ", ".join(str(one.version) for one in migrations())
        raise DurableError(f"There is no migration {version!r}; there are {numbers}.")
    parts = []
    for one in chosen:
        if one.version == 1:
            parts.append(queries.CREATE_SCHEMA)
        parts.append(one.text)
        parts.append(
            'INSERT INTO "durable".migration (version, name, checksum)\n'
            + f"VALUES ({one.version}, '{one.name}', '{one.checksum}');\n"
        )
    return in_schema("\n".join(parts), name).lstrip("\n")


async def applied(
    conn: asyncpg.Connection[asyncpg.Record], schema: SchemaName
) -> tuple[tuple[int, str, str], ...]:
    """(version, name, checksum) of the migrations this schema has had."""
    if not await conn.fetch(queries.HAS_SCHEMA, schema.name):
        return ()
    return tuple(tuple(row) for row in await conn.fetch(in_schema(queries.READ_SCHEMA, schema)))


def missing(
    had: Sequence[tuple[int, str, str]], place: str, known: Sequence[Migration]
) -> tuple[Migration, ...]:
    """The migrations still to apply. Raises ``SchemaVersionError`` for a newer or an edited
    schema, which no migration can mend."""
    by_version = {migration.version: migration for migration in migrations()}
    for version, name, checksum in had:
        migration = by_version.get(version)
        if migration is None:
            raise SchemaVersionError(
                f"The durable-core schema of {place} has version {version} ({name}), but this "
                f"version of the library knows only up to {max(by_version)}: upgrade the "
                "durable-core package here, or open another database."
            )
        if migration.checksum != checksum:
            raise SchemaVersionError(
                f"Migration {version} ({name}) of {place} is not the one this library has: the "
                "migration file was edited, or the schema was made by a development version. "
                "Install the release that made it, or begin with a new schema."
            )
    have = {version for version, _, _ in had}
    return tuple(migration for migration in known if migration.version not in have)


async def verify(
    conn: asyncpg.Connection[asyncpg.Record],
    schema: SchemaName,
    place: str,
    known: Sequence[Migration],
) -> None:
    """Raise ``SchemaVersionError`` unless the schema is exactly this library's."""
    todo = missing(await applied(conn, schema), place, known)
    if todo:
        names = ", ".join(migration.name for migration in todo)
        elsewhere = "" if schema.name == "durable" else f" --schema {schema.name}"
        raise SchemaVersionError(
            f"The durable-core schema {schema.quoted} of {place} lacks {names}: run `durable "
            f"migrate --db URL{elsewhere}` with a role that may create tables, or open the store "
            "once with migrate=True, or apply durable_pg.migration_sql() yourself."
        )


async def migrate(
    conn: asyncpg.Connection[asyncpg.Record],
    schema: SchemaName,
    place: str,
    known: Sequence[Migration],
) -> None:
    """Apply what is missing, each migration in a transaction of its own."""
    for migration in missing(await applied(conn, schema), place, known):
        async with conn.transaction(isolation="read_committed"):
            await conn.fetch(queries.MIGRATION_LIMITS, LOCK_WAIT)
            await conn.fetch(queries.MIGRATION_LOCK, schema.lock)
            had = await applied(conn, schema)
            if any(version == migration.version for version, _, _ in had):
                continue  # somebody else was quicker
            if not had and not await conn.fetch(queries.HAS_SCHEMA, schema.name):
                await conn.execute(in_schema(queries.CREATE_SCHEMA, schema))
            await conn.execute(in_schema(migration.text, schema))
            await conn.execute(
                in_schema(queries.RECORD_MIGRATION, schema),
                migration.version,
                migration.name,
                migration.checksum,
            )
