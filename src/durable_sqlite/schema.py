"""Schema: the migrations that belong to this version of the library, and applying them.

Migrations are append-only files, numbered from 1 and never edited once released. A migration
and its record commit together, under the write lock, so that any number of processes may
migrate at once: all but one find that there is nothing left to do.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import resources

import attrs

from durable_core.errors import SchemaVersionError

from . import queries
from .steps import Query, Steps

NEEDED_SQLITE = (3, 37, 0)


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

    def statements(self) -> Iterator[str]:
        """Its statements, one by one (``executescript`` would commit in between)."""
        statement = ""
        for line in self.text.splitlines():
            statement += line + "\n"
            if sqlite3.complete_statement(statement):
                yield statement
                statement = ""


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations this version knows, in order."""
    folder = resources.files(__package__).joinpath("migrations")
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    return tuple(
        Migration(
            version=int(name.split("_")[0]),
            name=name.removesuffix(".sql"),
            text=folder.joinpath(name).read_text(encoding="utf-8"),
        )
        for name in names
    )


def migration_sql() -> str:
    """The SQL of all migrations as one transaction, with the records that they were applied: for
    the shell ``sqlite3`` and a file without a schema."""
    parts = ["BEGIN IMMEDIATE;", queries.CREATE_SCHEMA.strip() + ";"]
    for one in migrations():
        parts.append(one.text.rstrip())
        parts.append(
            "INSERT INTO durable_schema (version, name, checksum, applied_at_ms)\n"
            + f"VALUES ({one.version}, '{one.name}', '{one.checksum}', "
            + "CAST(strftime('%s', 'now') AS INTEGER) * 1000);"
        )
    return "\n\n".join([*parts, "COMMIT;"]) + "\n"


def check_sqlite() -> None:
    """Refuse a SQLite library that lacks what the schema is written in."""
    if sqlite3.sqlite_version_info < NEEDED_SQLITE:
        raise SchemaVersionError(
            f"SQLite {sqlite3.sqlite_version} is too old: durable-core needs 3.37 or newer. Use a "
            "Python build with a newer SQLite library."
        )


def applied() -> Steps[tuple[tuple[int, str, str], ...]]:
    """(version, name, checksum) of the migrations this database has had."""
    if not (yield Query(queries.HAS_SCHEMA)):
        return ()
    return tuple((yield Query(queries.READ_SCHEMA)))


def missing(
    had: Sequence[tuple[int, str, str]], place: str, known: Sequence[Migration]
) -> tuple[Migration, ...]:
    """The migrations still to apply. Raises ``SchemaVersionError`` for a newer or an edited
    schema, which no migration can mend."""
    by_version = {migration.version: migration for migration in known}
    for version, name, checksum in had:
        migration = by_version.get(version)
        if migration is None:
            raise SchemaVersionError(
                f"The durable-core schema of {place} has version {version} ({name}), but this "
                f"version of the library knows only up to {known[-1].version}: upgrade the "
                "durable-core package here, or open another database."
            )
        if migration.checksum != checksum:
            raise SchemaVersionError(
                f"Migration {version} ({name}) of {place} is not the one this library has: the "
                "migration file was edited, or the database was made by a development version. "
                "Install the release that made the database, or begin with a new one."
            )
    have = {version for version, _, _ in had}
    return tuple(migration for migration in known if migration.version not in have)


def verify(place: str, known: Sequence[Migration] | None = None) -> Steps[None]:
    """Raise ``SchemaVersionError`` unless the schema is exactly this library's."""
    todo = missing((yield from applied()), place, known or migrations())
    if todo:
        names = ", ".join(migration.name for migration in todo)
        raise SchemaVersionError(
            f"The durable-core schema of {place} lacks {names}: open the store once with "
            "migrate=True, or run `durable migrate --db URL`."
        )


def migrate(
    place: str, clock: Callable[[], int], known: Sequence[Migration] | None = None
) -> Steps[None]:
    """Apply what is missing; called with the write lock held."""
    for migration in missing((yield from applied()), place, known or migrations()):
        if not (yield Query(queries.HAS_SCHEMA)):
            yield Query(queries.CREATE_SCHEMA)
        for statement in migration.statements():
            yield Query(statement)
        record = (migration.version, migration.name, migration.checksum, clock())
        yield Query(queries.RECORD_MIGRATION, record)
