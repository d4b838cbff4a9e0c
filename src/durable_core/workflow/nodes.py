"""Nodes: the steps of a declared workflow, as frozen data; one class a kind.

A node holds what the author said, checked and in one form (durations in ms, handlers as
``Work``). It knows what its units' values are annotated to be, and nothing about running.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, Final, Literal, assert_never

import attrs

from ..codec.types import ANY
from ..kernel.policy import Duration, Retry
from .callables import (
    Function,
    element_type,
    is_async,
    list_of,
    one_of,
    parameter_type,
    result_type,
    says_all,
    typed_map,
)
from .context import StepContext
from .loose import is_untyped

Handler = Callable[[StepContext[Any, Any]], object]


class Skip(enum.Enum):
    """The type of ``SKIP``."""

    SKIP = "skip"


SKIP: Final = Skip.SKIP
"""``otherwise=SKIP``: a route without a branch for the key does nothing; its result is None."""


class Missing(enum.Enum):
    """The type of ``RUN_INPUT``."""

    RUN_INPUT = "the run's input"


RUN_INPUT: Final = Missing.RUN_INPUT
"""The default of ``initial=`` and ``input=``: the run's own input."""


# --- what the author writes ------------------------------------------------------------------


@attrs.frozen(slots=True)
class Undo:
    """A compensator with policies of its own: ``compensate=Undo(release, retry=..., timeout=...)``.

    Without a ``retry`` it has five attempts.
    """

    handler: Handler
    retry: Retry | None = attrs.field(default=None, kw_only=True)
    timeout: Duration | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(slots=True)
class Branch:
    """An entry of a parallel or a route with policies of its own."""

    handler: Handler
    compensate: Handler | Undo | None = attrs.field(default=None, kw_only=True)
    retry: Retry | None = attrs.field(default=None, kw_only=True)
    timeout: Duration | None = attrs.field(default=None, kw_only=True)


# --- checked work ------------------------------------------------------------------------------


@attrs.frozen(slots=True, kw_only=True)
class UndoWork:
    """A compensator, checked."""

    handler: Function
    retry: Retry
    timeout_ms: int | None

    @cached_property
    def is_async(self) -> bool:
        """Whether it is called on the event loop."""
        return is_async(self.handler)

    @cached_property
    def says_all(self) -> bool:
        """Whether everything it may give is annotated."""
        return says_all(self.handler)


@attrs.frozen(slots=True, kw_only=True)
class Work:
    """A handler with its policies, checked; ``takes``: how many arguments it is called with."""

    handler: Function
    takes: int = 1
    retry: Retry
    timeout_ms: int | None
    undo: UndoWork | None

    @cached_property
    def is_async(self) -> bool:
        """Whether it is called on the event loop."""
        return is_async(self.handler)

    @cached_property
    def result_type(self) -> Any:
        """What it is annotated to give, or ``ANY``."""
        return result_type(self.handler)

    @cached_property
    def says_all(self) -> bool:
        """Whether everything it may give is annotated."""
        return says_all(self.handler)

    @cached_property
    def second_type(self) -> Any:
        """The annotation of the second parameter, if it is handed one."""
        return parameter_type(self.handler, 1) if self.takes > 1 else ANY


# --- nodes -----------------------------------------------------------------------------------


@attrs.frozen(slots=True, kw_only=True)
class StepNode:
    """One handler, one unit."""

    kind: ClassVar[str] = "step"
    name: str
    work: Work
    transactional: bool = False


@attrs.frozen(slots=True, kw_only=True)
class ParallelNode:
    """Named entries that run at once; one unit each."""

    kind: ClassVar[str] = "parallel"
    name: str
    entries: tuple[tuple[str, Work], ...]
    max_concurrency: int | None = None


@attrs.frozen(slots=True, kw_only=True)
class MapNode:
    """One handler over a list computed once; one unit an item."""

    kind: ClassVar[str] = "map"
    name: str
    items: Function
    work: Work
    max_concurrency: int | None = None
    min_success: int | None = None

    @cached_property
    def item_type(self) -> Any:
        """What an item is annotated to be: by the handler's parameter, else by ``items``."""
        if self.work.second_type is not ANY:
            return self.work.second_type
        return element_type(result_type(self.items))


@attrs.frozen(slots=True, kw_only=True)
class RouteNode:
    """One branch out of several, chosen once."""

    kind: ClassVar[str] = "route"
    name: str
    select: Function
    branches: tuple[tuple[str, Work], ...]
    otherwise: Work | Skip | None = None

    OTHERWISE: ClassVar[str] = "otherwise"

    def branch(self, key: str) -> tuple[str, Work] | Skip | None:
        """The branch for this key by its name, ``SKIP``, or None if it is unknown."""
        for name, work in self.branches:
            if name == key:
                return name, work
        if isinstance(self.otherwise, Work):
            return self.OTHERWISE, self.otherwise
        return self.otherwise

    @property
    def all_branches(self) -> tuple[tuple[str, Work], ...]:
        """The branches, ``otherwise`` among them."""
        if isinstance(self.otherwise, Work):
            return (*self.branches, (self.OTHERWISE, self.otherwise))
        return self.branches


@attrs.frozen(slots=True, kw_only=True)
class LoopNode:
    """One handler again and again, each time with a value made from the last result."""

    kind: ClassVar[str] = "loop"
    name: str
    work: Work
    initial: object = RUN_INPUT
    until: Function | None = None
    until_takes: int = 2
    feedback: Function | None = None
    max_iterations: int
    collect: bool = False
    on_exhausted: Literal["return", "fail"] = "return"

    @cached_property
    def value_type(self) -> Any:
        """What the value is annotated to be: by the handler's parameter, else by its makers."""
        if self.work.second_type is not ANY:
            return self.work.second_type
        return ANY if self.feedback is None else result_type(self.feedback)

    @cached_property
    def initial_type(self) -> Any:
        """What the first value is annotated to be."""
        if self.work.second_type is not ANY or not callable(self.initial):
            return self.work.second_type
        return result_type(self.initial)


@attrs.frozen(slots=True, kw_only=True)
class SleepNode:
    """A durable wait for a time: ms from its begin, a moment, or a function giving either."""

    kind: ClassVar[str] = "sleep"
    name: str
    duration: int | datetime | Function


@attrs.frozen(slots=True, kw_only=True)
class SignalNode:
    """A durable wait for a named message."""

    kind: ClassVar[str] = "signal"
    name: str
    signal: str | Function
    type: Any = ANY
    timeout_ms: int | None = None
    may_time_out: bool = False


@attrs.frozen(slots=True, kw_only=True)
class ChildNode:
    """A child run: of this definition, or of the workflow of this name."""

    kind: ClassVar[str] = "child"
    name: str
    workflow: Any
    input: object = RUN_INPUT
    undo: UndoWork | None = None

    @property
    def workflow_name(self) -> str:
        """The name of the child's workflow."""
        return self.workflow if isinstance(self.workflow, str) else str(self.workflow.name)

    @property
    def result_type(self) -> Any:
        """What the child is annotated to give; of a mere name that is not known."""
        type_ = ANY if isinstance(self.workflow, str) else self.workflow.result_type
        return ANY if is_untyped(type_) else type_


Node = StepNode | ParallelNode | MapNode | RouteNode | LoopNode | SleepNode | SignalNode | ChildNode


def entries_of(node: Node) -> tuple[str, ...]:
    """What a definition's fingerprint covers of a node besides its kind and name."""
    match node:
        case ParallelNode():
            return tuple(sorted(name for name, _ in node.entries))
        case RouteNode():
            return tuple(sorted(name for name, _ in node.all_branches))
        case ChildNode():
            return (node.workflow_name,)
        case _:
            return ()


def works_of(node: Node) -> tuple[tuple[str | None, Work], ...]:
    """The handlers of a node: by entry or branch, or under None."""
    match node:
        case StepNode() | MapNode() | LoopNode():
            return ((None, node.work),)
        case ParallelNode():
            return node.entries
        case RouteNode():
            return node.all_branches
        case _:
            return ()


def annotations_of(node: Node) -> list[Any]:
    """Everything that is annotated in a node: what its functions give and take."""
    found = [type_ for _, work in works_of(node) for type_ in (work.result_type, work.second_type)]
    match node:
        case MapNode():
            found += [node.item_type, result_type(node.items)]
        case LoopNode():
            found += [node.value_type, node.initial_type]
            found += [] if node.feedback is None else [result_type(node.feedback)]
        case SignalNode():
            found.append(node.type)
        case ChildNode() if not isinstance(node.workflow, str):
            found += [node.workflow.input_type, node.result_type]
        case _:
            pass
    return found


def value_type(node: Node) -> Any:
    """The type of a node's result inside the map of results, or ``ANY``."""
    match node:
        case StepNode():
            return node.work.result_type
        case ParallelNode():
            return typed_map({entry: work.result_type for entry, work in node.entries})
        case MapNode():
            return ANY if node.min_success is not None else list_of(node.work.result_type)
        case LoopNode():
            return list_of(node.work.result_type) if node.collect else node.work.result_type
        case RouteNode():
            types = [work.result_type for _, work in node.all_branches]
            return one_of(types, optional=node.otherwise is SKIP)
        case SignalNode():
            return one_of([node.type], optional=node.may_time_out)
        case ChildNode():
            return node.result_type
        case SleepNode():
            return ANY
        case _:
            assert_never(node)
