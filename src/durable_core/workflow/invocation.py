"""Invocation: one attempt made ready to be called; all the engine knows of a workflow's insides.

The kernel hands a ``UnitScope`` through unread, as the scope of a call and of its compensator.
The engine asks it to ``prepare`` the attempt, calls ``function(*args)``, and encodes what that
gives with ``result_type``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import attrs

from ..codec.types import ANY
from ..kernel.ids import UnitKey
from ..kernel.outcome import Attempt
from .callables import Function
from .context import LogOf, StepContext
from .loose import LooseCodec
from .nodes import UndoWork, Work
from .results import UnitValue
from .scope import Carried, Items, Place, RunScope


@attrs.define(slots=True, kw_only=True, weakref_slot=False)
class Invocation:
    """What to call for an attempt, and how to read its value.

    ``is_async``: to be awaited on the event loop, else to be called in a thread. ``keeps_result``
    False: whatever a compensator returns is of no interest, unless it is a ``Suspend``.
    """

    function: Function
    context: StepContext[Any, Any]
    more: tuple[Any, ...] = ()
    is_async: bool
    result_type: Any = ANY
    keeps_result: bool = True

    @property
    def args(self) -> tuple[Any, ...]:
        """What to call it with: its context, and more in some places."""
        return (self.context, *self.more)


class UnitScope(Place):
    """A unit with a handler: its place, and how its attempts are made."""

    __slots__ = ("result_type", "undo", "work")

    def __init__(
        self,
        run: RunScope,
        step: str,
        unit: UnitKey,
        work: Work | None,
        *,
        undo: UndoWork | None = None,
        result_type: Any = ANY,
        own: str | None = None,
        index: int | None = None,
        items: Items | None = None,
        carried: Carried | None = None,
    ) -> None:
        """``work`` None: a child run, which has a compensator at most."""
        super().__init__(run, step, unit, own=own, index=index, items=items, carried=carried)
        self.work = work
        self.undo = undo if work is None else work.undo
        self.result_type = result_type if work is None else work.result_type

    def prepare(
        self,
        attempt: Attempt,
        *,
        deps: Any,
        deadline: datetime | None = None,
        conn: Any = None,
        log: LogOf | None = None,
    ) -> Invocation:
        """The call to make for this attempt.

        Raises ``EncodingError`` when what a handler is to be called with cannot be decoded; the
        attempt then fails with it.
        """
        undoing = attempt.key.compensating
        value = None
        if undoing and attempt.value is not None:
            value = UnitValue(self.unit, attempt.value, self.result_type)
        context: StepContext[Any, Any] = StepContext(
            self, attempt, deps=deps, deadline=deadline, conn=conn, log=log, value=value
        )
        if undoing:
            assert self.undo is not None, "a compensation is made for a unit that has one"
            return Invocation(
                function=self._function(self.undo),
                context=context,
                is_async=self.undo.is_async,
                keeps_result=False,
            )
        assert self.work is not None, "an attempt is made for a unit with a handler"
        return Invocation(
            function=self._function(self.work),
            context=context,
            more=() if self.work.takes == 1 else (self._second(context),),
            is_async=self.work.is_async,
            result_type=self.work.result_type,
        )

    def _function(self, work: Work | UndoWork) -> Function:
        """The handler; where a definition knows classes, what it gives is labelled here."""
        codec = self.run.codec
        if not isinstance(codec, LooseCodec) or work.says_all:
            return work.handler
        return codec.wrapped(
            work.handler,
            is_async=work.is_async,
            typed=isinstance(work, UndoWork) or work.result_type is not ANY,
            limit=self.run.run.limits.result,
            what=f"the result of {str(self.unit)!r}",
        )

    def _second(self, context: StepContext[Any, Any]) -> Any:
        if self.carried is not None:
            return self.carried.read(self.run.codec)
        return context.item
