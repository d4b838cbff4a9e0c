"""Delivering: messages are put into inboxes, and who is concerned in this process is told.

It is the verb ``deliver`` of the store, with all that follows from it here: a worker that has room
leases the runs they wake in the same transaction (``eager``), one that holds such a run reads its
inbox, and the others look for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ..errors import DurableError
from ..store import DeliverVerdict, Message
from .eager import Seats, refused
from .retrying import PATIENCE_S, retrying
from .shared import Shared
from .shielded import ended


class Delivering:
    """Delivers messages; made anew each time the engine is opened."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._tasks: set[asyncio.Task[None]] = set()

    async def deliver(
        self, messages: Sequence[Message], *, inbox_limit: int
    ) -> Sequence[DeliverVerdict]:
        """In one transaction; raises as ``Store.deliver`` does."""
        local = self._shared.local
        run_ids = list(dict.fromkeys(message.run_id for message in messages))
        seats = local.seats_for(run_ids)
        verdicts: Sequence[DeliverVerdict]
        taken: frozenset[str] = frozenset()
        try:
            if seats is None:
                verdicts = await self._shared.store.deliver(messages, inbox_limit=inbox_limit)
            else:
                verdicts, taken = await self._take(messages, inbox_limit, seats)
        except (Exception, asyncio.CancelledError) as error:
            if not refused(error):
                for run_id in run_ids:
                    local.delivered(run_id)  # it may have been
            raise
        pairs = zip(messages, verdicts, strict=True)
        reached = dict.fromkeys(m.run_id for m, v in pairs if v is DeliverVerdict.DELIVERED)
        for run_id in reached:
            if run_id not in taken:
                local.delivered(run_id)
        return verdicts

    async def _take(
        self, messages: Sequence[Message], inbox_limit: int, seats: Seats
    ) -> tuple[Sequence[DeliverVerdict], frozenset[str]]:
        """Verdicts, and the runs that found a place."""
        shared = self._shared
        stamp = shared.clock.stamp()
        try:
            delivery = await shared.store.deliver_and_claim(
                messages, seats.request, inbox_limit=inbox_limit, mark=seats.mark
            )
        except (Exception, asyncio.CancelledError) as error:
            if refused(error):
                seats.leave()
            else:
                run_ids = {message.run_id: None for message in messages}
                self._begin_to_give_up(list(run_ids), seats)
            raise
        shared.clock.set(delivery.now_ms, stamp)
        await seats.take(delivery.runs)
        return delivery.verdicts, frozenset(claimed.run.run_id for claimed in delivery.runs)

    # --- answers that are lost ------------------------------------------------------------------

    def _begin_to_give_up(self, run_ids: Sequence[str], seats: Seats) -> None:
        """Nobody waits for that but a worker that drains, because the places are kept until then,
        and ``close``."""
        task = asyncio.get_running_loop().create_task(self._give_up(run_ids, seats))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _give_up(self, run_ids: Sequence[str], seats: Seats) -> None:
        shared = self._shared
        try:
            found = await retrying(lambda: shared.store.get(run_ids), shared.host.entropy)
        except DurableError:
            seats.leave()  # what was leased expires
        except BaseException:
            seats.leave()
            raise
        else:
            seats.give_up(found.values(), shared.clock.now_ms())

    async def close(self) -> None:
        """Return when all is given up, or the store has said nothing for as long as a call
        waits."""
        await ended(self._tasks, PATIENCE_S)
