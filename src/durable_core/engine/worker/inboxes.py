"""Inboxes: the messages of held runs are read, of many runs by one call.

Rules:

1. Who asks while the store is being asked is answered by the next call: never by one that may
   have looked before.
2. If the store cannot be asked, the next commit or renewal brings the mail.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from ...store import InboxRecord, Store
from ..complaints import Complaints
from .runner import Runner


class Inboxes:
    """Those of the runs in ``held``."""

    def __init__(
        self,
        store: Store,
        held: Mapping[str, Runner],
        log: logging.Logger,
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self._store = store
        self._held = held
        self._wanted: dict[str, None] = {}
        self._complaints = Complaints(log)

    def look(self, run_ids: Iterable[str]) -> None:
        """Have the inboxes of these held runs read soon."""
        self._wanted.update(dict.fromkeys(run_ids))
        if self._wanted and self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, {}
                await self._read_these(wanted)
        finally:
            self.task = None

    async def _read_these(self, wanted: Iterable[str]) -> None:
        leases = [self._held[run_id].lease for run_id in wanted if run_id in self._held]
        try:
            mail = await self._store.inbox(leases) if leases else {}
        except Exception as error:
            self._complaints.say("mail could not be read, and comes later", error)
            return
        self.came(mail, {lease.run_id: lease.epoch for lease in leases})

    def came(self, mail: Mapping[str, tuple[InboxRecord, ...]], epochs: Mapping[str, int]) -> None:
        """These messages came, of runs that were held under these epochs."""
        for run_id, records in mail.items():
            runner = self._held.get(run_id)
            # Of a run that is held anew, old mail may have been consumed meanwhile.
            if runner is not None and runner.lease.epoch == epochs[run_id]:
                runner.mail(records)
