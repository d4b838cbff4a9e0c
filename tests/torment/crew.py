"""A crew of worker processes: whoever ends is replaced at once, as a supervisor would do it."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Self

import attrs
from tests.torment.processes import ENVIRONMENT, ROOT, command, eventually

PATIENCE_S = 30.0
REPLACED_AFTER_S = 0.2
"""A worker that could not even begin, as when the database is down."""


@attrs.define(eq=False)
class Member:
    """A worker process."""

    process: asyncio.subprocess.Process
    ready: bool = False
    stopped: bool = False

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid


class Crew:
    """One worker for each of these store URLs, while it is entered."""

    def __init__(self, urls: Sequence[str], *options: object) -> None:
        self.killed: set[int] = set()
        self.stops: list[tuple[int, float, float]] = []
        """Pids, when they were stopped, and when they were woken, in monotonic seconds."""
        self.started = 0
        self.deserters: list[str] = []
        """Workers that began, and ended although nobody had killed them."""
        self._urls = urls
        self._options = options
        self._members: list[Member] = []
        self._places: list[asyncio.Task[None]] = []
        self._leaving = False

    async def __aenter__(self) -> Self:
        self._places = [asyncio.ensure_future(self._fill_place(url)) for url in self._urls]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leaving = True
        for member in self._members:
            if member.process.returncode is None:
                member.process.kill()
        await asyncio.gather(*self._places)

    async def _fill_place(self, url: str) -> None:
        while not self._leaving:
            process = await asyncio.create_subprocess_exec(
                *command("worker", url, *self._options),
                cwd=ROOT,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
            member = Member(process)
            self._members.append(member)
            assert process.stdout is not None
            member.ready = await process.stdout.readline() == b"ready\n"
            code = await process.wait()
            self._members.remove(member)
            if not member.ready:
                await asyncio.sleep(REPLACED_AFTER_S)
            elif not self._leaving and member.pid not in self.killed:
                self.deserters.append(f"worker {member.pid} ended by itself, with {code}")
            self.started += member.ready

    def pick(self, chance: random.Random) -> Member | None:
        """Somebody at work; nobody, if only half of them are: they shall get somewhere, also
        where it takes long to begin."""
        able = [
            member
            for member in self._members
            if member.ready and not member.stopped and member.pid not in self.killed
        ]
        return chance.choice(able) if 2 * len(able) > len(self._urls) else None

    def kill(self, member: Member) -> None:
        """SIGKILL."""
        self.killed.add(member.pid)
        member.process.kill()

    async def stop(self, member: Member, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after a while."""
        member.stopped, began = True, time.monotonic()
        member.process.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.stops.append((member.pid, began, time.monotonic()))
            member.process.send_signal(signal.SIGCONT)
            member.stopped = False

    async def _is_complete(self) -> bool:
        return [member.ready for member in self._members] == [True] * len(self._urls)

    async def drain(self) -> list[int]:
        """SIGTERM to all of them, when all are at work; the codes with which they end."""
        await eventually(self._is_complete, within_s=PATIENCE_S)
        self._leaving = True
        members = list(self._members)
        for member in members:
            member.process.terminate()
        return [await member.process.wait() for member in members]
