"""Driver: answers a program's asks by hand, the simplest way, and remembers what was recorded.

It stands in for the kernel where a test is about what a program asks for: a call's handler is
called once and its first failure is final. What it recorded can be handed to another driver, as a
replay: recorded units are then answered without calling anything.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, cast

from durable_core.codec.failure import failure_from_exception
from durable_core.codec.payload import Codec, JsonCodec
from durable_core.errors import StepFailed
from durable_core.kernel import journal as j
from durable_core.kernel.draft import Draft
from durable_core.kernel.failure import Failure
from durable_core.kernel.fold import Fold
from durable_core.kernel.ids import UnitKey
from durable_core.kernel.limits import DEFAULT_LIMITS, Limits
from durable_core.kernel.outcome import (
    Attempt,
    AttemptKey,
    Completed,
    Ending,
    Failed,
    Outcome,
    Settled,
    TimedOut,
)
from durable_core.kernel.recorder import Recorder
from durable_core.kernel.run import RunContext
from durable_core.kernel.step import All, Ask, Call, Child, Join, Record, Step, Timer, Wait
from durable_core.kernel.value import NULL, Payload
from durable_core.workflow import Definition, Invocation, Lowering, Registry, result_of_run

NOW_MS = 1_000_000
CODEC = JsonCodec()


class Driver:
    """One run of a workflow, in memory.

    ``signals``: payloads by signal name; a wait without one times out. ``children``: results by
    unit. ``refused``: Python values of signals that the step would not take.
    """

    def __init__(
        self,
        workflow: Definition,
        input: Any = None,
        *,
        others: Iterable[Definition] = (),
        deps: Any = None,
        codec: Codec = CODEC,
        limits: Limits = DEFAULT_LIMITS,
        signals: Mapping[str, Any] | None = None,
        children: Mapping[str, Any] | None = None,
        recorded: Mapping[UnitKey, Outcome] | None = None,
    ) -> None:
        self.workflow = workflow
        self.codec = codec
        self.deps = deps
        self.signals = dict(signals or {})
        self.children = dict(children or {})
        self.recorded: dict[UnitKey, Outcome] = dict(recorded or {})
        self.asks: list[Ask] = []
        self.entries: list[j.Entry] = []
        self.calls: list[str] = []
        self.rejected: list[Failure] = []
        self.ending: Ending | None = None
        self.failed: StepFailed | None = None
        self.run = RunContext(
            run_id="run-1",
            workflow=workflow.name,
            version=workflow.version,
            fingerprint=workflow.fingerprint,
            input=codec.encode(input, workflow.input_type),
            limits=limits,
        )
        services = Lowering(codec=codec, registry=Registry([workflow, *others]))
        program = workflow.program(services)(self.run, self._recorder())
        self._program = cast("Generator[Ask, Outcome | None, Ending]", program)

    def go(self) -> Driver:
        """Drive to the end."""
        outcome: Outcome | None = None
        try:
            while True:
                ask = self._program.send(outcome)
                self.asks.append(ask)
                outcome = self._answer(ask)
        except StopIteration as end:
            self.ending = end.value
        except StepFailed as error:
            self.failed = error
        return self

    def replay(self) -> Driver:
        """The same run from what is recorded: nothing may be called."""
        again = Driver.__new__(Driver)
        again.__dict__.update(self.__dict__)
        again.asks, again.calls, again.entries = [], [], list(self.entries)
        again.ending = again.failed = None
        services = Lowering(codec=self.codec, registry=Registry([self.workflow]))
        program = self.workflow.program(services)(self.run, self._recorder())
        again._program = cast("Generator[Ask, Outcome | None, Ending]", program)
        return again.go()

    def _recorder(self) -> Recorder:
        fold = Fold(self.run.run_id)
        return Recorder(self.run.run_id, fold, Draft(self.run, fold, NOW_MS, {}))

    # --- what came of it -----------------------------------------------------------------------

    @property
    def units(self) -> list[str]:
        """Paths of the units asked for, in order."""
        return [str(step.unit) for step in self.steps]

    @property
    def steps(self) -> list[Step]:
        """The steps asked for, in order; those of an ``All`` one by one."""
        found: list[Step] = []
        for ask in self.asks:
            if isinstance(ask, All):
                found += cast("tuple[Step, ...]", ask.steps)
            else:
                found.append(cast(Step, ask))
        return found

    def step(self, unit: str) -> Any:
        """The step asked for at this path."""
        return next(step for step in self.steps if str(step.unit) == unit)

    @property
    def result(self) -> Any:
        """The run's result, as a client would read it."""
        assert self.ending is not None, f"the run did not complete: {self.failed}"
        completed = j.RunCompleted(payload=self.ending.payload, shape=self.ending.shape)
        return result_of_run(
            [*self.entries, completed],
            self.codec,
            result_type=self.workflow.result_type,
            type_of=self.workflow.unit_type,
        )

    @property
    def failure(self) -> Failure:
        """Why the run failed."""
        assert self.failed is not None, "the run did not fail"
        assert isinstance(self.failed.failure, Failure)
        return self.failed.failure

    def undo(self, unit: str, number: int = 1) -> Any:
        """Call the compensator of a completed unit; gives what it returned."""
        step = self.step(unit)
        done = self.recorded[step.unit]
        assert isinstance(done, Completed)
        call = step if isinstance(step, Call) else None
        key = AttemptKey(unit=step.unit, compensating=True)
        attempt = Attempt(
            key=key, number=number, generation=1, call=call, undo=step.undo, value=done.payload
        )
        return call_it(self.prepare(attempt))

    def prepare(self, attempt: Attempt, **more: Any) -> Invocation:
        """As the engine does."""
        scope: Any = attempt.scope
        invocation = scope.prepare(attempt, deps=self.deps, **more)
        assert isinstance(invocation, Invocation)
        return invocation

    def attempt(self, unit: str, number: int = 1, **more: Any) -> Attempt:
        """An attempt at a unit that was asked for."""
        call = self.step(unit)
        key = AttemptKey(unit=call.unit)
        return Attempt(key=key, number=number, generation=1, call=call, **more)

    # --- answering -----------------------------------------------------------------------------

    def _answer(self, ask: Ask) -> Outcome:
        if isinstance(ask, All):
            return Settled(tuple(self._answer(step) for step in ask.steps))
        step = cast(Step, ask)
        if step.unit in self.recorded:
            return self.recorded[step.unit]
        outcome = self.recorded[step.unit] = self._do(step)
        self._record(step, outcome)
        return outcome

    def _do(self, step: Step) -> Outcome:
        match step:
            case Call():
                return self._call(step)
            case Record():
                return ended(step.compute())
            case Timer():
                due = step.due(NOW_MS)
                return Failed(due) if isinstance(due, Failure) else Completed(NULL)
            case Wait():
                return self._wait(step)
            case Child():
                spec = step.begin()
                if isinstance(spec, Failure):
                    return Failed(spec)
                result = self.children.get(str(step.unit))
                return Failed(result) if isinstance(result, Failure) else ended(self._any(result))
            case Join():
                raise AssertionError("nothing is joined in a declared workflow")

    def _call(self, step: Call) -> Outcome:
        self.calls.append(str(step.unit))
        attempt = Attempt(key=AttemptKey(unit=step.unit), number=1, generation=1, call=step)
        try:
            invocation = self.prepare(attempt)
            value = call_it(invocation)
            payload = self.codec.encode(
                value, invocation.result_type, limit=self.run.limits.result, what="the result"
            )
        except Exception as error:
            return Failed(failure_from_exception(error))
        return Completed(payload, None if step.conclude is None else step.conclude(payload))

    def _wait(self, step: Wait) -> Outcome:
        name = step.signal()
        if isinstance(name, Failure):
            return Failed(name)
        if name in self.signals:
            payload = self._any(self.signals[name])
            refused = step.accept(payload) if step.accept is not None else None
            if refused is None:
                return Completed(payload)
            self.rejected.append(refused)
        if step.may_time_out:
            return TimedOut()
        return Failed(Failure(type="TimeoutError", message=f"no signal {name!r}"))

    def _any(self, value: Any) -> Payload:
        return value if isinstance(value, Payload) else self.codec.encode(value)

    def _record(self, step: Step, outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            self.entries.append(j.UnitFailed(unit=step.unit, failure=outcome.failure))
        if not isinstance(outcome, Completed) or isinstance(step, Timer):
            return
        unit, payload = step.unit, outcome.payload
        match step:
            case Record():
                kinds: dict[str, Callable[..., j.Entry]] = {
                    "route_decided": j.RouteDecided,
                    "items_recorded": j.ItemsRecorded,
                    "value_recorded": j.ValueRecorded,
                }
                self.entries.append(kinds[step.kind](unit=unit, payload=payload))
            case Wait():
                self.entries.append(j.SignalConsumed(unit=unit, payload=payload, message=1))
            case Child():
                self.entries.append(j.ChildCompleted(unit=unit, payload=payload, child_id="c"))
            case _:
                self.entries.append(j.UnitCompleted(unit=unit, payload=payload, attempt=1))


def ended(end: Payload | Failure) -> Outcome:
    """A recorded value as an outcome."""
    return Failed(end) if isinstance(end, Failure) else Completed(end)


def call_it(invocation: Invocation) -> Any:
    """Call a handler; an async one must not wait for anything."""
    value = invocation.function(*invocation.args)
    if not invocation.is_async:
        return value
    assert inspect.iscoroutine(value)
    try:
        value.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("an async handler of these tests must not wait")


def drive(workflow: Definition, input: Any = None, **more: Any) -> Driver:
    """A run of this workflow, driven to its end."""
    return Driver(workflow, input, **more).go()
