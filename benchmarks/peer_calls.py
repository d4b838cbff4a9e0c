"""Calls: when the handlers of a peer's workflows were called, by the number in their input."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg

from benchmarks.peer import WAITING, Client, at_once, check
from benchmarks.whole_engine import now

LOOK_S = 0.05


class Calls:
    """``handle`` is the first step's."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}
        self._one_more = asyncio.Semaphore(0)

    async def handle(self, value: Any, index: int) -> dict[str, Any]:
        called = now()
        assert self.at.setdefault(value["n"], called) == called, "a handler was called twice"
        self._one_more.release()
        return await at_once(value, index)

    async def wait(self, count: int) -> None:
        """Until there are so many more."""
        for _ in range(count):
            await self._one_more.acquire()


async def all_waiting(dsn: str, engine: str, count: int) -> None:
    """Return when so many workflows have written down that they wait."""
    conn: Any = await asyncpg.connect(dsn)
    while True:
        found = await conn.fetchval(WAITING[engine])
        if found >= count:
            break
        await asyncio.sleep(LOOK_S)
    assert found == count, f"{found} are waiting, not {count}"
    await conn.close()


async def check_all(client: Client, runs: Sequence[Any]) -> None:
    """That each has the right result, of one step."""
    for result in await asyncio.gather(*(client.result(run) for run in runs)):
        check(result, 1)
