"""Lower: a declared workflow as a program, which asks for one node's steps after another.

Rules:

1. A node's value is a reference into the journal (``results.py``); nothing is kept decoded.
2. Every user function runs inside ``RunScope.attempt``: what goes wrong in it, or in encoding
   what it gave, is a ``Failure`` of its unit.
3. What a function decided is read back from its record, on the first pass too, so that replay
   asks for the same steps without calling it again.
4. A failed step raises ``StepFailed`` with the unit's own failure; of several, the first in order
   of declaration.

Units: a step ``name``; an entry ``name/entry``; a map's list ``name`` and its items ``name/i``;
a route's decision ``name`` and its branch ``name/key``; a loop's given first value ``name`` and
its iterations ``name/n``; everything else ``name``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, assert_never

import attrs

from ..codec.payload import Codec
from ..codec.types import ANY
from ..errors import StepFailed
from ..kernel.failure import Failure
from ..kernel.ids import UnitKey
from ..kernel.nondeterminism import nondeterminism
from ..kernel.outcome import Completed, Ending, Failed, Outcome, Settled, TimedOut
from ..kernel.program import Program, ProgramFactory
from ..kernel.recorder import Recorder
from ..kernel.run import RunContext
from ..kernel.step import All, Ask, Call, Child, Record, Timer, Undo, Wait
from ..kernel.value import Payload
from .callables import Function, list_of
from .decisions import (
    SAME,
    STOP,
    child_of,
    due_ms_of,
    first_value_of,
    items_of,
    key_of,
    refusal_of,
    result_of,
    signal_of,
    verdict_of,
)
from .invocation import UnitScope
from .nodes import (
    RUN_INPUT,
    SKIP,
    ChildNode,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    SignalNode,
    SleepNode,
    StepNode,
    UndoWork,
    Work,
)
from .registry import Definition
from .results import Book, ListValue, MapValue, NoValue, UnitValue, Value
from .scope import Carried, Items, Place, RunScope

T = TypeVar("T")

Structure = ParallelNode | MapNode | RouteNode | LoopNode | SleepNode | SignalNode | ChildNode
"""Every node but a step."""

Asks = Generator[Ask, Outcome | None, Value | None]
"""Asks for the steps of one node; gives its value, or None if it has none."""


@attrs.frozen(slots=True, kw_only=True)
class Plan:
    """A definition made ready to be lowered, once an engine.

    ``children``: by step, the child's definition and whether rolling it back undoes anything.
    ``handlers``: by step or parallel entry, the functions whose result stands under that name.
    """

    nodes: tuple[Node, ...]
    returns: Function | None
    input_type: Any
    result_type: Any
    codec: Codec
    children: Mapping[str, tuple[Definition, bool]]
    handlers: Mapping[str, tuple[object, ...]]


def program_factory(plan: Plan) -> ProgramFactory:
    """Makes the program of a run."""
    steps = tuple((node, UnitKey((node.name,))) for node in plan.nodes)

    def begin(run: RunContext, recorder: Recorder) -> Program:
        scope = RunScope(run, plan.codec, input_type=plan.input_type, handlers=plan.handlers)
        return _NodeByNode(plan, steps, scope)

    return begin


class _NodeByNode:
    """The nodes of a plan, one after the other: a ``Program``. There is one of these for every run
    in memory, and a generator would take four times as much."""

    __slots__ = ("_asks", "_at", "_plan", "_scope", "_steps")

    def __init__(self, plan: Plan, steps: Sequence[tuple[Node, UnitKey]], scope: RunScope) -> None:
        self._plan = plan
        self._steps = steps
        self._scope = scope
        self._at = -1  # the number of the node that is under way
        self._asks: Asks | None = None  # of that node; most are steps, and need no generator

    def send(self, outcome: Outcome | None) -> Ask:
        """See ``Program``."""
        scope = self._scope
        if self._at >= 0:
            node, unit = self._steps[self._at]
            value: Value | None
            if isinstance(node, StepNode):
                value = UnitValue(unit, _payload(node.name, outcome), node.work.result_type)
            else:
                assert self._asks is not None, "it is under way"
                try:
                    return self._asks.send(outcome)
                except StopIteration as end:
                    self._asks, value = None, end.value
            if value is not None:
                scope.book = scope.book or Book()
                scope.book.add(node.name, value)
        self._at += 1
        if self._at == len(self._steps):
            raise StopIteration(_ending(self._plan, scope))
        node, unit = self._steps[self._at]
        if isinstance(node, StepNode):
            return _call(
                UnitScope(scope, node.name, unit, node.work, own=node.name),
                node.work,
                transactional=node.transactional,
            )
        self._asks = _asks(self._plan, scope, node)
        return next(self._asks)

    def close(self) -> None:
        """See ``Program``."""
        if self._asks is not None:
            self._asks.close()


def _ending(plan: Plan, scope: RunScope) -> Ending:
    if plan.returns is None:
        book = scope.book
        return Ending(payload=None, shape=book.shape(), assemble=partial(book.assemble, plan.codec))
    result = _done("returns", result_of(Place(scope, "returns"), plan.returns, plan.result_type))
    return Ending(payload=result, shape=None, assemble=lambda: result)


def _asks(plan: Plan, scope: RunScope, node: Structure) -> Asks:
    match node:
        case ParallelNode():
            return _parallel(scope, node)
        case MapNode():
            return _map(scope, node)
        case RouteNode():
            return _route(scope, node)
        case LoopNode():
            return _loop(scope, node)
        case SleepNode():
            return _sleep(scope, node)
        case SignalNode():
            return _wait(scope, node)
        case ChildNode():
            return _child(plan, scope, node)
        case _:
            assert_never(node)


# --- one function a kind -----------------------------------------------------------------------


def _parallel(scope: RunScope, node: ParallelNode) -> Asks:
    units = [UnitKey((node.name, entry)) for entry, _ in node.entries]
    settled = yield All(
        steps=tuple(
            _call(UnitScope(scope, node.name, unit, work, own=entry), work)
            for unit, (entry, work) in zip(units, node.entries, strict=True)
        ),
        max_concurrency=node.max_concurrency,
    )
    outcomes = _settled(settled)
    return MapValue(
        {
            entry: UnitValue(unit, _payload(node.name, outcome), work.result_type)
            for unit, (entry, work), outcome in zip(units, node.entries, outcomes, strict=True)
        }
    )


def _map(scope: RunScope, node: MapNode) -> Asks:
    unit = UnitKey((node.name,))
    item_type = node.item_type
    list_type = list_of(item_type)
    place = Place(scope, node.name, unit)
    outcome = yield Record(
        unit=unit,
        kind="items_recorded",
        compute=partial(items_of, place, node, list_type),
    )
    recorded = _payload(node.name, outcome)
    values = _done(node.name, scope.attempt(lambda: scope.codec.decode(recorded, list_type)))
    if not values:
        return ListValue(unit, ())
    items = Items(values, item_type, scope.codec)
    work = node.work
    settled = yield All(
        steps=tuple(
            _call(
                UnitScope(scope, node.name, unit.child(index), work, index=index, items=items),
                work,
            )
            for index in range(len(items))
        ),
        max_concurrency=node.max_concurrency,
    )
    ends = tuple(_end(outcome) for outcome in _settled(settled))
    failures = [end for end in ends if isinstance(end, Failure)]
    succeeded = len(ends) - len(failures)
    if failures and (node.min_success is None or succeeded < node.min_success):
        raise StepFailed(node.name, failures[0])
    return ListValue(unit, ends, work.result_type)


def _route(scope: RunScope, node: RouteNode) -> Asks:
    unit = UnitKey((node.name,))
    place = Place(scope, node.name, unit)
    outcome = yield Record(
        unit=unit,
        kind="route_decided",
        compute=partial(key_of, place, node),
    )
    key = str(scope.codec.decode(_payload(node.name, outcome)))
    branch = node.branch(key)
    if branch is None:
        raise nondeterminism(
            scope.run.run_id, unit, recorded=f"the route key {key!r}", asked="no branch for it"
        )
    if branch is SKIP:
        return NoValue()
    name, work = branch
    below = unit.child(name)
    outcome = yield _call(UnitScope(scope, node.name, below, work, own=node.name), work)
    return UnitValue(below, _payload(node.name, outcome), work.result_type)


def _loop(scope: RunScope, node: LoopNode) -> Asks:
    unit = UnitKey((node.name,))
    carried = Carried(scope.run.input, scope.input_type)
    if node.initial is not RUN_INPUT:
        place = Place(scope, node.name, unit)
        outcome = yield Record(
            unit=unit,
            kind="value_recorded",
            compute=partial(first_value_of, place, node),
        )
        carried = Carried(_payload(node.name, outcome), node.initial_type)
    next_type = list_of(node.value_type)
    payloads: list[Payload] = []
    while True:
        n = len(payloads)
        below = unit.child(n)
        outcome = yield _call(
            UnitScope(scope, node.name, below, node.work, index=n, carried=carried),
            node.work,
            conclude=partial(verdict_of, scope, node, n + 1, next_type),
        )
        payloads.append(_payload(node.name, outcome))
        verdict = outcome.verdict if isinstance(outcome, Completed) else None
        if verdict is None:
            raise nondeterminism(
                scope.run.run_id, below, recorded="a result alone", asked="a loop's verdict too"
            )
        if isinstance(verdict, Failure):
            raise StepFailed(node.name, verdict)
        if verdict == STOP:
            break
        if verdict != SAME:
            carried = Carried(verdict, next_type, boxed=True)
    if node.collect:
        return ListValue(unit, tuple(payloads), node.work.result_type)
    return UnitValue(below, payloads[-1], node.work.result_type)


def _sleep(scope: RunScope, node: SleepNode) -> Asks:
    unit = UnitKey((node.name,))
    place = Place(scope, node.name, unit)
    outcome = yield Timer(unit=unit, due=partial(due_ms_of, place, node))
    _payload(node.name, outcome)
    return None


def _wait(scope: RunScope, node: SignalNode) -> Asks:
    unit = UnitKey((node.name,))
    place = Place(scope, node.name, unit)
    outcome = yield Wait(
        unit=unit,
        signal=partial(signal_of, place, node),
        timeout_ms=node.timeout_ms,
        may_time_out=node.may_time_out,
        accept=None if node.type is ANY else partial(refusal_of, scope, node),
    )
    value: Value
    if isinstance(outcome, TimedOut):
        value = NoValue()
    else:
        value = UnitValue(unit, _payload(node.name, outcome), node.type)
    if isinstance(node.signal, str):
        scope.signals = scope.signals or {}
        scope.signals[node.signal] = (len(scope.book), value)
    return value


def _child(plan: Plan, scope: RunScope, node: ChildNode) -> Asks:
    unit = UnitKey((node.name,))
    child, compensable = plan.children[node.name]
    undo = Undo(child=True) if compensable else None
    place = Place(scope, node.name, unit)
    if node.undo is not None:
        undo = _undo(
            UnitScope(
                scope,
                node.name,
                unit,
                None,
                undo=node.undo,
                result_type=node.result_type,
                own=node.name,
            ),
            node.undo,
        )
    outcome = yield Child(
        unit=unit,
        begin=partial(child_of, place, node, child),
        undo=undo,
    )
    return UnitValue(unit, _payload(node.name, outcome), node.result_type)


# --- parts -------------------------------------------------------------------------------------


def _call(
    scope: UnitScope,
    work: Work,
    *,
    transactional: bool = False,
    conclude: Callable[[Payload], Payload | Failure] | None = None,
) -> Call:
    return Call(
        unit=scope.unit,
        handler=work.handler,
        scope=scope,
        retry=work.retry,
        timeout_ms=work.timeout_ms,
        undo=None if work.undo is None else _undo(scope, work.undo),
        transactional=transactional,
        conclude=conclude,
    )


def _undo(scope: UnitScope, undo: UndoWork) -> Undo:
    return Undo(handler=undo.handler, scope=scope, retry=undo.retry, timeout_ms=undo.timeout_ms)


def _payload(step: str, outcome: Outcome | None) -> Payload:
    return _done(step, _end(outcome))


def _end(outcome: Outcome | None) -> Payload | Failure:
    match outcome:
        case Completed():
            return outcome.payload
        case Failed():
            return outcome.failure
        case _:
            raise AssertionError(f"a step cannot come to {outcome!r}")


def _settled(outcome: Outcome | None) -> tuple[Outcome, ...]:
    assert isinstance(outcome, Settled), f"an All cannot come to {outcome!r}"
    return outcome.outcomes


def _done(step: str, end: T | Failure) -> T:
    """What was computed; a failure is raised as that of the step."""
    if isinstance(end, Failure):
        raise StepFailed(step, end)
    return end
