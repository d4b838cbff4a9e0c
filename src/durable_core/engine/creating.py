"""Creating: new runs are written, and who is concerned in this process is told.

It is the verb ``create`` of the store, with all that follows from it here: a worker that has room
adopts them, others look for them, observers hear of them, and those who will wait for their ends
know that they have only begun.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..store import CreateResult, NewRun
from .observer import RunStarted
from .shared import Shared
from .waiting import Ends


class Creating:
    """Creates runs; made anew each time the engine is opened."""

    def __init__(self, shared: Shared, ends: Ends) -> None:
        self._shared = shared
        self._ends = ends

    async def create(self, news: Sequence[NewRun]) -> Sequence[CreateResult]:
        """In one transaction; raises as ``Store.create`` does."""
        shared = self._shared
        places = shared.local.places_for([new for new in news if not new.delay_ms])
        if places is not None:
            news = [new if new.delay_ms else places.leased(new) for new in news]
        try:
            results = await shared.store.create(news)
        except BaseException:
            if places is not None:
                places.leave()
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
