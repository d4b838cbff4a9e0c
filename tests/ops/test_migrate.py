"""``durable migrate``: applies, looks or prints; says what it did, and never a password."""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from tests.postgres_kit import MAJORS, execute, own_database, server

from durable_core import Engine, SchemaVersionError
from durable_core.testing.postgres import NO_POSTGRES
from durable_ops.cli import main
from durable_ops.databases import without_password
from durable_pg import PgStore
from durable_pg.schema import migrations as postgres_migrations
from durable_sqlite.schema import migrations as sqlite_migrations

on_postgres = [
    pytest.mark.postgres,
    pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES),
]
ALL_ON_POSTGRES = ", ".join(one.name for one in postgres_migrations())
ALL_ON_SQLITE = ", ".join(one.name for one in sqlite_migrations())

Said = pytest.CaptureFixture[str]


@pytest.fixture
def database() -> Iterator[str]:
    with own_database(MAJORS[0]) as dsn:
        yield dsn


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'a.db'}"


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DURABLE_DB", raising=False)


def durable(capsys: Said, *words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command."""
    try:
        status = main(["migrate", *words])
    except SystemExit as left:
        status = int(left.code or 0)
    return status, *capsys.readouterr()


def in_a_thread(words: list[str]) -> int:
    """The status of a command; it runs an event loop of its own, where one may be running."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(main, words).result()


async def refusal(store_or_url: PgStore | str) -> str:
    """What an engine says that finds no schema there."""
    with pytest.raises(SchemaVersionError) as refused:
        async with Engine(store_or_url):
            pass
    return str(refused.value)


# --- Postgres ------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", ["durable", "shop"])
class TestPostgres:
    pytestmark = on_postgres

    def test_it_is_applied_once(self, database: str, schema: str, capsys: Said) -> None:
        where = ("--db", database, "--schema", schema)
        name = f'schema "{schema}" of {database}'
        assert durable(capsys, *where) == (0, f"applied {ALL_ON_POSTGRES} to {name}\n", "")
        assert durable(capsys, *where) == (0, f"nothing to do: {name} is up to date\n", "")

    def test_a_check_only_looks(self, database: str, schema: str, capsys: Said) -> None:
        where = ("--db", database, "--schema", schema)
        for _ in range(2):
            status, out, err = durable(capsys, *where, "--check")
            assert (status, out) == (1, "")
            assert err.count("\n") == 1 and ALL_ON_POSTGRES in err
        durable(capsys, *where)
        said = f'schema "{schema}" of {database} is up to date\n'
        assert durable(capsys, *where, "--check") == (0, said, "")

    async def test_the_command_that_a_store_names_mends_it(
        self, database: str, schema: str, capsys: Said
    ) -> None:
        store = PgStore(database, schema=schema)
        command = re.search("`(durable [^`]*URL[^`]*)`", await refusal(store))
        assert command is not None
        program, *words = shlex.split(command[1].replace("URL", database))
        assert program == "durable"
        assert in_a_thread(words) == 0
        async with Engine(store):
            pass

    def test_the_printed_sql_is_the_same_as_migrating(
        self, database: str, schema: str, capsys: Said
    ) -> None:
        status, script, err = durable(capsys, "--db", "postgresql://", "--schema", schema, "--sql")
        assert (status, err) == (0, "")
        execute(database, script)
        assert durable(capsys, "--db", database, "--schema", schema, "--check")[0] == 0


@pytest.mark.postgres
@pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES)
class TestPostgresOutOfReach:
    @pytest.mark.parametrize("words", [(), ("--check",)])
    def test_an_unknown_database_is_status_1(self, words: tuple[str, ...], capsys: Said) -> None:
        url = server(MAJORS[0]).dsn("nobody").replace("postgres@", "postgres:secret@")
        status, out, err = durable(capsys, "--db", url, *words)
        assert (status, out) == (1, "")
        assert re.fullmatch(r"durable migrate: .* 'nobody' .* does not exist: .*\n", err)
        assert "secret" not in err

    def test_a_role_that_may_not_create_is_told_what_it_lacks(
        self, database: str, capsys: Said
    ) -> None:
        role = database.rpartition("/")[2] + "_role"
        execute(database, f"CREATE ROLE {role} LOGIN")
        url = database.replace("postgres@", f"{role}@")
        status, _, err = durable(capsys, "--db", url)
        assert (status, err.count("\n")) == (1, 1)
        assert "CREATE on the database" in err
        execute(database, f"DROP ROLE {role}")

    def test_a_schema_of_a_newer_library_is_left_alone(self, database: str, capsys: Said) -> None:
        assert durable(capsys, "--db", database)[0] == 0
        execute(database, "INSERT INTO durable.migration VALUES (99, '0099_later', '')")
        for words in ((), ("--check",)):
            status, _, err = durable(capsys, "--db", database, *words)
            assert status == 1
            assert "upgrade the durable-core package" in err


def test_a_server_that_is_down_is_status_1(capsys: Said) -> None:
    status, out, err = durable(capsys, "--db", "postgresql://ada:secret@127.0.0.1:1/shop")
    assert (status, out) == (1, "")
    assert re.fullmatch(r"durable migrate: .* 127\.0\.0\.1:1 .* nobody listens .*\n", err)
    assert "secret" not in err


# --- SQLite --------------------------------------------------------------------------------------


def test_a_file_is_migrated_once(sqlite_url: str, capsys: Said) -> None:
    applied = f"applied {ALL_ON_SQLITE} to {sqlite_url}\n"
    assert durable(capsys, "--db", sqlite_url) == (0, applied, "")
    nothing = f"nothing to do: {sqlite_url} is up to date\n"
    assert durable(capsys, "--db", sqlite_url) == (0, nothing, "")
    up_to_date = f"{sqlite_url} is up to date\n"
    assert durable(capsys, "--db", sqlite_url, "--check") == (0, up_to_date, "")


def test_a_check_makes_no_file(tmp_path: Path, sqlite_url: str, capsys: Said) -> None:
    status, out, err = durable(capsys, "--db", sqlite_url, "--check")
    assert (status, out) == (1, "")
    assert "There is no database at" in err and f"durable migrate --db {sqlite_url}" in err
    assert list(tmp_path.iterdir()) == []


def test_a_check_leaves_somebody_elses_file_as_it_is(
    tmp_path: Path, sqlite_url: str, capsys: Said
) -> None:
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    status, _, err = durable(capsys, "--db", sqlite_url, "--check")
    assert status == 1 and ALL_ON_SQLITE in err
    assert path.read_bytes() == before


def test_the_printed_sql_makes_the_same_file(tmp_path: Path, sqlite_url: str, capsys: Said) -> None:
    status, script, _ = durable(capsys, "--db", sqlite_url, "--sql")
    assert status == 0
    assert list(tmp_path.iterdir()) == []
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        connection.executescript(script)
    assert durable(capsys, "--db", sqlite_url, "--check")[0] == 0


def test_a_file_that_is_no_database_is_status_1(
    tmp_path: Path, sqlite_url: str, capsys: Said
) -> None:
    (tmp_path / "a.db").write_text("a letter to my aunt, and no database\n" * 100)
    for words in ((), ("--check",)):
        status, _, err = durable(capsys, "--db", sqlite_url, *words)
        assert (status, err.count("\n")) == (1, 1)
        assert "is not a SQLite database" in err


# --- the command line ----------------------------------------------------------------------------


def test_the_environment_names_the_database(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    monkeypatch.setenv("DURABLE_DB", sqlite_url)
    assert durable(capsys)[0] == 0
    other = sqlite_url.replace("a.db", "b.db")
    assert other in durable(capsys, "--db", other)[1], "what is said beats what is set"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "which database? Give --db URL, or set DURABLE_DB"),
        (("--db", "mysql://h/d"), "not the URL of a store"),
        (("--db", "memory://"), "no other can see it"),
        (("--db", "sqlite://"), "no other can see it"),
        (("--db", "sqlite:///a.db", "--schema", "shop"), "has no schemas"),
        (("--db", "postgresql://h/d", "--schema", "my shop"), "letters, digits and underscores"),
        (("--db", "postgresql://ada:secret@h:many/d"), "number up to 65535"),
        (("--db", "sqlite:///a.db", "--check", "--sql"), "not allowed with"),
    ],
)
def test_a_wrong_command_line_is_status_2(words: tuple[str, ...], why: str, capsys: Said) -> None:
    status, out, err = durable(capsys, *words)
    assert (status, out) == (2, "")
    assert why in err and "secret" not in err
    assert err.endswith("\ntry: durable migrate --help\n")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:secret@h:1/d?password=secret", "postgresql://ada@h:1/d"),
        ("postgresql://ada@h/d", "postgresql://ada@h/d"),
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgresql://ada:p@secret@h/d", "postgresql://ada@h/d"),
        ("postgresql://ada@a:1,b:2/d", "postgresql://ada@a:1,b:2/d"),
        ("postgresql://ada:secret?word@h/d", "postgresql://..."),
        ("postgresql://ada:?secret@h/d", "postgresql://..."),
        ("postgresql://ada:secret#word@h/d", "postgresql://..."),
        ("postgresql://ada:secret#word?x@h/d?sslmode=require", "postgresql://..."),
        ("postgresql://ada:secret/word@h/d", "postgresql://..."),
        ("postgresql://ada:12/secret@h/d", "postgresql://..."),
        ("postgresql://ada:[secret@h/d", "postgresql://..."),
        ("postgresql://ada:secret", "postgresql://..."),
        ("sqlite:////home/a@b/a.db", "sqlite:////home/a@b/a.db"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
