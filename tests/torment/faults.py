"""Faults: everything that is done to workers, connections and the server, again and again.

Each kind has a rhythm and a number of times that it must come true; a fault that finds nothing
to hit does not count. All of them come at once, each in its own loop.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import attrs
from tests.torment.crew import Crew
from tests.torment.proxy import Fault, Proxy

from durable_core.testing.postgres import PostgresServer
from durable_pg.translate import DRIVER_ERRORS

CUT_VERBS = ("claim", "commit", "commit", "create", "deliver", "renew", "COMMIT")
"""What the proxy's faults hit; COMMIT is of the transactions in which lost answers are settled."""
BACKENDS = """
SELECT pid FROM pg_stat_activity
WHERE backend_type = 'client backend' AND application_name = 'durable-core'
ORDER BY pid
"""


@attrs.frozen
class Rhythm:
    """How often on average, and how many times at least."""

    every_s: float
    wanted: int


RHYTHMS: Mapping[str, Rhythm] = {
    "SIGKILL": Rhythm(1.0, 25),
    "SIGSTOP": Rhythm(5.0, 3),
    "terminate": Rhythm(0.8, 20),
    "restart": Rhythm(12.0, 2),
    "dark": Rhythm(12.0, 2),
    "cut": Rhythm(0.4, 0),
}
"""Cuts are counted by what became of them, each of which must come true so often:"""
EACH_CUT = 5
AGAIN_S = 0.1
"""After a fault that found nothing to hit."""


class Faults:
    """Fires from ``run`` until ``end``."""

    def __init__(
        self,
        server: PostgresServer,
        proxy: Proxy,
        crew: Crew,
        *,
        lease_s: float,
        chance: random.Random,
    ) -> None:
        self._server = server
        self._proxy = proxy
        self._crew = crew
        self._lease_s = lease_s
        self._chance = chance
        self._own: Counter[str] = Counter()
        self._over = asyncio.Event()

    @property
    def fired(self) -> Mapping[str, int]:
        """How often each kind came true."""
        return {**self._own, **{str(fault): n for fault, n in self._proxy.fired.items()}}

    @property
    def missing(self) -> Mapping[str, int]:
        """How often each kind must still come true."""
        wanted = {kind: rhythm.wanted for kind, rhythm in RHYTHMS.items()}
        wanted |= {str(fault): EACH_CUT for fault in Fault}
        left = {kind: n - self.fired.get(kind, 0) for kind, n in wanted.items()}
        return {kind: n for kind, n in left.items() if n > 0}

    async def run(self) -> None:
        """All at once, until ``end``."""
        faults: Mapping[str, Callable[[], Awaitable[bool]]] = {
            "SIGKILL": self._kill,
            "SIGSTOP": self._stop,
            "terminate": self._terminate,
            "restart": self._restart,
            "dark": self._go_dark,
            "cut": self._cut,
        }
        async with asyncio.TaskGroup() as group:
            for kind, fault in faults.items():
                group.create_task(self._repeat(kind, fault))

    def end(self) -> None:
        """Let every fault that has begun come to its end, and begin no more."""
        self._over.set()

    async def _repeat(self, kind: str, fault: Callable[[], Awaitable[bool]]) -> None:
        pause_s = every_s = RHYTHMS[kind].every_s
        while not await self._over_within(pause_s):
            came_true = await fault()
            self._own[kind] += came_true
            pause_s = every_s * self._chance.uniform(0.5, 1.5) if came_true else AGAIN_S

    async def _over_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._over.wait()
        except TimeoutError:
            return False

    # --- what is done --------------------------------------------------------------------------

    async def _kill(self) -> bool:
        member = self._crew.pick(self._chance)
        if member is not None:
            self._crew.kill(member)
        return member is not None

    async def _stop(self) -> bool:
        """Past its lease, so that others take over what it holds, and then it wakes."""
        member = self._crew.pick(self._chance)
        if member is not None:
            await self._crew.stop(member, self._lease_s * self._chance.uniform(1.3, 2.0))
        return member is not None

    async def _terminate(self) -> bool:
        """What ends one connection: an administrator, a load balancer, a crashed backend."""
        try:
            conn: Any = await asyncpg.connect(self._server.dsn(), timeout=10, command_timeout=10)
            try:
                pids = [row["pid"] for row in await conn.fetch(BACKENDS)]
                if not pids:
                    return False
                pid = self._chance.choice(pids)
                return bool(await conn.fetchval("SELECT pg_terminate_backend($1)", pid))
            finally:
                conn.terminate()
        except DRIVER_ERRORS:
            return False  # the server is down just now

    async def _restart(self) -> bool:
        """Half of the time its other processes notice the death, and may say goodbye."""
        kill = self._chance.choice((self._server.kill, self._server.kill_all))
        await asyncio.to_thread(kill)
        await asyncio.sleep(self._chance.uniform(0, 1.0))
        await asyncio.to_thread(self._server.restart)
        return True

    async def _go_dark(self) -> bool:
        self._proxy.go_dark()
        await asyncio.sleep(self._lease_s * self._chance.uniform(0.5, 1.5))
        self._proxy.go_light()
        return True

    async def _cut(self) -> bool:
        """Told to the proxy, which counts it when it finds such a request."""
        verb = self._chance.choice(CUT_VERBS)
        if verb not in self._proxy.awaited:
            pause_s = self._lease_s * self._chance.uniform(0, 1.5)
            self._proxy.arm(self._chance.choice(list(Fault)), verb, pause_s=pause_s)
        return True
