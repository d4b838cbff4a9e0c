"""Processes: starting the ledger and workers, and ending exactly those that were started."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.torment.ledger import LedgerReader

from durable_core.testing.tether import tethered

ROOT = Path(__file__).parents[2]


ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}


def command(module: str, *arguments: object) -> list[str]:
    """How to run a module of this folder, from ``ROOT``; warnings are errors in it. It ends with
    this process, also where no test comes to its end."""
    return tethered([sys.executable, "-W", "error", "-m", f"tests.torment.{module}", *arguments])


def start(module: str, *arguments: object, stdin: int | None = None) -> subprocess.Popen[str]:
    """A module of this folder as a process."""
    return subprocess.Popen(
        command(module, *arguments),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=stdin,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    """Kill this process, if it still runs, and collect it."""
    if process.poll() is None:
        process.kill()
    process.wait(timeout=30)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


@contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """The process, for the length of a block."""
    try:
        yield process
    finally:
        end(process)


@contextmanager
def ledger() -> Iterator[tuple[int, LedgerReader]]:
    """A ledger process: its port, and a reader of it."""
    with running(start("ledger", stdin=subprocess.PIPE)) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        reader = LedgerReader(port)
        try:
            yield port, reader
        finally:
            reader.close()


@contextmanager
def worker(url: str, port: int, *options: object) -> Iterator[subprocess.Popen[str]]:
    """A worker process on this store that has begun to work; ``port`` is the ledger's."""
    with running(start("worker", url, port, *options)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


async def eventually(
    condition: Callable[[], Awaitable[bool]], *, within_s: float, every_s: float = 0.05
) -> bool:
    """Whether the condition came true in time; it is about other processes, so it is polled."""
    give_up_at = time.monotonic() + within_s
    while not await condition():
        if time.monotonic() > give_up_at:
            return False
        await asyncio.sleep(every_s)  # no event crosses from those processes
    return True
