"""WorkflowContext: all that a body of code may ask for.

Each method says what is wanted and gives a ``Pending`` at once; nothing happens before it is
awaited, alone or in a combinator. Only ``now``, ``uuid``, ``random``, ``patched`` and
``compensate`` do without: they are recorded, or derived of what is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Generator
from datetime import datetime, timedelta
from functools import partial
from types import UnionType
from typing import Any, Concatenate, Generic, Literal, NoReturn, ParamSpec, TypeVar, overload
from uuid import UUID

from typing_extensions import TypeVar as DefaultTypeVar

from ..codec.types import ANY
from ..errors import DurableError, LimitExceededError, NondeterminismError
from ..kernel.failure import Failure
from ..kernel.ids import UnitKey, derived_id
from ..kernel.outcome import Outcome, Started
from ..kernel.policy import DEFAULT_UNDO_RETRY, Duration, duration_ms
from ..kernel.step import Call, Child, ChildSpec, Join, Timer, Undo, Wait
from ..kernel.value import Payload
from .checks import Spot
from .coroutine import Body, ContinueAsNew
from .decisions import EPOCH, moment_ms, spec_of
from .definition import Workflow
from .names import check_name, signal_name_problem
from .nodes import UndoWork
from .pending import (
    Group,
    Pending,
    Race,
    Read,
    TimedOutType,
    all_of,
    first_of,
    read_by,
    read_nothing,
    read_signal_by,
    settled_of,
)
from .registry import Log, is_definition
from .step_scope import StepScope
from .steps import Compensate, Step, step_of
from .suspend import Suspend

P = ParamSpec("P")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")
DepsT_co = DefaultTypeVar("DepsT_co", covariant=True, default=Any)


class Done(Awaitable[None]):
    """Awaiting it does nothing: what it stands for is done."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


class ChildHandle(Generic[T]):
    """A child run that was started. Awaiting the handle, or ``result()``, waits for its end."""

    __slots__ = ("_join", "_pending", "run_id")

    def __init__(self, run_id: str, join: Callable[[], Pending[T]]) -> None:
        self.run_id = run_id
        """The id of the child run."""
        self._join = join
        self._pending: Pending[T] | None = None

    def result(self) -> Pending[T]:
        """The child's result; it fails as ``StepFailed`` when the child failed."""
        if self._pending is None:
            self._pending = self._join()
        return self._pending

    def __await__(self) -> Generator[Any, None, T]:
        return self.result().__await__()

    def __repr__(self) -> str:
        return f"<child run {self.run_id!r}>"


class WorkflowContext(Generic[DepsT_co]):
    """Handed to the body of a workflow, ``async def body(ctx, input)``.

    ``WorkflowContext[Deps]``: the type of what ``lifespan`` yields. It belongs to one run and is
    of use only while that run's body runs.
    """

    __slots__ = ("_body", "_drawn", "_patches", "_seed")

    def __init__(self, body: Body) -> None:
        """Made by the library."""
        self._body = body
        self._drawn = 0
        self._seed: str | None = None
        self._patches: dict[str, bool] = {}

    def __repr__(self) -> str:
        return f"<WorkflowContext of run {self.run_id!r}>"

    # --- the run -------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._body.run.run_id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._body.run.workflow

    @property
    def version(self) -> str:
        """The version the run was started with."""
        return self._body.run.version

    @property
    def deps(self) -> DepsT_co:
        """What the engine's ``lifespan`` yielded. A body must not decide by what changes there."""
        deps: DepsT_co = self._body.plan.services.deps
        return deps

    @property
    def log(self) -> Log:
        """A logger that knows the run, and is silent while the body catches up."""
        return self._body.log

    # --- work ----------------------------------------------------------------------------------

    @overload
    def step(
        self, function: Step[P, T, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Pending[T]: ...
    @overload
    def step(
        self,
        function: Callable[P, Coroutine[Any, Any, T | Suspend]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Pending[T]: ...
    @overload
    def step(
        self, function: Callable[P, T | Suspend], /, *args: P.args, **kwargs: P.kwargs
    ) -> Pending[T]: ...
    def step(self, function: Any, /, *args: Any, **kwargs: Any) -> Pending[Any]:
        """Call a function as one unit of the run, once, whatever happens.

        Its key is the function's name, then ``name#2`` and so on by the order of calls, or that of
        ``function.with_options(key=...)``. A function without ``@step`` has the default policies.
        A step that fails for good raises ``StepFailed`` where it is awaited. Arguments are handed
        on as they are: a step must not change them.
        """
        body = self._running("step")
        step = step_of(function)
        key = step.key or step.name
        unit = body.claim(key)
        scope = StepScope(body.scope, str(unit), unit, step.work, args, kwargs)
        undo = step.work.undo
        ask = Call(
            unit=unit,
            handler=step.work.handler,
            scope=scope,
            retry=step.work.retry,
            timeout_ms=step.work.timeout_ms,
            undo=None if undo is None else _undo(undo, scope),
            name=step.name if key != step.name else None,
        )
        return self._ask(unit, ask, self._reading(unit, step.work.result_type))

    @overload
    def transact(
        self,
        function: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Pending[T]: ...
    @overload
    def transact(
        self, function: Callable[Concatenate[Any, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Pending[T]: ...
    def transact(self, function: Any, /, *args: Any, **kwargs: Any) -> Pending[Any]:
        """Call ``function(conn, *args)`` inside the transaction that commits its entry.

        ``conn`` is the store's own connection: the rows it writes and the entry are one commit.
        """
        body = self._running("transact")
        step = step_of(function)
        key = step.key or step.name
        unit = body.claim(key)
        ask = Call(
            unit=unit,
            handler=step.work.handler,
            scope=StepScope(body.scope, str(unit), unit, step.work, args, kwargs, with_conn=True),
            retry=step.work.retry,
            timeout_ms=step.work.timeout_ms,
            transactional=True,
            name=step.name if key != step.name else None,
        )
        return self._ask(unit, ask, self._reading(unit, step.work.result_type))

    def compensate(
        self, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
    ) -> Done:
        """From now on a rollback calls ``function(*args)``, in its turn; nothing to wait for.

        For work that no step declared. It has five attempts, as every compensator; a ``@step`` has
        its own policies.
        """
        body = self._running("compensate")
        step = step_of(function)
        unit = body.claim(step.key or step.name)
        retry = step.work.retry if isinstance(function, Step) else DEFAULT_UNDO_RETRY
        work = UndoWork(handler=step.work.handler, retry=retry, timeout_ms=step.work.timeout_ms)
        scope = StepScope(
            body.scope, str(unit), unit, None, args, kwargs, undo=work, undo_takes_args=True
        )
        body.recording(lambda: body.recorder.undo(unit, _undo(work, scope)))
        return Done()

    # --- time and messages ---------------------------------------------------------------------

    def sleep(self, duration: Duration, *, key: str = "sleep") -> Pending[None]:
        """Sleep for a ``timedelta`` or a number of seconds, judged by the database's clock."""
        return self._timer("sleep", duration, key)

    def sleep_until(self, moment: datetime, *, key: str = "sleep_until") -> Pending[None]:
        """Sleep until an aware ``datetime``."""
        return self._timer("sleep_until", moment, key)

    @overload
    def wait_for_signal(
        self, name: str, type: type[T], *, timeout: None = None, key: str | None = None
    ) -> Pending[T]: ...
    @overload
    def wait_for_signal(
        self, name: str, type: type[T], *, timeout: Duration, key: str | None = None
    ) -> Pending[T | Literal[TimedOutType.TIMED_OUT]]: ...
    @overload
    def wait_for_signal(
        self,
        name: str,
        type: UnionType = ...,
        *,
        timeout: Duration | None = None,
        key: str | None = None,
    ) -> Pending[Any]: ...
    def wait_for_signal(
        self,
        name: str,
        type: Any = ANY,
        *,
        timeout: Duration | None = None,
        key: str | None = None,
    ) -> Pending[Any]:
        """Wait for a signal; gives its payload read as ``type``, or ``TIMED_OUT``.

        One that came early is waiting already; an ill-typed one is rejected, and the wait goes on.
        The key is the signal's name (with ``.`` for ``/`` and ``#``).
        """
        body = self._running("wait_for_signal")
        scope = body.scope
        label = key or _key_of_signal(name)
        unit = body.claim(self._key(label))

        def signal() -> str:
            problem = signal_name_problem(name, scope.run.limits.name)
            if problem is not None:
                raise ValueError(f"the name of the signal of {str(unit)!r} {problem}")
            duration_ms(0 if timeout is None else timeout, what=f"the timeout of {str(unit)!r}")
            return name

        def refusal(payload: Payload) -> Failure | None:
            end = scope.attempt(lambda: scope.codec.decode(payload, type))
            return end if isinstance(end, Failure) else None

        limit = scope.attempt(
            lambda: None if timeout is None else duration_ms(timeout, what="timeout")
        )
        ask = Wait(
            unit=unit,
            signal=lambda: scope.attempt(signal),
            timeout_ms=None if isinstance(limit, Failure) else limit,
            may_time_out=True,
            accept=None if type is ANY else refusal,
            name=name if isinstance(name, str) else None,
        )
        decode = partial(scope.codec.decode, type_=type, what=f"the signal of {str(unit)!r}")
        return self._ask(unit, ask, read_signal_by(decode))

    # --- children ------------------------------------------------------------------------------

    @overload
    def child(
        self,
        workflow: Workflow[InputT, ResultT],
        input: InputT = ...,
        *,
        key: str | None = None,
        compensate: Compensate = None,
    ) -> Pending[ResultT]: ...
    @overload
    def child(
        self,
        workflow: str,
        input: object = None,
        *,
        key: str | None = None,
        compensate: Compensate = None,
    ) -> Pending[Any]: ...
    def child(
        self,
        workflow: Any,
        input: Any = None,
        *,
        key: str | None = None,
        compensate: Compensate = None,
    ) -> Pending[Any]:
        """Start a run of another workflow and wait for its end; gives its result.

        A failed child raises ``StepFailed``. When this run is rolled back later, the child is
        rolled back too, unless ``compensate`` replaces that.
        """
        ask, result_type = self._child("child", workflow, input, key, compensate, detached=False)
        return self._ask(ask.unit, ask, self._reading(ask.unit, result_type))

    @overload
    def start_child(
        self,
        workflow: Workflow[InputT, ResultT],
        input: InputT = ...,
        *,
        key: str | None = None,
        compensate: Compensate = None,
    ) -> Pending[ChildHandle[ResultT]]: ...
    @overload
    def start_child(
        self,
        workflow: str,
        input: object = None,
        *,
        key: str | None = None,
        compensate: Compensate = None,
    ) -> Pending[ChildHandle[Any]]: ...
    def start_child(
        self,
        workflow: Any,
        input: Any = None,
        *,
        key: str | None = None,
        compensate: Compensate = None,
    ) -> Pending[ChildHandle[Any]]:
        """Start a run of another workflow and go on; gives a handle to wait for its end by.

        A body that ends with a child still alive cancels it and waits for its end.
        """
        ask, result_type = self._child(
            "start_child", workflow, input, key, compensate, detached=True
        )

        def join() -> Pending[Any]:
            self._running("start_child")
            pending = self._ask(ask.unit, Join(unit=ask.unit), self._reading(ask.unit, result_type))
            pending.on_outcome = lambda: self._body.live.pop(ask.unit, None)
            return pending

        def read(outcome: Outcome) -> ChildHandle[Any]:
            assert isinstance(outcome, Started), f"a start cannot come to {outcome!r}"
            self._body.live[ask.unit] = None
            return ChildHandle(outcome.child_id, join)

        return self._ask(ask.unit, ask, read)

    # --- several at once -----------------------------------------------------------------------

    @overload
    def all(self, one: Pending[T1], /) -> Group[list[T1]]: ...
    @overload
    def all(self, one: Pending[T1], two: Pending[T2], /) -> Group[tuple[T1, T2]]: ...
    @overload
    def all(
        self, one: Pending[T1], two: Pending[T2], three: Pending[T3], /
    ) -> Group[tuple[T1, T2, T3]]: ...
    @overload
    def all(
        self, one: Pending[T1], two: Pending[T2], three: Pending[T3], four: Pending[T4], /
    ) -> Group[tuple[T1, T2, T3, T4]]: ...
    @overload
    def all(self, *pendings: Pending[T], max_concurrency: int | None = None) -> Group[list[T]]: ...
    def all(self, *pendings: Any, max_concurrency: int | None = None) -> Any:
        """The list of all values, in this order. All run to their ends; if some fail, awaiting it
        raises the ``StepFailed`` of the first of them in this order."""
        return self._group(all_of, "all", pendings, self._limit("all", max_concurrency))

    def settle(
        self, *pendings: Pending[T], max_concurrency: int | None = None
    ) -> Group[list[T | Failure]]:
        """The same, with a ``Failure`` in the place of whatever failed."""
        limit = self._limit("settle", max_concurrency)
        settled: Group[list[T | Failure]] = self._group(settled_of, "settle", pendings, limit)
        return settled

    def first(self, *pendings: Pending[T]) -> Race[T]:
        """The value of whatever ends first; the others are cancelled. ``race.winner`` says which.

        A loser that had committed already is undone when the run is rolled back.
        """
        body = self._running("first")
        if not pendings:
            raise ValueError("ctx.first needs something to wait for")
        self._check("first", pendings)
        race: Race[T] = first_of(body, pendings)
        body.add(race)
        return race

    # --- recorded or derived ---------------------------------------------------------------------

    def now(self) -> datetime:
        """The database's time now (aware, UTC); recorded."""
        body = self._running("now")
        unit = body.claim("$now")
        codec = body.plan.codec
        recorded = body.recording(
            lambda: body.recorder.value(unit, lambda now_ms: codec.encode(now_ms, int))
        )
        ms: int = codec.decode(recorded, int)
        return EPOCH + timedelta(milliseconds=ms)

    def uuid(self) -> UUID:
        """A UUID (version 4 in form), the same on every replay."""
        return UUID(bytes=self._draw("uuid"), version=4)

    def random(self) -> float:
        """A number from 0 up to, but not, 1, the same on every replay."""
        return (int.from_bytes(self._draw("random")[:8], "big") >> 11) / (1 << 53)

    def patched(self, name: str) -> bool:
        """Whether this run goes the new way: true for runs that come here first by this code.

        It is recorded once a run, so that code may change under live runs::

            if ctx.patched("check-fraud"):
                await ctx.step(check_fraud, order)
        """
        body = self._running("patched")
        check_name(name, what="the name of the patch", where=f"workflow {self.workflow!r}")
        if name not in self._patches:
            unit = UnitKey(("$patched", name))
            self._patches[name] = body.recording(lambda: body.recorder.patched(unit))
        return self._patches[name]

    def continue_as_new(self, input: object = None) -> NoReturn:
        """Begin this run anew with another input, with an empty journal.

        The id and the signals that wait stay; undos of before are given up, and it is refused
        while child runs are live. It never returns: it leaves the body by an exception of its own,
        which must pass.
        """
        body = self._running("continue_as_new")
        if body.live:
            live = ", ".join(str(unit) for unit in body.live)
            raise DurableError(
                f"run {self.run_id!r} cannot continue as new while its child runs are live "
                f"({live}); await their handles first"
            )
        payload = body.plan.codec.encode(
            input,
            body.plan.input_type,
            limit=body.run.limits.input,
            what="the input to continue with",
        )
        body.continuing = ContinueAsNew(payload)
        raise body.continuing

    # --- inside --------------------------------------------------------------------------------

    def _running(self, what: str) -> Body:
        self._body.check_running(what)
        return self._body

    def _ask(self, unit: UnitKey, ask: Any, read: Read) -> Pending[Any]:
        return self._body.add(Pending(self._body, str(unit), ask, read))

    def _reading(self, unit: UnitKey, type_: Any) -> Read:
        codec = self._body.plan.codec
        return read_by(partial(codec.decode, type_=type_, what=f"the result of {str(unit)!r}"))

    def _key(self, key: str) -> str:
        return check_name(key, what="key", where=f"workflow {self.workflow!r}")

    def _timer(self, what: str, wanted: Duration | datetime, key: str) -> Pending[None]:
        body = self._running(what)
        unit = body.claim(self._key(key))

        def due(now_ms: int) -> int | Failure:
            return body.scope.attempt(lambda: moment_ms(wanted, now_ms, step=str(unit)))

        return self._ask(unit, Timer(unit=unit, due=due), read_nothing)

    def _child(
        self,
        what: str,
        workflow: Any,
        input: Any,
        key: str | None,
        compensate: Compensate,
        *,
        detached: bool,
    ) -> tuple[Child, Any]:
        body = self._running(what)
        if not isinstance(workflow, str) and not is_definition(workflow):
            raise TypeError(
                f"ctx.{what} takes a workflow or the name of one, not {type(workflow).__name__}"
            )
        name = workflow if isinstance(workflow, str) else workflow.name
        unit = body.claim(self._key(key or name))
        registry, scope = body.plan.services.registry, body.scope
        found = scope.attempt(
            lambda: (
                registry.latest(name)
                if isinstance(workflow, str)
                else registry.get(name, workflow.version)
            )
        )
        result_type: Any = ANY if isinstance(found, Failure) else found.result_type

        def begin() -> ChildSpec | Failure:
            if isinstance(found, Failure):
                return found
            return scope.attempt(lambda: spec_of(scope, found, input, step=str(unit)))

        undo = None
        work = Spot(f"child {str(unit)!r}").undo(compensate)
        if work is not None:
            own = StepScope(scope, str(unit), unit, None, undo=work, result_type=result_type)
            undo = _undo(work, own)
        elif not isinstance(found, Failure) and registry.compensable(found):
            undo = Undo(child=True)
        ask = Child(unit=unit, begin=begin, undo=undo, detached=detached, name=name)
        return ask, result_type

    def _group(self, make: Any, what: str, pendings: tuple[Any, ...], limit: int | None) -> Any:
        body = self._running(what)
        self._check(what, pendings)
        return body.add(make(body, pendings, limit))

    def _check(self, what: str, pendings: tuple[Any, ...]) -> None:
        body = self._body
        if len(pendings) > body.run.limits.fan_out:
            raise LimitExceededError(
                f"ctx.{what} was given {len(pendings)} things to wait for, more than "
                f"Limits.fan_out ({body.run.limits.fan_out}); take them in batches"
            )
        seen: set[int] = set()
        for one in pendings:
            close = getattr(one, "close", None)
            if not isinstance(one, Pending):
                if close is not None:
                    close()
                raise NondeterminismError(
                    f"ctx.{what} takes what ctx.step(...), ctx.sleep(...) and the like give, not "
                    f"{type(one).__name__}; for a function write ctx.{what}(ctx.step(function, "
                    "...), ...), and for child handles handle.result()",
                    run_id=self.run_id,
                )
            if one.owner is not body or id(one) in seen or one.outcome is not None:
                raise NondeterminismError(
                    f"ctx.{what} was given {one!r}, which is of another run, stands there twice, "
                    "or was awaited before; ask for it anew",
                    run_id=self.run_id,
                )
            seen.add(id(one))

    def _limit(self, what: str, limit: object) -> int | None:
        spot = Spot(f"workflow {self.workflow!r}, ctx.{what}")
        return spot.optional_count(limit, what="max_concurrency")

    def _draw(self, what: str) -> bytes:
        """16 bytes, derived of a seed that is recorded when it is first needed: so a fork, which
        has another id, draws what its original drew."""
        body = self._running(what)
        if self._seed is None:
            run, recorder, codec = body.run, body.recorder, body.plan.codec
            seed = derived_id("seed", run.run_id, run.created_at_ms, recorder.generation)
            recorded = body.recording(
                lambda: recorder.value(UnitKey(("$seed",)), lambda now_ms: codec.encode(seed, str))
            )
            self._seed = str(codec.decode(recorded, str))
        self._drawn += 1
        text = f"{self._seed}:{self._drawn}"
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _key_of_signal(name: object) -> str:
    key = str(name).replace("/", ".").replace("#", ".").lstrip("$")
    return key if key.strip() and not key.startswith("__") else "signal"


def _undo(work: UndoWork, scope: StepScope) -> Undo:
    return Undo(handler=work.handler, scope=scope, retry=work.retry, timeout_ms=work.timeout_ms)
