"""Listener: hears that other processes changed something, for everybody in this one.

One task a store, and only while somebody listens: ``Store.wait_for_work`` tells each change once,
so it is asked in one place. After silence for ``fallback_s`` everybody is told all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..errors import DurableError
from ..store import Store
from .clock import Backoff

log = logging.getLogger("durable.listener")

REST_S = 0.002
"""Pause between two changes, so that a busy neighbour does not keep this process busy too."""


class Listener:
    """Calls its listeners after changes by others, and sometimes for nothing."""

    def __init__(
        self, store: Store, *, fallback_s: float | None, entropy: Callable[[int], bytes]
    ) -> None:
        self._store = store
        self._fallback_ms = None if fallback_s is None else round(fallback_s * 1000)
        self._entropy = entropy
        self._listeners: dict[Callable[[], None], None] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, listener: Callable[[], None]) -> None:
        """Begin to tell this one."""
        self._listeners[listener] = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def remove(self, listener: Callable[[], None]) -> None:
        """Tell it no more; without listeners nothing runs."""
        self._listeners.pop(listener, None)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None

    async def close(self) -> None:
        """Stop, and wait until it has stopped."""
        task, self._task = self._task, None
        self._listeners.clear()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        backoff = Backoff(self._entropy)
        while True:
            try:
                await self._store.wait_for_work(self._fallback_ms)
                backoff.reset()
            except DurableError as error:
                log.debug("listening failed, and is tried again: %s", error)
                await asyncio.sleep(backoff.next_s())
            for listener in list(self._listeners):
                listener()
            await asyncio.sleep(REST_S)
