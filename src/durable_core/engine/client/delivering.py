"""Delivering: messages are put into inboxes, and who is concerned in this process is told.

It is the verb ``deliver`` of the store, with all that follows from it here: a worker that has room
leases the runs they wake in the same transaction (``eager``), one that holds such a run reads its
inbox, and the others look for them. Senders are answered first, then the runs are adopted.

A message to a run that is being leased, or about to be adopted, waits for that, or nobody here
would be told of it. It does not wait for a message with a token, which may itself have to wait for
whoever has locked the run.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from ...errors import DurableError
from ...store import ClaimedRun, CommitVerdict, DeliverVerdict, Message
from ..shared import Shared
from ..shielded import ended
from ..worker.eager import Seats, refused
from .retrying import PATIENCE_S, retrying

ANSWERING_TURNS = 4
"""So many turns of the loop it takes until all senders of a call have heard its answer."""


class Delivering:
    """Delivers messages; made anew each time the engine is opened."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._tasks: dict[asyncio.Task[None], frozenset[str]] = {}
        """What goes on behind an answer, and the runs that are adopted by it."""
        self._leasing: dict[asyncio.Future[None], frozenset[str]] = {}
        """Calls that are not answered yet, and the runs that may be leased by them."""

    async def deliver(
        self, messages: Sequence[Message], *, inbox_limit: int
    ) -> Sequence[DeliverVerdict]:
        """In one transaction; raises as ``Store.deliver`` does."""
        local = self._shared.local
        run_ids = list(dict.fromkeys(message.run_id for message in messages))
        await self._adopted(run_ids)
        seats = local.seats_for(run_ids)
        verdicts: Sequence[DeliverVerdict]
        taken: frozenset[str] = frozenset()
        try:
            if seats is None:
                verdicts = await self._shared.store.deliver(messages, inbox_limit=inbox_limit)
            else:
                with self._leases(messages):
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
            foresight = seats.foresee(messages)
        except BaseException:  # of the user's code, which none of ours catches
            seats.leave()
            raise
        try:
            delivery = await shared.store.deliver_and_claim(
                messages,
                seats.request,
                inbox_limit=inbox_limit,
                foreseen=None if foresight is None else foresight.said,
            )
        except (Exception, asyncio.CancelledError) as error:
            if foresight is not None:
                foresight.forget()
            if refused(error):
                seats.leave()
            else:
                run_ids = {message.run_id: None for message in messages}
                self._begin(self._give_up(list(run_ids), seats))
            raise
        shared.clock.set(delivery.now_ms, stamp)
        taken = frozenset(claimed.run.run_id for claimed in delivery.runs)
        if foresight is not None and delivery.foreseen is CommitVerdict.APPLIED:
            foresight.came_true()
            taken |= {foresight.said.run_id}
        elif foresight is not None:
            foresight.forget()
        if delivery.runs:
            self._begin(self._adopt(delivery.runs, seats), taken)
        else:
            seats.leave()
        return delivery.verdicts, taken

    @contextlib.contextmanager
    def _leases(self, messages: Sequence[Message]) -> Iterator[None]:
        """What is sent to these runs meanwhile waits; their adoption has begun when this ends."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        run_ids = [message.run_id for message in messages if message.token is None]
        self._leasing[answered] = frozenset(run_ids)
        try:
            yield
        finally:
            del self._leasing[answered]
            answered.set_result(None)

    # --- behind the answer ----------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, None], adopts: frozenset[str] = frozenset()) -> None:
        """A worker that drains waits for it, because the places are kept until then."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = adopts
        task.add_done_callback(self._tasks.pop)

    async def _adopt(self, runs: Sequence[ClaimedRun], seats: Seats) -> None:
        for _ in range(ANSWERING_TURNS):
            await asyncio.sleep(0)
        await seats.take(runs)

    async def _adopted(self, run_ids: Sequence[str]) -> None:
        """Return when none of these is being leased, or about to be adopted."""
        while True:
            both = (*self._leasing.items(), *self._tasks.items())
            going = [one for one, concerned in both if not concerned.isdisjoint(run_ids)]
            if not going:
                return
            await asyncio.wait(going)

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
            # What was foreseen may have landed, and have made work for others, or ended its run.
            for record in found.values():
                if record.finished_at_ms is not None:
                    shared.local.run_ended(record.run_id)
            shared.local.runs_are_due()

    async def close(self) -> None:
        """Return when all is adopted or given up, or the store has said nothing for as long as a
        call waits."""
        await ended(self._tasks, PATIENCE_S)
