"""Step: a function made a step of bodies of code, with its policies; what ``@step`` gives.

``ctx.step(search, query)`` calls it as one unit of the run. Called directly, outside of a body,
it is the function it was; inside of a body that would be work that nobody records, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

import attrs
from typing_extensions import TypeVar as DefaultTypeVar

from ..errors import NondeterminismError
from ..kernel.policy import DEFAULT_RETRY, Duration, Retry
from .callables import Function, check_function, describe
from .checks import Spot
from .context import StepContext
from .names import check_name, refuse
from .nodes import Undo, Work
from .suspend import Suspend

P = ParamSpec("P")
T = TypeVar("T")
R = DefaultTypeVar("R", default=Any)

Compensate = Callable[[StepContext[Any, Any]], object] | Undo | None

IN_BODY: ContextVar[str] = ContextVar("durable_body")
"""The run whose body is being driven, in that body's own context."""


@attrs.frozen(slots=True)
class Step(Generic[P, T, R]):
    """A function with the policies it is called by. ``key``: its unit's name, if not its own.

    ``Step[[str], int]`` takes a string and is worth an int to a body; the third is what calling it
    directly gives.
    """

    name: str
    work: Work = attrs.field(repr=False)
    key: str | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, e.g. in its own test or in another step."""
        if IN_BODY.get(None) is not None:
            raise NondeterminismError(
                f"step {self.name!r} was called directly in the body of a workflow, where nothing "
                f"would record it; write `await ctx.step({self.name}, ...)`"
            )
        return cast(R, self.work.handler(*args, **kwargs))

    @property
    def function(self) -> Function:
        """The function behind it."""
        return self.work.handler

    def with_options(
        self,
        *,
        key: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        compensate: Compensate = None,
    ) -> Step[P, T, R]:
        """The same step with other policies, or under a ``key`` of its own; the rest stays."""
        where = f"step {self.name!r}"
        spot = Spot(where)
        work = self.work
        if retry is not None:
            work = attrs.evolve(work, retry=spot.retry(retry, DEFAULT_RETRY, what="retry"))
        if timeout is not None:
            work = attrs.evolve(work, timeout_ms=spot.timeout(timeout))
        if compensate is not None:
            work = attrs.evolve(work, undo=spot.undo(compensate))
        if key is not None:
            check_name(key, what="key", where=where)
        return Step(self.name, work, self.key if key is None else key)


class Steps(Protocol):
    """``@step(...)``: makes a function a step."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T | Suspend]], /
    ) -> Step[P, T, Coroutine[None, None, T]]: ...
    @overload
    def __call__(self, function: Callable[P, T | Suspend], /) -> Step[P, T, T]: ...
    def __call__(self, function: Any, /) -> Any: ...


@overload
def step(
    function: Callable[P, Coroutine[Any, Any, T | Suspend]], /
) -> Step[P, T, Coroutine[None, None, T]]: ...
@overload
def step(function: Callable[P, T | Suspend], /) -> Step[P, T, T]: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    compensate: Compensate = None,
) -> Steps: ...
def step(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    compensate: Compensate = None,
) -> Any:
    """Make an async or plain function a step that bodies call by ``ctx.step(function, ...)``.

    ``name`` is the function's own by default. ``retry`` is three attempts, ``timeout`` bounds each
    of them. ``compensate`` undoes the step when the run is rolled back later: a handler
    ``undo(ctx)`` that finds the step's result as ``ctx.value`` and its arguments as ``ctx.args``,
    or an ``Undo`` with policies of its own. Raises ``DefinitionError``.
    """

    def make(function: Any) -> Step[Any, Any]:
        return step_of(function, name=name, retry=retry, timeout=timeout, compensate=compensate)

    return make if function is None else make(function)


def step_of(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: Duration | None = None,
    compensate: Compensate = None,
) -> Step[Any, Any]:
    """A function as a step; one that is a step already stays what it is."""
    if isinstance(function, Step):
        return function
    where = f"step {name or describe(function)!r}"
    check_function(function, what="the function", where=where)
    if name is None:
        name = describe(function).rpartition(".")[2]
        if name == "<lambda>":
            refuse(where, "a lambda has no name to be recorded under; use a def, or name=...")
    check_name(name, what="the name of the step", where=where)
    spot = Spot(where)
    return Step(
        name,
        Work(
            handler=function,
            retry=spot.retry(retry, DEFAULT_RETRY, what="retry"),
            timeout_ms=spot.timeout(timeout),
            undo=spot.undo(compensate),
        ),
    )
