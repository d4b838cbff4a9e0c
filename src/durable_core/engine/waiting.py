"""Waiting: who waits for a run's end, and how the end is heard of.

Rules:

1. A run that ends in this process is told by its worker at once; who waits for its result is given
   the journal that the worker holds, and nothing is read.
2. Ends elsewhere are looked for with one read over all awaited runs, whenever the store has
   changed, and only while anybody waits.
3. Who begins to wait looks first, because it may be over. Only for a run that was created here a
   moment ago, and has not ended here, that look has time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

import attrs

from ..errors import DurableError, RunNotFoundError, StoreUnavailableError
from ..kernel.journal import Journal
from ..kernel.run import TERMINAL, RunContext
from ..store import RunRecord, Store
from .clock import Backoff
from .listener import Listener

log = logging.getLogger("durable.client")

ENDED = frozenset(status.value for status in TERMINAL)
RECENT = 10_000
"""How many runs created here are remembered as such."""
FIRST_LOOK_S = 0.02
"""When, at the latest, it is looked whether one of them has ended elsewhere."""


@attrs.frozen(slots=True)
class Completed:
    """A run that has completed in this process: its facts, and its journal."""

    run: RunContext
    entries: Journal


Waiter = asyncio.Future[RunRecord | Completed]


class Ends:
    """Those who wait for ends of runs."""

    def __init__(
        self, store: Store, listener: Listener, *, entropy: Callable[[int], bytes]
    ) -> None:
        self._store = store
        self._listener = listener
        self._entropy = entropy
        self._waiters: dict[str, dict[Waiter, bool]] = {}  # True: a result is all that is wanted
        self._wanted: dict[str, None] = {}
        self._recent: dict[str, None] = {}
        self._later: dict[str, None] = {}
        self._first_look: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def wait(self, run_id: str, timeout_s: float | None) -> RunRecord:
        """The record of the run when it has ended.

        Raises ``RunNotFoundError``, and ``TimeoutError`` after ``timeout_s`` seconds; with 0 it
        looks once.
        """
        found = await self._wait(run_id, timeout_s, result_only=False)
        assert isinstance(found, RunRecord)
        return found

    async def wait_for_result(self, run_id: str, timeout_s: float | None) -> RunRecord | Completed:
        """The same for who wants its result only, which may be at hand."""
        return await self._wait(run_id, timeout_s, result_only=True)

    async def _wait(
        self, run_id: str, timeout_s: float | None, *, result_only: bool
    ) -> RunRecord | Completed:
        if timeout_s == 0:
            return await self._look_once(run_id)
        waiter: Waiter = asyncio.get_running_loop().create_future()
        if not self._waiters:
            self._listener.add(self._heard)
        self._waiters.setdefault(run_id, {})[waiter] = result_only
        if run_id in self._recent:
            self._look_later(run_id)
        else:
            self._look((run_id,))
        try:
            async with asyncio.timeout(timeout_s):
                return await waiter
        except TimeoutError:
            raise TimeoutError(f"run {run_id!r} has not ended within {timeout_s} s") from None
        finally:
            self._forget(run_id, waiter)

    async def _look_once(self, run_id: str) -> RunRecord:
        """No time to wait is still time to look: a loop's time-out of 0 would not even read."""
        record = (await self._store.get([run_id])).get(run_id)
        if record is None:
            raise RunNotFoundError(f"no run has the id {run_id!r}")
        if record.status not in ENDED:
            raise TimeoutError(f"run {run_id!r} has not ended")
        return record

    def created(self, run_ids: Iterable[str]) -> None:
        """These runs were created just now, by this process."""
        self._recent.update(dict.fromkeys(run_ids))
        while len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]

    def ended(self, run_id: str, completed: Completed | None) -> None:
        """A run has ended in this process."""
        self._recent.pop(run_id, None)
        waiters = self._waiters.get(run_id)
        if not waiters:
            return
        if completed is not None:
            for waiter, result_only in waiters.items():
                if result_only and not waiter.done():
                    waiter.set_result(completed)
        if completed is None or not all(waiters.values()):
            self._look((run_id,))

    async def close(self) -> None:
        """Nobody is served any more."""
        self._listener.remove(self._heard)
        self._recent.clear()
        self._stop_looking_later()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for waiters in list(self._waiters.values()):
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(DurableError("the engine was closed meanwhile"))

    def _forget(self, run_id: str, waiter: Waiter) -> None:
        waiters = self._waiters[run_id]
        del waiters[waiter]
        if not waiters:
            del self._waiters[run_id]
        if not self._waiters:
            self._listener.remove(self._heard)
            self._stop_looking_later()

    def _look_later(self, run_id: str) -> None:
        self._later[run_id] = None
        if self._first_look is None:
            loop = asyncio.get_running_loop()
            self._first_look = loop.call_later(FIRST_LOOK_S, self._look_now)

    def _look_now(self) -> None:
        self._first_look = None
        later, self._later = self._later, {}
        awaited = [run_id for run_id in later if run_id in self._waiters]
        for run_id in awaited:
            self._recent.pop(run_id, None)
        if awaited:
            self._look(awaited)

    def _stop_looking_later(self) -> None:
        self._later.clear()
        if self._first_look is not None:
            self._first_look.cancel()
            self._first_look = None

    def _heard(self) -> None:
        self._look(self._waiters)

    def _look(self, run_ids: Iterable[str]) -> None:
        self._wanted.update(dict.fromkeys(run_ids))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        backoff = Backoff(self._entropy)
        while self._wanted:
            wanted, self._wanted = [run for run in self._wanted if run in self._waiters], {}
            if not wanted:
                continue
            try:
                found = await self._store.get(wanted)
            except StoreUnavailableError as error:
                log.info("the store cannot say whether awaited runs have ended: %s", error)
                self._wanted.update(dict.fromkeys(wanted))
                await asyncio.sleep(backoff.next_s())
                continue
            except Exception as error:
                self._tell(wanted, error)
                continue
            for run_id in wanted:
                record = found.get(run_id)
                if record is None:
                    self._tell((run_id,), RunNotFoundError(f"no run has the id {run_id!r}"))
                elif record.status in ENDED:
                    self._tell((run_id,), record)
        self._task = None

    def _tell(self, run_ids: Iterable[str], answer: RunRecord | Exception) -> None:
        for run_id in run_ids:
            for waiter in self._waiters.get(run_id, ()):
                if waiter.done():
                    continue
                if isinstance(answer, Exception):
                    waiter.set_exception(answer)
                else:
                    waiter.set_result(answer)
