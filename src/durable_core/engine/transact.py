"""Transactions: attempts whose handler runs inside the transaction that commits their entry.

The store's transaction takes the run's fence first; the handler does its statements; then the
run is advanced by its success and the transition is written through the same transaction. So
the user's rows and the entry are one commit, or neither is there. Meanwhile the run commits
nothing else: what happens gathers. A failure rolls back and takes the normal road.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress

from ..errors import DurableError, LeaseLostError, StoreUnavailableError
from ..kernel.event import AttemptStopped, AttemptSucceeded
from ..kernel.outcome import Attempt, AttemptKey
from ..kernel.reports import Report
from ..store import CommitVerdict, Store, StoreTransaction
from .attempts import Call, Reporter, Surroundings
from .mapping import commit_of
from .runner import Runner

log = logging.getLogger("durable.worker")


class _Collector:
    """Takes the report of a call for whoever waits for it."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.report: asyncio.Future[Report] = asyncio.get_running_loop().create_future()

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._runner.run_id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._runner.workflow

    def attempt_ended(self, report: Report) -> None:
        """The call is over."""
        if not self.report.done():
            self.report.set_result(report)


class Transactions:
    """The transactional attempts of a worker, one at a time for each run."""

    def __init__(self, store: Store, around: Surroundings, *, limit_ms: int) -> None:
        """``limit_ms``: how long one may take, for on SQLite it holds the only writer."""
        self._store = store
        self._around = around
        self._limit_ms = limit_ms
        self._calls: dict[tuple[Reporter, AttemptKey], Call] = {}
        self._tasks: dict[Reporter, asyncio.Task[None]] = {}
        self._waiting: dict[Reporter, deque[Attempt]] = {}

    def run(self, attempt: Attempt, runner: Runner) -> None:
        """Begin this attempt, after those of the same run that came before."""
        if runner in self._tasks:
            self._waiting.setdefault(runner, deque()).append(attempt)
            return
        runner.exclusive = True
        loop = asyncio.get_running_loop()
        self._tasks[runner] = loop.create_task(self._run(attempt, runner))

    def stop(self, key: AttemptKey, runner: Reporter) -> bool:
        """Cancel this attempt, if it is one of these."""
        for attempt in self._waiting.get(runner, ()):
            if attempt.key == key:
                self._waiting[runner].remove(attempt)
                runner.attempt_ended(AttemptStopped(key))
                return True
        call = self._calls.get((runner, key))
        if call is not None:
            call.stop()
        return call is not None

    def drop(self, runner: Reporter) -> None:
        """Cancel those of this run, unreported; their transactions are rolled back."""
        self._waiting.pop(runner, None)
        task = self._tasks.get(runner)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def ended(self) -> None:
        """Return when all are over."""
        while self._tasks:
            await asyncio.gather(*list(self._tasks.values()), return_exceptions=True)

    async def _run(self, attempt: Attempt, runner: Runner) -> None:
        report: Report | None = None
        try:
            async with self._store.transaction(runner.lease) as tx:
                report = await self._call(attempt, runner, tx)
                if isinstance(report, AttemptSucceeded):
                    await self._commit(runner, report, tx)
                    report = None
        except LeaseLostError:
            runner.lose(CommitVerdict.FENCED)
        except StoreUnavailableError as error:
            log.warning("a transaction of run %s could not be made: %s", runner.run_id, error)
            runner.lose(None)
        except DurableError as error:
            log.error("a transaction of run %s was refused: %s", runner.run_id, error)
            runner.lose(None)
        finally:
            del self._tasks[runner]
            self._next(runner)
        if report is not None:
            runner.attempt_ended(report)
        else:
            runner.nudge()

    def _next(self, runner: Runner) -> None:
        """The run's commits stay with its transactions as long as there is another one."""
        waiting = self._waiting.get(runner)
        if waiting and not runner.closed:
            self.run(waiting.popleft(), runner)
        else:
            runner.exclusive = False

    async def _call(self, attempt: Attempt, runner: Runner, tx: StoreTransaction) -> Report:
        collector = _Collector(runner)
        call = Call(
            attempt,
            collector,
            self._around,
            lambda: None,
            conn=tx.conn,
            limit_ms=self._limit_ms,
        )
        where = (runner, attempt.key)
        self._calls[where] = call
        task = call.start()
        try:
            return await collector.report
        except asyncio.CancelledError:
            call.drop()
            with suppress(asyncio.CancelledError):
                await task  # the handler must be off the connection before it is rolled back
            raise
        finally:
            self._calls.pop(where, None)

    async def _commit(self, runner: Runner, report: AttemptSucceeded, tx: StoreTransaction) -> None:
        transition = runner.decide_with(report)
        if transition is None:
            return
        commit = commit_of(transition, runner.record, runner.record.epoch, runner.seen)
        try:
            verdict = await tx.commit(commit)
        except StoreUnavailableError as error:
            if not error.outcome_unknown:
                raise
            (verdict,) = await self._store.settled([commit])
        if verdict is CommitVerdict.APPLIED:
            runner.applied(transition)
        else:
            runner.lose(verdict)
