"""Creating: new runs are written, and who is concerned in this process is told.

It is the verb ``create`` of the store, with all that follows from it here: a worker that has room
adopts them, others look for them, observers hear of them, and those who will wait for their ends
know that they have only begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...store import CreateResult, NewRun
from ..observer import RunStarted
from ..shared import Shared
from ..shielded import ended
from ..waiting import Ends
from .retrying import PATIENCE_S


class Creating:
    """Creates runs; made anew each time the engine is opened."""

    def __init__(self, shared: Shared, ends: Ends) -> None:
        self._shared = shared
        self._ends = ends
        self._tasks: set[asyncio.Task[Sequence[CreateResult]]] = set()

    async def create_to_the_end(self, news: Sequence[NewRun]) -> Sequence[CreateResult]:
        """As ``create``, for a caller that may be cancelled: it is done to its end all the same."""
        task = asyncio.get_running_loop().create_task(self.create(news))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Sequence[CreateResult]]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to the caller, if there is one left

    async def close(self) -> None:
        """Return when all is created, or the store has said nothing for as long as a call waits."""
        await ended(self._tasks, PATIENCE_S)

    async def create(self, news: Sequence[NewRun]) -> Sequence[CreateResult]:
        """In one transaction; raises as ``Store.create`` does."""
        shared = self._shared
        places = shared.local.places_for([new for new in news if not new.delay_ms])
        if places is not None:
            news = [new if new.delay_ms else places.leased(new) for new in news]
        try:
            results = await shared.store.create(news)
        except (Exception, asyncio.CancelledError) as error:
            if places is not None:
                places.give_up(error, shared.clock.now_ms())
            shared.local.runs_are_due()  # they may have been created all the same
            raise
        self._ends.created(one.record.run_id for one in results if one.created)
        self.tell(results)
        if places is not None:
            await places.take(results)
        return results

    def tell(self, results: Sequence[CreateResult]) -> None:
        """These were created, and those that no worker here has at once are due."""
        shared = self._shared
        created = [one.record for one in results if one.created]
        if any(record.owner is None for record in created):
            shared.local.runs_are_due()
        if shared.observers:
            for record in created:
                event = RunStarted(run_id=record.run_id, workflow=record.workflow)
                shared.observers.tell(event)
