"""Coroutine: a body of code as a program; who drives it, and who refuses what it must not do.

``Body`` is one live program: it sends the coroutine from one await to the next and hands what it
awaits to the kernel, as the generator of a declared workflow does by itself. Rules:

1. Only a ``Pending`` of this body can be awaited. Anything else would make its order depend on
   something that no journal has: it is refused at its place, by an exception in the body, and
   whatever the body makes of that exception, the run fails with it.
2. The coroutine runs without an event loop, in a copy of the context variables that is its own.
3. Keys are claimed when a step is named, in the order of the code, not when it is awaited.
4. What the recorder finds changed parks the run, whatever the body makes of it.
5. An exception that leaves the body is the run's failure; that of a step keeps the step's own.
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import attrs

from ..codec.payload import Codec
from ..errors import NondeterminismError, StepFailed
from ..kernel.failure import Failure
from ..kernel.ids import UnitKey
from ..kernel.outcome import Ending, Outcome
from ..kernel.program import Program, ProgramFactory
from ..kernel.recorder import Recorder, UnitLimit
from ..kernel.run import RunContext
from ..kernel.step import Ask
from ..kernel.value import Payload
from .lent import Log
from .pending import Pending
from .registry import Lowering
from .scope import RunScope
from .steps import IN_BODY

MOST_CLOSINGS = 10
"""How often a body that will not be closed is closed again."""

INSTEAD = (
    "ctx.step(function, ...) for work, ctx.sleep(...) for a pause, ctx.all(...), ctx.settle(...) "
    "or ctx.first(...) for several at once"
)


class BodyFailed(Exception):
    """The run fails, with this failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class ContinueAsNew(BaseException):
    """Leaves a body that is to begin anew; no ``except Exception`` stops it."""

    def __init__(self, payload: Payload) -> None:
        super().__init__("the run begins anew; let this pass")
        self.payload = payload


@attrs.frozen(slots=True, kw_only=True)
class BodyPlan:
    """A body made ready to be driven, once an engine."""

    name: str
    begin: Callable[[Body], Coroutine[Any, Any, Any]]
    """Calls the body with its context and the run's input."""
    input_type: Any
    result_type: Any
    codec: Codec
    services: Lowering


def program_factory(plan: BodyPlan) -> ProgramFactory:
    """Makes the program of a run."""

    def begin(run: RunContext, recorder: Recorder) -> Program:
        return Body(plan, run, recorder)

    return begin


class Body:
    """One live body of code. Nobody but its context and the kernel knows it."""

    def __init__(self, plan: BodyPlan, run: RunContext, recorder: Recorder) -> None:
        self.plan = plan
        self.run = run
        self.recorder = recorder
        self.scope = RunScope(run, plan.codec, input_type=plan.input_type, handlers={})
        self.continuing: ContinueAsNew | None = None
        self.running = False
        self.dropped = False
        """It is being closed, and goes on: what it asks for comes to nothing, without a word."""
        self._context = contextvars.copy_context()
        self._context.run(IN_BODY.set, run.run_id)
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._standing: Pending[Any] | None = None
        self.live: dict[UnitKey, None] = {}
        """Children that were started and not awaited yet."""
        self._untaken: dict[Pending[Any], None] = {}
        self._claimed: dict[str, int] = {}
        self._refusal: NondeterminismError | None = None
        self._mismatch: NondeterminismError | None = None
        self._log: Log | None = None

    # --- what the kernel needs (program.Program) ---------------------------------------------

    def send(self, outcome: Outcome | None, /) -> Ask:
        """Let the body go on with what it awaited; gives what it awaits next."""
        if self._coroutine is None:
            self._coroutine = self._begin()
        standing, self._standing = self._standing, None
        if standing is not None:
            assert outcome is not None, "a body is told what it awaited"
            standing.come_out(outcome)
        return self._awaited(self._drive(self._coroutine.send, None))

    def close(self) -> None:
        """Drop the body silently; one that awaits on its way out is told on.

        Until then its context refuses nothing: a body that catches everything in a loop would
        catch a refusal too, and never come to an await, where it can be left.
        """
        coroutine, self._coroutine = self._coroutine, None
        if coroutine is None:
            return
        self.dropped = True
        for closings in range(MOST_CLOSINGS):
            try:
                self.plan.services.hidden(self, lambda: self._context.run(coroutine.close))
                self.dropped = False
                break
            except RuntimeError:  # it awaited once more; the next attempt finds it there
                if not closings:
                    self.log.warning(
                        "the body of workflow %r goes on although run %r was dropped: it catches "
                        "BaseException, or awaits in a finally block; let GeneratorExit pass",
                        self.plan.name,
                        self.run.run_id,
                    )

    # --- driving -------------------------------------------------------------------------------

    def _begin(self) -> Coroutine[Any, Any, Any]:
        try:
            return self.plan.begin(self)
        except Exception as error:  # its input cannot be read
            self._leave(error)

    def _drive(self, go_on: Callable[[Any], Any], what: object) -> object:
        """From where the body stands to its next await, or out of it."""
        self.running = True
        try:
            return self.plan.services.hidden(self, lambda: self._context.run(go_on, what))
        except StopIteration as end:
            self._check_over()
            raise StopIteration(self._ending(end.value)) from None
        except ContinueAsNew as again:
            self._check_over()
            if again is not self.continuing:
                self._leave(RuntimeError("a body let pass what another run began anew with"))
            payload = again.payload
            ending = Ending(payload=payload, shape=None, assemble=lambda: payload, continues=True)
            raise StopIteration(ending) from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._leave(error)
        finally:
            self.running = False

    def _awaited(self, awaited: object) -> Ask:
        """What the kernel is to do for this; or a refusal."""
        if self._mismatch is not None:
            raise self._mismatch
        if self._refusal is not None:
            self._leave(self._refusal)
        if self.continuing is not None:
            self._refuse(
                f"the body of workflow {self.plan.name!r} caught what ctx.continue_as_new raised, "
                "and went on; let it pass (catch Exception, not BaseException)"
            )
        if not isinstance(awaited, Pending):
            self._refuse(
                f"the body of workflow {self.plan.name!r} awaited {_described(awaited)}, which no "
                f"journal records. Use {INSTEAD}; whatever needs an event loop belongs into a step"
            )
        if awaited.owner is not self:
            self._refuse(
                f"the body of workflow {self.plan.name!r} awaited {awaited!r} of another run; "
                "each run has a context of its own"
            )
        if awaited.again:
            self._refuse(
                f"the body of workflow {self.plan.name!r} awaited {awaited.label!r}, which it had "
                "handed to ctx.all, ctx.settle or ctx.first; await those instead, and of a race "
                "nothing but the winner: the others are cancelled, so ask for it anew"
            )
        self._standing = awaited
        return awaited.ask

    def _refuse(self, sentence: str) -> NoReturn:
        """Raise this where the body stands; then, whatever it does, the run fails with it."""
        self._refusal = NondeterminismError(sentence, run_id=self.run.run_id)
        coroutine = self._coroutine
        assert coroutine is not None
        try:
            self._drive(coroutine.throw, self._refusal)
        except BodyFailed:
            raise
        except (StopIteration, StepFailed):
            pass
        self._leave(self._refusal)

    def _leave(self, error: BaseException) -> NoReturn:
        """An exception has left the body."""
        if self._mismatch is not None:
            raise self._mismatch from None
        if isinstance(error, StepFailed) and isinstance(error.failure, Failure):
            raise error
        if isinstance(error, UnitLimit):
            raise BodyFailed(error.failure) from None
        raise BodyFailed(self.scope.failure(self._refusal or error)) from None

    def _check_over(self) -> None:
        """The body is over: nothing may be left that it asked for and never looked at."""
        if self._mismatch is not None:
            raise self._mismatch
        if self._refusal is not None:
            self._leave(self._refusal)
        if self._untaken:
            labels = ", ".join(repr(pending.label) for pending in list(self._untaken)[:5])
            self._leave(
                NondeterminismError(
                    f"the body of workflow {self.plan.name!r} asked for {labels} and never awaited "
                    "it, so nothing was done; write `await ctx.step(...)`, or hand it to "
                    "ctx.all(...)",
                    run_id=self.run.run_id,
                )
            )

    def _ending(self, value: object) -> Ending:
        plan = self.plan
        if self.continuing is not None:
            self._leave(
                NondeterminismError(
                    f"the body of workflow {plan.name!r} caught what ctx.continue_as_new raised, "
                    "and returned; let it pass (catch Exception, not BaseException)",
                    run_id=self.run.run_id,
                )
            )
        try:
            payload = plan.codec.encode(
                value,
                plan.result_type,
                limit=self.run.limits.result,
                what=f"the result of workflow {plan.name!r}",
            )
        except Exception as error:
            self._leave(error)
        return Ending(payload=payload, shape=None, assemble=lambda: payload)

    # --- what the context needs ----------------------------------------------------------------

    def check_running(self, what: str) -> None:
        """A context is of use in its own body only, while that runs."""
        if not self.running and not self.dropped:
            raise NondeterminismError(
                f"ctx.{what} of run {self.run.run_id!r} was used outside of its body: a context "
                "belongs to one run, and ends with it; in a step use current_step()",
                run_id=self.run.run_id,
            )

    def claim(self, key: str) -> UnitKey:
        """The next unit of this key: ``key``, then ``key#2``, ``key#3``."""
        count = self._claimed[key] = self._claimed.get(key, 0) + 1
        return UnitKey((key,) if count == 1 else (f"{key}#{count}",))

    def add(self, pending: Pending[Any]) -> Pending[Any]:
        """It was asked for, and is to be awaited."""
        self._untaken[pending] = None
        return pending

    def taken(self, pending: Pending[Any]) -> None:
        """It is awaited, or part of another one."""
        self._untaken.pop(pending, None)

    def recording(self, call: Callable[[], Any]) -> Any:
        """Use the recorder; what it finds changed is remembered."""
        try:
            return call()
        except NondeterminismError as error:
            self._mismatch = error
            raise

    @property
    def log(self) -> Log:
        """The log of this run's body, silent while it catches up."""
        if self._log is None:
            recorder = self.recorder
            self._log = self.plan.services.log(self.run, lambda: recorder.replaying)
        return self._log


def _described(awaited: object) -> str:
    if awaited is None:
        return "a bare yield (asyncio.sleep(0), or an awaitable of its own making)"
    if inspect.isawaitable(awaited):
        return f"an awaitable of its own ({type(awaited).__name__})"
    return f"{type(awaited).__name__} object"
