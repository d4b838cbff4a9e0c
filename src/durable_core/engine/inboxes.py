"""Inboxes: the messages of held runs are read, of many runs by one call.

Rules:

1. Who asks while the store is being asked is answered by the next call: never by one that may
   have looked before.
2. A run that has rested goes on when its inbox was read. It was read before, when the run was
   claimed; what came since, and was acknowledged before its moment, must be heard before time
   decides.
3. If the store cannot be asked, such a run asks again after growing pauses. For the others the
   next commit or renewal brings their mail.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from ..store import InboxRecord, Store
from .clock import Backoff
from .complaints import Complaints
from .runner import Runner


class Inboxes:
    """Those of the runs in ``held``."""

    def __init__(
        self,
        store: Store,
        held: Mapping[str, Runner],
        *,
        entropy: Callable[[int], bytes],
        log: logging.Logger,
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self._store = store
        self._held = held
        self._wanted: dict[str, None] = {}
        self._waiting: list[Runner] = []
        self._backoff = Backoff(entropy)
        self._complaints = Complaints(log)

    def look(self, run_ids: Iterable[str]) -> None:
        """Have the inboxes of these held runs read soon."""
        self._wanted.update(dict.fromkeys(run_ids))
        if self._wanted and self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._read())

    def look_for(self, runner: Runner) -> None:
        """The same, for a run that waits for it."""
        self._waiting.append(runner)
        self.look((runner.run_id,))

    async def _read(self) -> None:
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, {}
                waiting, self._waiting = self._waiting, []
                await self._read_these(wanted, waiting)
        finally:
            self.task = None

    async def _read_these(self, wanted: Iterable[str], waiting: Iterable[Runner]) -> None:
        leases = [self._held[run_id].lease for run_id in wanted if run_id in self._held]
        try:
            mail = await self._store.inbox(leases) if leases else {}
        except Exception as error:
            self._not_read(waiting, error)
            return
        self._backoff.reset()
        self.came(mail, {lease.run_id: lease.epoch for lease in leases})
        for runner in waiting:
            runner.looked()

    def _not_read(self, waiting: Iterable[Runner], error: Exception) -> None:
        self._complaints.say("mail could not be read, and comes later", error)
        pause_s = self._backoff.next_s()
        for runner in waiting:
            runner.not_looked(pause_s)

    def came(self, mail: Mapping[str, tuple[InboxRecord, ...]], epochs: Mapping[str, int]) -> None:
        """These messages came, of runs that were held under these epochs."""
        for run_id, records in mail.items():
            runner = self._held.get(run_id)
            # Of a run that is held anew, old mail may have been consumed meanwhile.
            if runner is not None and runner.lease.epoch == epochs[run_id]:
                runner.mail(records)
