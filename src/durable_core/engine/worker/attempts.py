"""Attempts: one attempt, from the call of the user's function to its report to the kernel.

Rules:

1. An attempt comes to exactly one report, or to none if its run was dropped.
2. A time-out cancels the handler (a thread cannot be cancelled), waits ``cancel_grace``, then
   abandons it: the attempt has failed, and whatever comes later is ignored.
3. Whatever a handler raises is a failure of its attempt, be it ``SystemExit`` or a
   ``CancelledError`` of its own making. Only our own ``stop`` gives ``AttemptStopped``; a
   result that comes all the same is a result.
4. A value is encoded here, once; one that cannot be encoded fails the attempt for good.
5. The task of an attempt always begins, and gives its slot back at its end: a task that is
   cancelled before it has begun would never run its ``finally``.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import Executor
from typing import Any, Protocol, cast

import attrs

from ...codec.failure import failure_from_exception
from ...codec.payload import Codec
from ...errors import DurableError, EncodingError, LimitExceededError
from ...kernel.event import AttemptFailed, AttemptStopped, AttemptSucceeded, AttemptSuspended
from ...kernel.failure import Failure
from ...kernel.limits import Limits
from ...kernel.outcome import Attempt
from ...kernel.reports import Report
from ...kernel.run import RunContext
from ...kernel.value import NULL
from ...workflow.invocation import Invocation, UnitScope
from ...workflow.suspend import Suspend
from ..clock import Calling, StoreClock
from ..moments import moment
from ..observer import AttemptEnded, AttemptStarted, Observers

log = logging.getLogger("durable.step")


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

    def may_begin(self) -> bool:
        """Whether an attempt may still begin; asked at the last moment, and when it had to wait."""
        ...

    def attempt_ended(self, report: Report) -> None:
        """Called once for each attempt that was not dropped."""
        ...

    async def transact(self, call: Call) -> Report | None:
        """Make the call inside the transaction that commits its entry; None: it is reported."""
        ...


class Lender(Protocol):
    """Whoever lent the call its slot."""

    def freed(self, call: Call) -> None:
        """The handler has really ended."""
        ...


@attrs.define(slots=True, kw_only=True)
class Surroundings:
    """What every attempt of a worker shares. ``leaving`` is set while the worker stops."""

    codec: Codec
    limits: Limits
    clock: StoreClock
    deps: Any
    executor: Callable[[], Executor]
    entropy: Callable[[int], bytes]
    observers: Observers
    transaction_ms: int
    calling: Calling | None = None
    leaving: bool = False


class StepLog(logging.LoggerAdapter[logging.Logger]):
    """A handler's logger: its lines carry run, unit and attempt in ``extra``."""

    __slots__ = ("_attempt", "_run")
    logger = log

    def __init__(self, attempt: Attempt, run: RunContext | Reporter) -> None:
        """``extra`` waits until a line is written."""
        self._attempt = attempt
        self._run = run

    @property
    def extra(self) -> dict[str, object]:  # type: ignore[override]
        """Which run, workflow, unit and attempt this is."""
        return {
            "durable_run": self._run.run_id,
            "durable_workflow": self._run.workflow,
            "durable_unit": str(self._attempt.key.unit),
            "durable_attempt": self._attempt.number,
        }

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """As the base class does it; that of Python 3.13 wants its own constructor called."""
        kwargs["extra"] = self.extra
        return msg, kwargs


class Call:
    """One attempt, from its start to its report."""

    __slots__ = (
        "_around",
        "_began",
        "_invocation",
        "_limit_ms",
        "_reported",
        "_settling",
        "_stopping",
        "_task",
        "_timed_out",
        "_timer",
        "after",
        "attempt",
        "before",
        "lender",
        "reporter",
    )

    def __init__(
        self,
        attempt: Attempt,
        reporter: Reporter,
        around: Surroundings,
    ) -> None:
        self.attempt = attempt
        self.lender: Lender | None = None
        """Told when the handler has really ended."""
        self.before: Call | None = None  # the lender's, as is the next
        self.after: Call | None = None
        self.reporter = reporter
        self._around = around
        self._began = False
        self._reported = False
        self._stopping = False
        self._settling = False
        self._timed_out = False
        self._limit_ms: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._invocation: Invocation | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; whoever starts it keeps it until its task, the one of this attempt, has ended."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="durable-step")

    # --- ending it early -----------------------------------------------------------------------

    def stop(self) -> None:
        """Cancel the handler; it is reported, as stopped at the latest after the grace."""
        if not self._stopping and not self._reported:
            self._stopping = True
            self._interrupt()

    def drop(self) -> None:
        """Cancel the handler and never report: the run is not ours any more."""
        if not self._reported:
            self._reported = True
            self._stopping = True
            self._interrupt()

    def settle(self) -> bool:
        """The handler is through and its entry is to be committed: too late to interrupt. False
        if it is itself too late: it was abandoned, and has been reported on."""
        self._settling = not self._reported
        self._cancel_timer()
        return self._settling

    def _time_out(self) -> None:
        if not self._stopping and not self._reported and not self._settling:
            self._timed_out = True
            self._interrupt()

    def _interrupt(self) -> None:
        if not self._began or self._task is None or self._task.done() or self._settling:
            return
        self._cancel_timer()
        grace_s = self._around.limits.cancel_grace.total_seconds()
        self._timer = asyncio.get_running_loop().call_later(grace_s, self._abandon)
        if self._invocation is None or self._invocation.is_async:
            self._task.cancel()

    def _abandon(self) -> None:
        if self._invocation is not None:
            self._invocation.context.revoke()
        log.warning(
            "the handler of %s in run %s has not ended although it was cancelled; it is left "
            "alone, and its slot stays taken until it ends",
            self.attempt.key.unit,
            self.reporter.run_id,
            extra=StepLog(self.attempt, self.reporter).extra,
        )
        if self._timed_out:
            self._report(self._time_out_report())
        else:
            self._report(AttemptStopped(self.attempt.key))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- the call ------------------------------------------------------------------------------

    @property
    def task(self) -> asyncio.Task[None]:
        """The task of a call that was started."""
        assert self._task is not None, "it was started"
        return self._task

    async def _run(self) -> None:
        self._began = True
        if self._stopping:
            self._free()
            self._report(AttemptStopped(self.attempt.key))
            return
        # What this frame holds is in memory for every handler at work: keep it small.
        began = self._tell_of_start()
        report: Report | None
        try:
            if self.attempt.transactional:
                report = await self.reporter.transact(self)
            else:
                self._prepare()
                # The loop may have stalled since the attempt was started; a transaction has a
                # fence of its own.
                if self.reporter.may_begin():
                    report = self._success(await self._value())
                else:
                    report = AttemptStopped(self.attempt.key)
        except asyncio.CancelledError as error:
            report = await self._cancelled(error)
        except BaseException as error:
            report = self._failed(error)
        finally:
            self._cancel_timer()
            self._free()
        if report is not None:
            self._report(report)
        self._tell_of_end(began, report)

    def _tell_of_start(self) -> float:
        """To observers; gives when it was."""
        if not self._around.observers:
            return 0.0
        began = asyncio.get_running_loop().time()
        self._around.observers.tell(AttemptStarted(**self._facts()))
        return began

    def _tell_of_end(self, began: float, report: Report | None) -> None:
        if self._around.observers:
            duration_s = asyncio.get_running_loop().time() - began
            outcome = "succeeded" if report is None else OUTCOMES[type(report)]
            ended = AttemptEnded(**self._facts(), outcome=outcome, duration_s=duration_s)
            self._around.observers.tell(ended)

    def _free(self) -> None:
        # It holds on to this call: what is over must not need the garbage collector.
        lender, self.lender = self.lender, None
        if lender is not None:
            lender.freed(self)

    async def invoke(self, conn: Any) -> Report:
        """Call the handler with the connection of an open transaction, and encode its value.

        Raises what the handler raises, and ``EncodingError`` or ``LimitExceededError``.
        """
        self._prepare(conn)
        return self._success(await self._value())

    @property
    def _prepared(self) -> Invocation:
        assert self._invocation is not None, "it was prepared"
        return self._invocation

    def _prepare(self, conn: Any = None) -> None:
        attempt, around = self.attempt, self._around
        limit_ms = attempt.timeout_ms
        if attempt.transactional:
            limit_ms = min(limit_ms or around.transaction_ms, around.transaction_ms)
        deadline = None
        if limit_ms is not None:
            self._limit_ms = limit_ms
            self._timer = asyncio.get_running_loop().call_later(limit_ms / 1000, self._time_out)
            deadline = moment(around.clock.now_ms() + limit_ms)
        self._invocation = cast(UnitScope, attempt.scope).prepare(
            attempt,
            deps=around.deps,
            deadline=deadline,
            conn=conn,
            log=StepLog,
        )

    def _value(self) -> Awaitable[Any]:
        """The handler's value, to be awaited; no frame of ours is kept beside the handler's."""
        calling, invocation = self._around.calling, self._prepared
        if calling is None:
            return self._handled(invocation)
        call = functools.partial(self._handled, invocation)
        return calling(self.reporter.run_id, self.attempt, call)

    def _handled(self, invocation: Invocation) -> Awaitable[Any]:
        if invocation.is_async:
            return cast("Awaitable[Any]", invocation.function(*invocation.args))
        return self._in_thread(invocation)

    async def _in_thread(self, invocation: Invocation) -> Any:
        call = functools.partial(
            contextvars.copy_context().run, _guarded, invocation.function, invocation.args
        )
        loop = asyncio.get_running_loop()
        value, error = await loop.run_in_executor(self._around.executor(), call)
        if error is not None:
            raise error
        if inspect.isawaitable(value):  # a plain def that gives an awaitable
            value = await value
        return value

    # --- what it came to -----------------------------------------------------------------------

    def _success(self, value: Any) -> Report:
        key, around, invocation = self.attempt.key, self._around, self._prepared
        if isinstance(value, Suspend):
            snapshot = around.codec.encode(
                value.snapshot, limit=around.limits.signal, what=f"the snapshot of {key.unit}"
            )
            return AttemptSuspended(key, snapshot, around.entropy(16).hex())
        if not invocation.keeps_result:
            return AttemptSucceeded(key, NULL)
        codec, type_, limit = around.codec, invocation.result_type, around.limits.result
        try:
            payload = codec.encode(value, type_, limit=limit)
        except DurableError:  # said again, of what
            payload = codec.encode(value, type_, limit=limit, what=f"the result of {key.unit}")
        return AttemptSucceeded(key, payload)

    async def _cancelled(self, error: BaseException) -> Report:
        """Ours, the handler's own, or somebody's who ends the whole event loop."""
        if self._stopping:
            return AttemptStopped(self.attempt.key)
        if self._timed_out:
            return self._time_out_report()
        assert self._task is not None
        if self._task.cancelling():
            # `asyncio.run` cancels every task on its way out. Let the worker hear of it first:
            # then this is a stop, and not the handler's failure.
            for _ in range(3):
                await asyncio.sleep(0)
            if self._around.leaving:
                return AttemptStopped(self.attempt.key)
        return self._failed(error)

    def _time_out_report(self) -> AttemptFailed:
        failure = Failure(
            type="TimeoutError",
            message=f"attempt {self.attempt.number} of {self.attempt.key.unit} took longer than "
            f"{self._limit_ms} ms",
        )
        return self._judged(TimeoutError(), failure)

    def _failed(self, error: BaseException) -> AttemptFailed:
        if isinstance(error, EncodingError | LimitExceededError):
            failure = failure_from_exception(error, limit=self._around.limits.error)
            return AttemptFailed(self.attempt.key, failure, retryable=False)
        return self._judged(error, None)

    def _judged(self, error: BaseException, failure: Failure | None) -> AttemptFailed:
        """The policy says whether to try again; a predicate that raises fails the unit."""
        limit = self._around.limits.error
        try:
            retryable = self.attempt.retryable(error)
        except BaseException as mistake:
            mistake.__context__ = mistake.__context__ or error
            wrong = failure_from_exception(mistake, limit=limit)
            return AttemptFailed(self.attempt.key, wrong, retryable=False)
        if failure is None:
            failure = failure_from_exception(error, limit=limit)
        return AttemptFailed(self.attempt.key, failure, retryable=retryable)

    def _report(self, report: Report) -> None:
        if not self._reported:
            self._reported = True
            if isinstance(report, AttemptFailed):
                self._log_failure(report)
            self.reporter.attempt_ended(report)

    def _log_failure(self, report: AttemptFailed) -> None:
        """By its type: what it says may hold what nobody wants in a log, and is in the journal."""
        key = self.attempt.key
        log.warning(
            "attempt %d of %s%s in run %s failed with %s%s",
            self.attempt.number,
            "the compensator of " if key.compensating else "",
            key.unit,
            self.reporter.run_id,
            report.failure.type,
            "" if report.retryable else ", which is not tried again",
            extra=StepLog(self.attempt, self.reporter).extra,
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "run_id": self.reporter.run_id,
            "workflow": self.reporter.workflow,
            "unit": str(self.attempt.key.unit),
            "attempt": self.attempt.number,
            "compensating": self.attempt.key.compensating,
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
