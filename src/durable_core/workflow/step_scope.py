"""Step scope: how the engine calls a step of a body, and ``current_step()`` inside of it.

A step's function takes the arguments the body gave it and no context. What a handler of a
declared workflow finds in its context, a step's function finds by ``current_step()``: it stands
in a context variable of the task, or of the thread, that the one attempt runs in.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import attrs

from ..errors import DurableError
from ..kernel.ids import UnitKey
from ..kernel.outcome import Attempt
from .callables import Function
from .context import LogOf, StepContext
from .invocation import Invocation, UnitScope
from .nodes import UndoWork, Work
from .scope import RunScope

_CURRENT: ContextVar[StepContext[Any, Any]] = ContextVar("durable_step")


def current_step() -> StepContext[Any, Any]:
    """The context of the step that is running: attempt, idempotency key, deps, and so on.

    Raises ``DurableError`` where no step of a body is running.
    """
    found = _CURRENT.get(None)
    if found is None:
        raise DurableError(
            "current_step() is there only while a step runs that a body called by ctx.step(...); "
            "in a handler of a declared workflow use its ctx"
        )
    return found


class StepScope(UnitScope):
    """A unit whose handler takes the arguments of a call.

    ``with_conn``: the store's connection comes before them (``ctx.transact``). ``undo_takes_args``:
    its undo is called with them too (``ctx.compensate``), not with a context.
    """

    __slots__ = ("undo_takes_args", "with_conn")

    def __init__(
        self,
        run: RunScope,
        name: str,
        unit: UnitKey,
        work: Work | None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        undo: UndoWork | None = None,
        result_type: Any = None,
        with_conn: bool = False,
        undo_takes_args: bool = False,
    ) -> None:
        super().__init__(run, name, unit, work, undo=undo, result_type=result_type)
        self.call = (args, kwargs or {})
        self.with_conn = with_conn
        self.undo_takes_args = undo_takes_args

    def prepare(
        self,
        attempt: Attempt,
        *,
        deps: Any,
        deadline: datetime | None = None,
        conn: Any = None,
        log: LogOf | None = None,
    ) -> Invocation:
        """As ``UnitScope.prepare``."""
        made = super().prepare(attempt, deps=deps, deadline=deadline, conn=conn, log=log)
        assert self.call is not None
        args, kwargs = self.call
        if not attempt.key.compensating:
            args = (conn, *args) if self.with_conn else args
        elif not self.undo_takes_args:
            args, kwargs = made.args, {}
        function = _knowing(made.function, args, kwargs, is_async=made.is_async)
        return attrs.evolve(made, function=function)


def _knowing(
    function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, is_async: bool
) -> Function:
    """The function with its arguments, to be called with the context, which ``current_step()``
    then finds."""

    async def call_async(context: StepContext[Any, Any]) -> Any:
        _CURRENT.set(context)
        return await function(*args, **kwargs)

    def call(context: StepContext[Any, Any]) -> Any:
        _CURRENT.set(context)
        return function(*args, **kwargs)

    return call_async if is_async else call
