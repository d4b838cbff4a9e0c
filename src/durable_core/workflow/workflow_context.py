"""WorkflowContext: all that a body of code may ask for.

Each method says what is wanted and gives a ``Pending`` at once; nothing happens before it is
awaited, alone or in a combinator. Only ``now``, ``uuid``, ``random``, ``patched`` and
``compensate`` do without: they are recorded, or derived of what is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from datetime import datetime, timedelta
from types import UnionType
from typing import Any, Concatenate, Generic, Literal, NoReturn, ParamSpec, TypeVar, overload
from uuid import UUID

from typing_extensions import TypeVar as DefaultTypeVar

from ..codec.types import ANY
from ..errors import DurableError
from ..kernel.failure import Failure
from ..kernel.ids import UnitKey
from ..kernel.outcome import Outcome, Started
from ..kernel.policy import Duration
from ..kernel.step import Join
from . import asks
from .checks import Spot
from .coroutine import Body, ContinueAsNew
from .decisions import EPOCH
from .definition import Workflow
from .lent import Log
from .names import check_name
from .pending import (
    Group,
    Pending,
    Race,
    TimedOutType,
    all_of,
    first_of,
    settled_of,
)
from .steps import Compensate, Step
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

    __slots__ = ("_body", "_draws", "_patches")

    def __init__(self, body: Body) -> None:
        """Made by the library."""
        self._body = body
        self._draws = asks.Draws(body)
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
        return asks.call(self._running("step"), function, args, kwargs)

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
        return asks.call(self._running("transact"), function, args, kwargs, transactional=True)

    def compensate(
        self, function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
    ) -> Done:
        """From now on a rollback calls ``function(*args)``, in its turn; nothing to wait for.

        For work that no step declared. It has five attempts, as every compensator; a ``@step`` has
        its own policies.
        """
        body = self._running("compensate")
        if not body.dropped:
            asks.register_undo(body, function, args, kwargs)
        return Done()

    # --- time and messages ---------------------------------------------------------------------

    def sleep(self, duration: Duration, *, key: str = "sleep") -> Pending[None]:
        """Sleep for a ``timedelta`` or a number of seconds, judged by the database's clock."""
        return asks.timer(self._running("sleep"), duration, key)

    def sleep_until(self, moment: datetime, *, key: str = "sleep_until") -> Pending[None]:
        """Sleep until an aware ``datetime``."""
        return asks.timer(self._running("sleep_until"), moment, key)

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
        return asks.wait(self._running("wait_for_signal"), name, type, timeout, key)

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
        body = self._running("child")
        ask, read = asks.child(body, "child", workflow, input, key, compensate, detached=False)
        return asks.pending(body, ask.unit, ask, read)

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
        body = self._running("start_child")
        ask, read = asks.child(body, "start_child", workflow, input, key, compensate, detached=True)
        unit = ask.unit

        def join() -> Pending[Any]:
            joining = asks.pending(self._running("start_child"), unit, Join(unit=unit), read)
            joining.on_outcome = lambda: body.live.pop(unit, None)
            return joining

        def started(outcome: Outcome) -> ChildHandle[Any]:
            assert isinstance(outcome, Started), f"a start cannot come to {outcome!r}"
            body.live[unit] = None
            return ChildHandle(outcome.child_id, join)

        return asks.pending(body, unit, ask, started)

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
        return self._group(all_of, "all", pendings, max_concurrency)

    def settle(
        self, *pendings: Pending[T], max_concurrency: int | None = None
    ) -> Group[list[T | Failure]]:
        """The same, with a ``Failure`` in the place of whatever failed."""
        settled: Group[list[T | Failure]] = self._group(
            settled_of, "settle", pendings, max_concurrency
        )
        return settled

    def first(self, *pendings: Pending[T]) -> Race[T]:
        """The value of whatever ends first; the others are cancelled. ``race.winner`` says which.

        A loser that had committed already is undone when the run is rolled back.
        """
        body = self._running("first")
        pendings = _awaitable(pendings)
        if not pendings:
            raise ValueError("ctx.first needs something to wait for")
        asks.check_parts(body, "first", pendings)
        race: Race[T] = first_of(body, pendings)
        body.add(race)
        return race

    # --- recorded or derived ---------------------------------------------------------------------

    def now(self) -> datetime:
        """The database's time now (aware, UTC); recorded."""
        body = self._running("now")
        if body.dropped:
            return EPOCH
        unit = body.claim("$now")
        codec = body.plan.codec
        recorded = body.recording(
            lambda: body.recorder.value(unit, lambda now_ms: codec.encode(now_ms, int))
        )
        ms: int = codec.decode(recorded, int)
        return EPOCH + timedelta(milliseconds=ms)

    def uuid(self) -> UUID:
        """A UUID (version 4 in form), the same on every replay."""
        return UUID(bytes=self._drawn("uuid"), version=4)

    def random(self) -> float:
        """A number from 0 up to, but not, 1, the same on every replay."""
        return (int.from_bytes(self._drawn("random")[:8], "big") >> 11) / (1 << 53)

    def patched(self, name: str) -> bool:
        """Whether this run goes the new way: true for runs that come here first by this code.

        It is recorded once a run, so that code may change under live runs::

            if ctx.patched("check-fraud"):
                await ctx.step(check_fraud, order)
        """
        body = self._running("patched")
        check_name(name, what="the name of the patch", where=f"workflow {self.workflow!r}")
        if name not in self._patches and not body.dropped:
            unit = UnitKey(("$patched", name))
            self._patches[name] = body.recording(lambda: body.recorder.patched(unit))
        return self._patches.get(name, False)

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

    def _drawn(self, what: str) -> bytes:
        self._running(what)
        return self._draws.next()

    def _group(self, make: Any, what: str, pendings: tuple[Any, ...], limit: object) -> Any:
        body = self._running(what)
        pendings = _awaitable(pendings)
        asks.check_parts(body, what, pendings)
        spot = Spot(f"workflow {self.workflow!r}, ctx.{what}")
        return body.add(make(body, pendings, spot.optional_count(limit, what="max_concurrency")))


def _awaitable(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    """A handle stands for the end of its child."""
    return tuple(part.result() if isinstance(part, ChildHandle) else part for part in parts)
