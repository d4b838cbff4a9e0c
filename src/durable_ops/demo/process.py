"""The worker's process: started, killed without mercy, or asked to leave."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Self

from .shop import now_ms

TAIL = 30
"""Lines of a worker's log that are shown when it ends unasked."""


class WorkerDied(Exception):
    """A worker ended that nobody had killed; the message has the end of its log."""


class WorkerProcess:
    """One running worker. It reads a pipe of ours and leaves when that ends."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.pid = process.pid

    @classmethod
    async def start(cls, url: str, ledger: Path, log: Path, *, queue: str, seed: int) -> Self:
        """Start a worker on this database; what it prints is appended to ``log``."""
        with log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "durable_ops.demo.worker",
                url,
                str(ledger),
                "--queue",
                queue,
                "--seed",
                str(seed),
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                start_new_session=True,  # Ctrl-C is for us; we end it ourselves
            )
        return cls(process, log)

    def check(self) -> None:
        """Raise ``WorkerDied`` if it is not running any more."""
        if self._process.returncode is not None:
            lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
            raise WorkerDied(
                f"worker {self.pid} ended by itself with status {self._process.returncode}; "
                f"the end of its log:\n" + "\n".join(lines[-TAIL:])
            )

    async def kill(self) -> int:
        """SIGKILL: it gets no chance to say good-bye. Gives the moment, ms since the epoch."""
        moment = now_ms()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        return moment

    async def leave(self, *, patience: float = 10.0) -> None:
        """Let it drain for up to ``patience`` seconds; ``end`` is for the rest."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._process.wait()

    async def end(self) -> None:
        """Make sure that it is gone."""
        if self._process.returncode is None:
            await self.kill()
