"""Builder: the methods that declare a workflow, one a kind of step.

Each checks what it was given (``checks.py``), makes one node, and gives a new workflow with that
node at its end; the old one is unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, Self, TypeVar

from ..codec.types import ANY
from ..kernel.policy import Duration, Retry
from .checks import ITEM, RESULT, VALUE, VERDICT, Spot
from .context import StepContext
from .nodes import (
    RUN_INPUT,
    SKIP,
    Branch,
    ChildNode,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    SignalNode,
    Skip,
    SleepNode,
    StepNode,
    Undo,
    Work,
)
from .registry import Definition

InputT = TypeVar("InputT")


class Builder(Generic[InputT]):
    """What ``Workflow`` is built with."""

    __slots__ = ()

    def step(
        self,
        name: str,
        handler: Callable[[StepContext[Any, InputT]], object],
        *,
        compensate: Callable[[StepContext[Any, InputT]], object] | Undo | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        transactional: bool = False,
    ) -> Self:
        """Call ``handler(ctx)`` as one unit; its value is ``results[name]``.

        ``compensate`` undoes it when the run is rolled back later: a handler, or an ``Undo`` with
        policies of its own. ``timeout`` bounds each attempt. With ``transactional`` the handler
        gets the store's connection as ``ctx.conn``, inside the transaction that commits its entry.
        """
        spot = self._spot(name)
        return self._with(
            StepNode(
                name=name,
                work=spot.work(handler, compensate, retry, timeout),
                transactional=spot.flag(transactional, what="transactional"),
            )
        )

    def parallel(
        self,
        name: str,
        entries: Mapping[str, Callable[[StepContext[Any, InputT]], object] | Branch],
        *,
        max_concurrency: int | None = None,
    ) -> Self:
        """Run named handlers at once, each a unit of its own; all run to their ends.

        ``results[name]`` is the mapping, and ``results[entry]`` reads each entry, so entries and
        steps share one name space. If some fail, the step fails with the first in this order.
        """
        spot = self._spot(name)
        taken = self._taken() | {name}
        checked: dict[str, Work] = {}
        for entry, branch in spot.branches(entries, what="parallel"):
            spot.name(entry, what="the name of the entry")
            spot.free(entry, taken, what="the name of the entry")
            checked[entry] = spot.branch(entry, branch)
        return self._with(
            ParallelNode(
                name=name,
                entries=tuple(checked.items()),
                max_concurrency=spot.optional_count(max_concurrency, what="max_concurrency"),
            )
        )

    def map(
        self,
        name: str,
        items: Callable[[StepContext[Any, InputT]], Iterable[Any]],
        handler: Callable[[StepContext[Any, InputT]], object]
        | Callable[[StepContext[Any, InputT], Any], object],
        *,
        max_concurrency: int | None = None,
        min_success: int | None = None,
        compensate: Callable[[StepContext[Any, InputT]], object] | Undo | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
    ) -> Self:
        """Call ``handler(ctx)`` or ``handler(ctx, item)`` for each item, one unit an item.

        ``items(ctx)`` is called once and its list recorded. The handler finds ``ctx.item`` and
        ``ctx.index``. ``results[name]`` is the list in the order of the items. One failed item
        fails the step, unless ``min_success`` items (0: none at all) are enough; the failed ones
        are ``Failure`` objects then. Items and values without a type annotation are plain.
        """
        spot = self._spot(name)
        spot.pure(items, what="items")
        return self._with(
            MapNode(
                name=name,
                items=items,
                work=spot.work(handler, compensate, retry, timeout, arities=ITEM),
                max_concurrency=spot.optional_count(max_concurrency, what="max_concurrency"),
                min_success=spot.optional_count(min_success, what="min_success", minimum=0),
            )
        )

    def route(
        self,
        name: str,
        select: Callable[[StepContext[Any, InputT]], Any],
        branches: Mapping[Any, Callable[[StepContext[Any, InputT]], object] | Branch],
        *,
        otherwise: Callable[[StepContext[Any, InputT]], object] | Branch | Skip | None = None,
    ) -> Self:
        """Run the branch whose key ``select(ctx)`` gives; ``results[name]`` is its value.

        Keys are strings (or enum members whose value is one). The key is recorded before the
        branch begins and never chosen again. A key without a branch fails the step, unless
        ``otherwise`` is a handler (unit ``name/otherwise``) or ``SKIP`` (the value is ``None``).
        """
        spot = self._spot(name)
        spot.pure(select, what="select")
        keyed = spot.keys(spot.branches(branches, what="route"))
        last: Work | Skip | None
        if otherwise is None or otherwise is SKIP:
            last = SKIP if otherwise is SKIP else None
        else:
            last = spot.branch(RouteNode.OTHERWISE, otherwise)
            spot.free(RouteNode.OTHERWISE, frozenset(dict(keyed)), what="the branch for the rest")
        return self._with(RouteNode(name=name, select=select, branches=keyed, otherwise=last))

    def loop(
        self,
        name: str,
        handler: Callable[[StepContext[Any, InputT], Any], object]
        | Callable[[StepContext[Any, InputT]], object],
        *,
        initial: object = RUN_INPUT,
        until: Callable[[Any, int], object] | Callable[[Any], object] | None = None,
        feedback: Callable[[Any], Any] | None = None,
        max_iterations: int = 1000,
        collect: bool = False,
        on_exhausted: Literal["return", "fail"] = "return",
        compensate: Callable[[StepContext[Any, InputT]], object] | Undo | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
    ) -> Self:
        """Call ``handler(ctx, value)`` again and again, one unit an iteration.

        The first value is ``initial`` (a value, or a function of the context), by default the
        run's input. After each iteration ``until(result, n)``, n counted from 1, ends the loop;
        else ``feedback(result)`` gives the next value (without it the value stays). Reaching
        ``max_iterations`` is success, or failure with ``on_exhausted="fail"``. ``results[name]``
        is the last result, or with ``collect`` the list of all.
        """
        spot = self._spot(name)
        takes = 2 if until is None else spot.pure(until, what="until", arities=VERDICT)
        if feedback is not None:
            spot.pure(feedback, what="feedback", arities=RESULT)
        spot.choice(on_exhausted, ("return", "fail"), what="on_exhausted")
        if on_exhausted == "fail" and until is None:
            raise spot.refuse("on_exhausted='fail' without until= would always fail; give until=")
        return self._with(
            LoopNode(
                name=name,
                work=spot.work(handler, compensate, retry, timeout, arities=VALUE),
                initial=spot.value_or_pure(initial, what="initial"),
                until=until,
                until_takes=takes,
                feedback=feedback,
                max_iterations=spot.count(max_iterations, what="max_iterations"),
                collect=spot.flag(collect, what="collect"),
                on_exhausted=on_exhausted,
            )
        )

    def sleep(
        self,
        name: str,
        duration: Duration
        | datetime
        | Callable[[StepContext[Any, InputT]], timedelta | float | datetime],
    ) -> Self:
        """Sleep for a duration (``timedelta`` or seconds) or until an aware ``datetime``.

        A function of the context may give either. The due time is computed once and judged by
        the database's clock. A sleep has no result.
        """
        spot = self._spot(name)
        return self._with(SleepNode(name=name, duration=spot.moment(duration, what="duration")))

    def wait_for_signal(
        self,
        name: str,
        signal: str | Callable[[StepContext[Any, InputT]], str] | None = None,
        *,
        type: Any = ANY,
        timeout: Duration | None = None,
        on_timeout: Literal["fail", "continue"] = "fail",
    ) -> Self:
        """Wait for a signal, called like the step unless ``signal`` names it.

        ``results[name]`` is its payload, read as ``type``; an ill-typed signal is rejected and
        the wait goes on. One that came early is waiting already. After ``timeout`` the step
        fails, or with ``on_timeout="continue"`` its value is ``None``.
        """
        spot = self._spot(name)
        spot.choice(on_timeout, ("fail", "continue"), what="on_timeout")
        return self._with(
            SignalNode(
                name=name,
                signal=spot.signal(name if signal is None else signal),
                type=spot.type(type, what="type"),
                timeout_ms=None if timeout is None else spot.duration(timeout, what="timeout"),
                may_time_out=on_timeout == "continue",
            )
        )

    def child(
        self,
        name: str,
        workflow: Definition | str,
        *,
        input: object = RUN_INPUT,
        compensate: Callable[[StepContext[Any, InputT]], object] | Undo | None = None,
    ) -> Self:
        """Start a run of another workflow and wait for its end; its result is ``results[name]``.

        ``workflow`` is a definition, or the name of one that is registered too. ``input`` is a
        value or a function of the context, by default the run's own input. When this run is
        rolled back later, the completed child rolls itself back, or ``compensate`` is called in
        place of that.
        """
        spot = self._spot(name)
        return self._with(
            ChildNode(
                name=name,
                workflow=spot.workflow(workflow),
                input=spot.value_or_pure(input, what="input"),
                undo=spot.undo(compensate),
            )
        )

    # --- what Workflow provides ----------------------------------------------------------------

    def _with(self, node: Node) -> Self:
        """This workflow with one more node."""
        raise NotImplementedError

    def _spot(self, step: object) -> Spot:
        """The place of a new step, whose name is checked."""
        raise NotImplementedError

    def _taken(self) -> frozenset[str]:
        """The names of all steps and parallel entries."""
        raise NotImplementedError
