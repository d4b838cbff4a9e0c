"""What a user reads when Postgres cannot be used: what is wrong, where, and what to do.

No message needs the driver's traceback to be understood, and none holds a password.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from tests.postgres_kit import execute
from tests.serving import serving

from durable_core import DurableError, Engine, SchemaVersionError, StoreUnavailableError
from durable_core.testing.postgres import NO_POSTGRES, PostgresServer
from durable_core.testing.postgres_binaries import find_binaries
from durable_pg.translate import translated

INHABITANTS = (
    "CREATE ROLE ada LOGIN PASSWORD 'right'",
    "CREATE ROLE bob LOGIN CONNECTION LIMIT 0",
    "CREATE ROLE eve NOLOGIN",
    "CREATE DATABASE standby",
    "ALTER DATABASE standby SET default_transaction_read_only = on",
    "SELECT pg_reload_conf()",
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Host and port of a server where only `ada` needs a password."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(NO_POSTGRES)
    with PostgresServer(binaries) as server:
        rules = server.folder / "data" / "pg_hba.conf"
        rules.write_text("host all ada 127.0.0.1/32 scram-sha-256\n" + rules.read_text())
        execute(server.dsn(), *INHABITANTS)
        yield server.dsn().rpartition("@")[2].partition("/")[0]


async def refusal(url: str, *, migrate: bool | None = None) -> DurableError:
    """The error with which an engine for this URL is not opened."""
    with pytest.raises(DurableError) as refused:
        async with Engine(url, migrate=migrate):
            pass
    assert "secret" not in str(refused.value)
    return refused.value


# The driver forgets to close a connection that is refused; the garbage collector does.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.postgres
@pytest.mark.parametrize(
    ("access", "path", "words"),
    [
        ("ada:secret", "postgres", ("refused the password", "'postgres' on 127.0.0.1:")),
        ("ada", "postgres", ("refused the password", "in the DSN")),
        ("nobody", "postgres", ("does not let this role in", '"nobody" does not exist')),
        ("eve", "postgres", ("does not let this role in", "not permitted to log in")),
        ("bob", "postgres", ("takes no more connections",)),
        ("postgres:secret", "shop", ("'shop'", "does not exist", "name of the database")),
        ("postgres", "standby", ("read-only", "target_session_attrs=read-write")),
        ("postgres", "postgres?sslmode=require", ("rejected SSL upgrade",)),
        ("postgres", "postgres?sslmode=often", ("The DSN", "`sslmode` parameter must be one of")),
        ("postgres", "postgres?colour=red", ("a setting that the DSN asks for", '"colour"')),
        ("postgres", "postgres?target_session_attrs=standby", ("target attribute requirement",)),
    ],
)
async def test_a_dsn_that_leads_nowhere(
    address: str, access: str, path: str, words: tuple[str, ...]
) -> None:
    error = await refusal(f"postgresql://{access}@{address}/{path}")
    assert isinstance(error, StoreUnavailableError)
    assert not error.outcome_unknown
    for word in words:
        assert word in str(error)


@pytest.mark.postgres
async def test_a_role_without_rights_is_told_which_it_needs(address: str) -> None:
    url = f"postgresql://ada:right@{address}/postgres"
    for word in ("CREATE on the database", "permission denied for database"):
        assert word in str(await refusal(url, migrate=True))
    async with Engine(f"postgresql://postgres@{address}/postgres", migrate=True):
        pass
    error = await refusal(url)
    assert "USAGE on the schema" in str(error)
    connection = await asyncpg.connect(f"postgresql://postgres@{address}/postgres")
    await connection.execute("GRANT USAGE ON SCHEMA durable TO ada")
    rights = ("SELECT", "INSERT", "UPDATE", "DELETE")
    for right in rights:
        await connection.execute(f"GRANT {right} ON ALL TABLES IN SCHEMA durable TO ada")
        if right != rights[-1]:
            assert "SELECT, INSERT, UPDATE and DELETE" in str(await refusal(url))
    await connection.close()
    async with Engine(url):
        pass


@pytest.mark.postgres
async def test_a_database_without_the_schema(address: str) -> None:
    error = await refusal(f"postgresql://postgres:secret@{address}/template1")
    assert isinstance(error, SchemaVersionError)
    assert "'template1'" in str(error) and "`durable migrate --db URL`" in str(error)


async def test_a_server_that_is_down() -> None:
    said = str(await refusal("postgresql://ada:secret@127.0.0.1:1/shop"))
    assert "'shop' on 127.0.0.1:1 cannot be reached: nobody listens there" in said


async def test_a_host_that_is_not_known() -> None:
    said = str(await refusal("postgresql://ada:secret@no-such-host.invalid/shop"))
    assert "its host is not known" in said and "%40" in said


async def test_something_that_is_no_postgres() -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        url = f"postgresql://ada:secret@127.0.0.1:{port}/shop?sslmode=disable"
        assert "cannot be reached: the connection failed" in str(await refusal(url))


@asynccontextmanager
async def answering(words: bytes) -> AsyncIterator[int]:
    """The port of somebody who says this to whoever comes, and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(words)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with serving(answer) as port:
        yield port


@pytest.mark.parametrize("code", ["08P01", "26000", "42P05"])
def test_what_a_pooler_says_names_the_option_for_poolers(code: str) -> None:
    driver = asyncpg.PostgresError.new({"C": code, "M": "prepared statement", "S": "ERROR"})
    ours = translated(driver, "the Postgres database 'shop' on db")
    assert isinstance(ours, StoreUnavailableError)
    assert "pooler=True" in str(ours)


@pytest.mark.parametrize("sent", [True, False])
def test_a_pooler_that_breaks_off_leaves_open_what_was_sent(sent: bool) -> None:
    driver = asyncpg.PostgresError.new({"C": "08P01", "M": "server conn crashed?", "S": "FATAL"})
    ours = translated(driver, "the database", sent=sent)
    assert isinstance(ours, StoreUnavailableError)
    assert ours.outcome_unknown is sent
