"""docs/postgres.md: its commands, scripts and fragments do what the page says they do."""

from __future__ import annotations

import asyncio
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from tests.docs.pages import ROOT, blocks
from tests.postgres_kit import MAJORS, execute, own_database
from tests.serving import serving

from durable_core import DurableError, Engine, StepContext, Workflow
from durable_core.testing.postgres import NO_POSTGRES
from durable_ops.cli import main

PAGE = ROOT / "docs" / "postgres.md"
URL = re.compile(r"postgresql://\w+@localhost/shop")
DURABLE = (sys.executable, "-c", "import sys; from durable_ops.cli import main; sys.exit(main())")
KNOWN_TO_PGBOUNCER = {"user", "database", "application_name", "client_encoding"}

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES),
]


def fragment(language: str, word: str) -> str:
    """The only block of this language that has the word in it."""
    (text,) = (block for block in blocks(PAGE, language) if word in block)
    return text


def commands() -> list[str]:
    """Every line of a shell block, without its comment."""
    lines = [line for block in blocks(PAGE, "sh") for line in block.splitlines()]
    return [line.partition(" #")[0].strip() for line in lines]


@pytest.fixture
def database() -> Iterator[str]:
    with own_database(MAJORS[0]) as dsn:
        yield dsn


@pytest.fixture
def role(database: str) -> Iterator[str]:
    """A name for a role that is gone after the test; roles belong to the whole server."""
    name = database.rpartition("/")[2] + "_app"
    yield name
    execute(database, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_the_commands_migrate(database: str) -> None:
    ours = [line for line in commands() if line.startswith("durable") and "|" not in line]
    assert len(ours) == 3
    for line in ours:
        assert main(shlex.split(URL.sub(database, line))[1:]) == 0


@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql")
def test_the_printed_sql_goes_through_psql(database: str) -> None:
    (line,) = (line for line in commands() if "psql" in line)
    (_, *words), psql = (shlex.split(URL.sub(database, part)) for part in line.split("|"))
    durable = [
        sys.executable,
        "-c",
        "import sys; from durable_ops.cli import main; sys.exit(main())",
    ]
    sql = subprocess.run([*durable, *words], capture_output=True, check=True, timeout=60)
    subprocess.run(psql, input=sql.stdout, capture_output=True, check=True, timeout=60)
    assert main(["migrate", "--db", database, "--check"]) == 0


def test_the_alembic_revision_migrates(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alembic = types.ModuleType("alembic")
    vars(alembic)["op"] = types.SimpleNamespace(execute=lambda sql: execute(database, sql))
    monkeypatch.setitem(sys.modules, "alembic", alembic)
    revision = tmp_path / "revision.py"
    revision.write_text(fragment("py", "alembic"), encoding="utf-8")
    runpy.run_path(str(revision))["upgrade"]()
    assert main(["migrate", "--db", database, "--check"]) == 0


async def book(ctx: StepContext[None, int]) -> int:
    number: int = await ctx.conn.fetchval("SELECT 1 + $1::int", ctx.input)
    return number


booking = (
    Workflow("booking", input=int)
    .wait_for_signal("go", "go")
    .step("book", book, transactional=True)
)


def test_the_roles_rights_suffice_to_work_and_no_further(database: str, role: str) -> None:
    script = re.sub(r"\bapp\b", role, fragment("sql", "GRANT"))
    url = database.replace("postgres@", f"{role}@")

    async def work() -> None:
        connection = await asyncpg.connect(url)
        engine = Engine(url, [booking], migrate=True)  # finds nothing to do
        async with engine, engine.worker():
            async with connection.transaction():
                run = await engine.start(booking, 1, conn=connection)
            async with connection.transaction():
                await engine.signal(run.id, "go", conn=connection)
            assert await run.result(timeout=20) == {"go": None, "book": 2}
            assert await engine.prune(older_than=0) == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE durable.mine (x int)")
        assert await connection.fetch("SELECT * FROM durable.later") == []
        await connection.close()

    assert main(["migrate", "--db", database]) == 0
    execute(database, script)
    execute(database, "CREATE TABLE durable.later (x int)")  # as a later migration might
    asyncio.run(work())


def test_without_the_script_a_role_is_told_what_it_lacks(database: str, role: str) -> None:
    assert main(["migrate", "--db", database]) == 0
    execute(database, f"CREATE ROLE {role} LOGIN")

    async def enter() -> None:
        async with Engine(database.replace("postgres@", f"{role}@")):
            pass

    with pytest.raises(DurableError, match="USAGE on the schema"):
        asyncio.run(enter())


def test_the_view_shows_runs(database: str) -> None:
    assert main(["migrate", "--db", database]) == 0
    execute(database, fragment("sql", "durable.record"))


async def test_a_pooler_is_told_of_every_setting() -> None:
    _, _, listed = fragment("ini", "ignore_startup_parameters").partition("=")
    sent: set[str] = set()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4), "big")
        words = (await reader.readexactly(length - 4))[4:].decode().split("\0")
        sent.update(word for word in words[::2] if word)

    async with serving(hear) as port:
        with pytest.raises(DurableError):
            async with Engine(f"postgresql://ada@127.0.0.1:{port}/shop?sslmode=disable"):
                pass
    assert "jit" in sent
    assert sent - KNOWN_TO_PGBOUNCER <= {name.strip() for name in listed.split(",")}


def test_the_citus_script_names_every_table(database: str) -> None:
    async def tables() -> set[str]:
        connection = await asyncpg.connect(database)
        rows = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'durable'"
        )
        await connection.close()
        return {row["tablename"] for row in rows}

    assert main(["migrate", "--db", database]) == 0
    named = re.findall(r"table\('durable\.(\w+)'", fragment("sql", "create_reference_table"))
    assert len(named) == len(set(named))
    assert set(named) == asyncio.run(tables())


def test_the_test_on_the_page_passes(tmp_path: Path) -> None:
    (tmp_path / "test_greeting.py").write_text(fragment("py", "durable_pg)"), encoding="utf-8")
    settings = ("asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider"]
        + [f"--override-ini={setting}" for setting in settings]
        + [f"--rootdir={tmp_path}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr
