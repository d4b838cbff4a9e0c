"""Retention: runs that ended long ago are removed, for a client at once, by workers on a schedule.

Which runs may go is the store's to say (``Store.prune``). Here it is asked for as many batches as
there are, at such a pace that those who write meanwhile hardly notice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import timedelta

import attrs

from ..errors import DurableError
from ..kernel.policy import Duration
from ..store import Store
from . import arguments
from .clock import share
from .complaints import Complaints

log = logging.getLogger("durable.retention")

LEAST = timedelta(minutes=1)
"""Whoever waits for a run's end must have the time to read it."""
MOST_BETWEEN = timedelta(hours=1)
BATCH = 1_000


def _age(value: Duration) -> timedelta:
    age = timedelta(milliseconds=arguments.milliseconds(value, what="retention"))
    if age < LEAST:
        raise DurableError(
            f"retention must be at least {LEAST}, not {age}: whoever waits for a run's end must "
            "have the time to read it"
        )
    return age


def _statuses(value: str | Iterable[str] | None) -> tuple[str, ...] | None:
    return arguments.ended_statuses(value)


@attrs.frozen(slots=True)
class Retention:
    """How long workers keep runs that have ended; see ``Engine.worker``.

    ``older_than``: those are removed that ended longer ago (a timedelta or seconds, at least a
    minute). ``status``: only those that ended so, one status or several; None is any.
    """

    older_than: timedelta = attrs.field(converter=_age)
    status: tuple[str, ...] | None = attrs.field(default=None, converter=_statuses, kw_only=True)

    @property
    def every_s(self) -> float:
        """How often to look, on average."""
        return min(self.older_than / 10, MOST_BETWEEN).total_seconds()


def retention_of(value: Duration | Retention | None) -> Retention | None:
    """The argument ``retention`` of a worker. Raises ``DurableError``."""
    return value if value is None or isinstance(value, Retention) else Retention(value)


async def prune(
    store: Store, older_than: timedelta, statuses: tuple[str, ...] | None, batch: int = BATCH
) -> int:
    """Remove all that ended longer ago, by the store's clock as it is now; how many.

    A batch that comes back short may have made children prunable, so only an empty one is the
    last.
    """
    before_ms = await store.now_ms() - older_than // timedelta(milliseconds=1)
    loop = asyncio.get_running_loop()
    removed = 0
    while True:
        began_at = loop.time()
        gone = await store.prune(before_ms=before_ms, statuses=statuses, limit=batch)
        if not gone:
            return removed
        removed += gone
        # Writers wait while a batch is removed: half of the time is theirs.
        await asyncio.sleep(loop.time() - began_at)


class Pruner:
    """Prunes on a worker's schedule, from its start until it drains.

    The first time comes somewhere within the usual pause, so that workers started together do
    not prune together, and those restarted often do so sometimes.
    """

    def __init__(
        self,
        worker: str,
        store: Store,
        retention: Retention | None,
        *,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self._worker = worker
        self._store = store
        self._retention = retention
        self._entropy = entropy
        self._complaints = Complaints(log)

    def start(self) -> None:
        """Begin, if there is anything to do at all."""
        if self._retention is not None:
            self.task = asyncio.get_running_loop().create_task(self._run(self._retention))

    def stop(self) -> None:
        """Begin no further batch. Of one under way, all is removed or nothing."""
        if self.task is not None:
            self.task.cancel()

    async def _run(self, retention: Retention) -> None:
        await asyncio.sleep(retention.every_s * share(self._entropy))
        while True:
            try:
                removed = await prune(self._store, retention.older_than, retention.status)
                if removed:
                    log.info(
                        "worker %s removed %d runs that ended more than %s ago",
                        self._worker,
                        removed,
                        retention.older_than,
                    )
            except Exception as error:
                self._complaints.say(
                    f"worker {self._worker} cannot remove old runs, and tries again later", error
                )
            await asyncio.sleep(retention.every_s * (0.5 + share(self._entropy)))
