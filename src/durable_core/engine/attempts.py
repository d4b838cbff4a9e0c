"""Attempts: calling handlers, one task each, within a bounded number of slots.

An attempt is called, timed, stopped or abandoned here, and comes to exactly one report to the
kernel. Rules:

1. A slot is taken until the handler has really ended, also when it was abandoned long before.
2. A time-out cancels the handler (a thread cannot be cancelled), waits ``cancel_grace``, then
   abandons it: the attempt has failed, and whatever comes later is ignored.
3. Whatever a handler raises is a failure of its attempt, be it ``SystemExit`` or a
   ``CancelledError`` of its own making. Only our own ``stop`` gives ``AttemptStopped``; a
   result that came all the same is a result.
4. A value is encoded here, once; one that cannot be encoded fails the attempt for good.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any, Protocol

import attrs

from ..codec.failure import failure_from_exception
from ..codec.payload import Codec
from ..errors import EncodingError, LimitExceededError
from ..kernel.event import AttemptFailed, AttemptStopped, AttemptSucceeded, AttemptSuspended
from ..kernel.failure import Failure
from ..kernel.limits import Limits
from ..kernel.outcome import Attempt, AttemptKey
from ..kernel.reports import Report
from ..kernel.value import NULL
from ..workflow.invocation import Invocation
from ..workflow.suspend import Suspend
from .clock import StoreClock
from .observer import AttemptEnded, AttemptStarted, Observers

log = logging.getLogger("durable.step")
MS = 1000


class Reporter(Protocol):
    """Whoever is told how an attempt ended: the runner of its run."""

    @property
    def run_id(self) -> str:
        """The run's id."""
        ...

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        ...

    def attempt_ended(self, report: Report) -> None:
        """Called once for each attempt."""
        ...


@attrs.frozen(slots=True, kw_only=True)
class Surroundings:
    """What every attempt of a worker shares."""

    codec: Codec
    limits: Limits
    clock: StoreClock
    deps: Any
    executor: Executor
    entropy: Callable[[int], bytes]
    observers: Observers


class StepLog(logging.LoggerAdapter[logging.Logger]):
    """A handler's logger: its lines carry run, unit and attempt in ``extra``."""


class Call:
    """One attempt, from its start to its report."""

    def __init__(
        self,
        attempt: Attempt,
        reporter: Reporter,
        around: Surroundings,
        freed: Callable[[], None],
        *,
        conn: Any = None,
        limit_ms: int | None = None,
    ) -> None:
        self.attempt = attempt
        self._reporter = reporter
        self._around = around
        self._freed = freed
        self._conn = conn
        self._limit_ms = limit_ms
        self._reported = False
        self._stopping = False
        self._timed_out_ms: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._invocation: Invocation | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        """Begin; the one task of this attempt."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self._task

    # --- ending it early -----------------------------------------------------------------------

    def stop(self) -> None:
        """Cancel the handler; it is reported as stopped, at the latest after the grace."""
        if not self._stopping and not self._reported:
            self._stopping = True
            self._interrupt(lambda: self._report(AttemptStopped(self.attempt.key)))

    def drop(self) -> None:
        """Cancel the handler and never report: the run is not ours any more."""
        self._reported = True
        self._stopping = True
        self._interrupt(lambda: None)

    def _time_out(self, after_ms: int) -> None:
        if self._stopping or self._reported:
            return
        self._timed_out_ms = after_ms
        self._interrupt(lambda: self._report(self._timed_out()))

    def _interrupt(self, abandon: Callable[[], None]) -> None:
        if self._task is None or self._task.done():
            return
        loop = asyncio.get_running_loop()
        self._cancel_timer()
        grace_s = self._around.limits.cancel_grace.total_seconds()
        self._timer = loop.call_later(grace_s, self._abandon, abandon)
        if self._invocation is None or self._invocation.is_async:
            self._task.cancel()

    def _abandon(self, report: Callable[[], None]) -> None:
        log.warning(
            "a handler did not end when it was cancelled and is abandoned; its slot stays taken",
            extra=self._extra(),
        )
        report()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- the call ------------------------------------------------------------------------------

    async def _run(self) -> None:
        around, attempt = self._around, self.attempt
        observers = around.observers
        began = asyncio.get_running_loop().time()
        if observers:
            observers.tell(
                AttemptStarted(
                    run_id=self._reporter.run_id,
                    workflow=self._reporter.workflow,
                    unit=str(attempt.key.unit),
                    attempt=attempt.number,
                    compensating=attempt.key.compensating,
                )
            )
        try:
            report = await self._call()
        except asyncio.CancelledError as error:
            report = self._cancelled(error)
        except BaseException as error:
            report = self._failed(error)
        finally:
            self._cancel_timer()
            self._freed()
        self._report(report)
        if observers:
            observers.tell(
                AttemptEnded(
                    run_id=self._reporter.run_id,
                    workflow=self._reporter.workflow,
                    unit=str(attempt.key.unit),
                    attempt=attempt.number,
                    compensating=attempt.key.compensating,
                    outcome=OUTCOMES[type(report)],
                    duration_s=asyncio.get_running_loop().time() - began,
                )
            )

    async def _call(self) -> Report:
        attempt, around = self.attempt, self._around
        limit_ms = _least(attempt.timeout_ms, self._limit_ms)
        invocation: Invocation = attempt.scope.prepare(  # type: ignore[attr-defined]
            attempt,
            deps=around.deps,
            deadline=self._deadline(limit_ms),
            conn=self._conn,
            log=StepLog(log, self._extra()),
        )
        self._invocation = invocation
        if limit_ms is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(limit_ms / MS, self._time_out, limit_ms)
        if invocation.is_async:
            value = await invocation.function(*invocation.args)
        else:
            value = await self._in_thread(invocation)
        return self._success(invocation, value)

    async def _in_thread(self, invocation: Invocation) -> Any:
        context = contextvars.copy_context()
        call = functools.partial(context.run, _guarded, invocation.function, invocation.args)
        value, error = await asyncio.get_running_loop().run_in_executor(self._around.executor, call)
        if error is not None:
            raise error
        if hasattr(value, "__await__"):  # a plain def that gives an awaitable
            value = await value
        return value

    def _deadline(self, limit_ms: int | None) -> datetime | None:
        if limit_ms is None:
            return None
        return datetime.fromtimestamp((self._around.clock.now_ms() + limit_ms) / MS, UTC)

    # --- what it came to -----------------------------------------------------------------------

    def _success(self, invocation: Invocation, value: Any) -> Report:
        key, around = self.attempt.key, self._around
        where = f"the result of {str(key.unit)!r}"
        if isinstance(value, Suspend):
            snapshot = around.codec.encode(
                value.snapshot, limit=around.limits.signal, what=f"the snapshot of {where[14:]}"
            )
            return AttemptSuspended(key, snapshot, around.entropy(16).hex())
        if not invocation.keeps_result:
            return AttemptSucceeded(key, NULL)
        payload = around.codec.encode(
            value, invocation.result_type, limit=around.limits.result, what=where
        )
        return AttemptSucceeded(key, payload)

    def _cancelled(self, error: BaseException) -> Report:
        if self._stopping:
            return AttemptStopped(self.attempt.key)
        if self._timed_out_ms is not None:
            return self._timed_out()
        return self._failed(error)

    def _timed_out(self) -> AttemptFailed:
        failure = Failure(
            type="TimeoutError",
            message=f"attempt {self.attempt.number} of {str(self.attempt.key.unit)!r} took "
            f"longer than {self._timed_out_ms} ms",
        )
        return AttemptFailed(self.attempt.key, failure, self._retryable(TimeoutError()))

    def _failed(self, error: BaseException) -> AttemptFailed:
        failure = failure_from_exception(error, limit=self._around.limits.error)
        return AttemptFailed(self.attempt.key, failure, self._retryable(error))

    def _retryable(self, error: BaseException) -> bool:
        """A policy's predicate that raises says no; a value that cannot be stored stays so."""
        if isinstance(error, EncodingError | LimitExceededError):
            return False
        try:
            return self.attempt.retryable(error)
        except Exception as mistake:
            log.error("a retry predicate raised %s", type(mistake).__name__, extra=self._extra())
            return False

    def _report(self, report: Report) -> None:
        if self._reported:
            return
        self._reported = True
        self._reporter.attempt_ended(report)

    def _extra(self) -> dict[str, Any]:
        return {
            "durable_run": self._reporter.run_id,
            "durable_workflow": self._reporter.workflow,
            "durable_unit": str(self.attempt.key.unit),
            "durable_attempt": self.attempt.number,
        }


OUTCOMES: dict[type, str] = {
    AttemptSucceeded: "succeeded",
    AttemptFailed: "failed",
    AttemptSuspended: "suspended",
    AttemptStopped: "stopped",
}


def _guarded(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Any]:
    """Whatever it raises comes back as a value: a future refuses ``StopIteration``."""
    try:
        return function(*args), None
    except BaseException as error:
        return None, error


def _least(*limits_ms: int | None) -> int | None:
    return min((limit for limit in limits_ms if limit is not None), default=None)


class Slots:
    """At most so many attempts at once, over all runs; the others wait in order."""

    def __init__(self, count: int, around: Surroundings) -> None:
        self._count = count
        self._around = around
        self._taken = 0
        self._waiting: deque[tuple[Attempt, Reporter]] = deque()
        self._calls: dict[tuple[Reporter, AttemptKey], Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_free: Callable[[], None] = lambda: None

    @property
    def free(self) -> int:
        """Slots for attempts of runs not claimed yet."""
        return max(0, self._count - self._taken - len(self._waiting))

    @property
    def busy(self) -> bool:
        """Whether any handler is still running, abandoned ones included."""
        return self._taken > 0

    def run(self, attempt: Attempt, reporter: Reporter) -> None:
        """Start this attempt, now or when a slot is free."""
        if self._taken < self._count:
            self._start(attempt, reporter)
        else:
            self._waiting.append((attempt, reporter))

    def _start(self, attempt: Attempt, reporter: Reporter) -> None:
        self._taken += 1
        where = (reporter, attempt.key)
        call = Call(attempt, reporter, self._around, functools.partial(self._free, where))
        self._calls[where] = call
        task = call.start()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _free(self, where: tuple[Reporter, AttemptKey]) -> None:
        self._taken -= 1
        self._calls.pop(where, None)
        if self._waiting:
            self._start(*self._waiting.popleft())
        else:
            self.on_free()

    def stop(self, key: AttemptKey, reporter: Reporter) -> None:
        """Cancel this attempt; it is reported as stopped (or as whatever it came to)."""
        call = self._calls.get((reporter, key))
        if call is not None:
            call.stop()
            return
        for waiting in self._waiting:
            if waiting[0].key == key and waiting[1] is reporter:
                self._waiting.remove(waiting)
                reporter.attempt_ended(AttemptStopped(key))
                return

    def drop(self, reporter: Reporter) -> None:
        """Forget all attempts of this run and cancel their handlers; nothing is reported."""
        self._waiting = deque(waiting for waiting in self._waiting if waiting[1] is not reporter)
        for where in [where for where in self._calls if where[0] is reporter]:
            self._calls.pop(where).drop()

    async def ended(self) -> None:
        """Return when every handler has ended."""
        while self._tasks:
            await asyncio.gather(*list(self._tasks), return_exceptions=True)
