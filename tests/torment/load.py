"""The load: a client that starts runs and signals them, through whatever is done to it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from tests.torment.history import History
from tests.torment.mixed import MIXED
from tests.torment.outcome import LIVE
from tests.torment.processes import eventually

from durable_core import Engine, Run, RunFinishedError, Start
from durable_core.errors import StoreUnavailableError

BATCH = 10
AT_ONCE = 60
"""Runs under way; more are started when there are fewer."""
WAIT_S = 5.0
"""For room; then more are started all the same, or it would never be enough."""
SIGNAL_WITHIN_S = 2.0
"""Half of the signals come at once, perhaps before the run waits for them, half so much later."""


class Load:
    """Starts runs of ``MIXED`` by their numbers and sends each its signal.

    ``client`` is what it works with; ``watcher`` only counts how many runs are under way.
    """

    def __init__(
        self, client: Engine, watcher: Engine, history: History, chance: random.Random
    ) -> None:
        self.runs: list[Run[Any]] = []
        self.in_doubt: set[str] = set()
        """Runs of which it was not known whether they got a signal, so that it was sent again."""
        self._client = client
        self._watcher = watcher
        self._history = history
        self._chance = chance
        self._unanswered: list[tuple[str, Callable[[], Awaitable[Any]]]] = []

    async def start_until(self, enough: Callable[[], bool]) -> None:
        """Batch after batch."""
        async with asyncio.TaskGroup() as signals:
            while not enough():
                numbers = range(len(self.runs), len(self.runs) + BATCH)
                self.runs += [self._client.run(f"r{n:05}") for n in numbers]
                await self._start(numbers[: BATCH // 2])
                await asyncio.gather(*(self._start([n]) for n in numbers[BATCH // 2 :]))
                for n in numbers:
                    signals.create_task(self._signal(n, self._chance.random() * (n % 2)))
                await eventually(self._is_room, within_s=WAIT_S)

    async def settle(self) -> None:
        """Ask again for what was given up without knowing."""
        unanswered, self._unanswered = self._unanswered, []
        for operation, call in unanswered:
            await self._insist(operation, call)

    async def _insist(self, operation: str, call: Callable[[], Awaitable[Any]]) -> None:
        if not await self._history.insist(operation, call):
            self._unanswered.append((operation, call))

    async def _start(self, numbers: Any) -> None:
        starts = [Start(MIXED, {"n": n}, id=self.runs[n].id) for n in numbers]
        if len(starts) > 1:
            await self._insist("start_many", partial(self._client.start_many, starts))
        else:
            start = partial(self._client.start, MIXED, starts[0].input, id=starts[0].id)
            await self._insist("start", start)

    async def _signal(self, n: int, wait: float) -> None:
        await asyncio.sleep(wait * SIGNAL_WITHIN_S)
        keyed = n % 3 > 0
        await self._insist("signal" if keyed else "keyless signal", partial(self._send, n, keyed))

    async def _send(self, n: int, keyed: bool) -> None:
        """A signal without a key is the client's to send again, and may then be there twice; that
        the run has ended meanwhile says that it got one."""
        run, payload = self.runs[n], {"for": n}
        if keyed:
            await run.signal("go", payload, dedupe_id="once")
            return
        try:
            await run.signal("go", payload)
        except RunFinishedError:
            assert run.id in self.in_doubt
        except StoreUnavailableError as error:
            if error.outcome_unknown:
                self.in_doubt.add(run.id)
            raise

    async def _is_room(self) -> bool:
        with contextlib.suppress(StoreUnavailableError):
            live = self._watcher.runs(status=LIVE, workflow=MIXED.name)
            return len([info async for info in live]) < AT_ONCE
        return False
