"""Coded: a workflow whose body is code; what ``@workflow`` gives.

To everybody else it is a ``Workflow`` like a declared one: it is started, registered, simulated
and drawn alike. It has no nodes; what it will ask for is known when it runs.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Coroutine
from functools import cached_property
from typing import Any, Generic, NoReturn, Protocol, TypeVar, cast, overload

import attrs

from ..codec.types import ANY
from ..kernel.ids import UnitKey
from ..kernel.program import ProgramFactory
from .callables import Function, describe, is_async, parameter_type, result_type, takes
from .checks import check_workflow
from .coroutine import Body, BodyPlan, program_factory
from .definition import Workflow
from .diagram import Graph, graph_of_body
from .known import Known, known_classes
from .loose import codec_of
from .mentions import mentioned
from .names import refuse
from .nodes import Node
from .outline import outline_of
from .registry import ChildLink, Lowering
from .steps import Step
from .workflow_context import WorkflowContext

InputT = TypeVar("InputT")
ResultT = TypeVar("ResultT")


@attrs.frozen(slots=True, init=False)
class CodedWorkflow(Workflow[InputT, ResultT], Generic[InputT, ResultT]):
    """A workflow written as ``async def body(ctx, input)``."""

    body: Function = attrs.field(init=False)
    takes_input: bool = attrs.field(init=False)

    def __init__(
        self, name: str, body: Function, *, version: str, input_type: Any, takes_input: bool
    ) -> None:
        check_workflow(name, version, input_type)
        self.__attrs_init__(name, version, input_type, (), None)
        object.__setattr__(self, "body", body)
        object.__setattr__(self, "takes_input", takes_input)

    def __hash__(self) -> int:
        return hash((self.name, self.version, self.body))

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r} version {self.version!r}: async def {describe(self.body)}>"

    def graph(self) -> Graph:
        """What its code asks for, one after another as it stands there, as data."""
        undone = {
            one.key or one.name
            for one in self._mentioned
            if isinstance(one, Step) and one.work.undo is not None
        }
        return graph_of_body(self.name, self.version, outline_of(self.body), undone)

    # --- what the engine asks ------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """The same whatever the body says: only replay can tell whether a run still fits."""
        return hashlib.blake2b(b"async body", digest_size=16).hexdigest()

    @cached_property
    def result_type(self) -> Any:
        """What the body is annotated to give, or ``ANY``."""
        return self._or_loose(result_type(self.body))

    @property
    def compensable(self) -> bool:
        """Any step of it may have a compensator."""
        return True

    @cached_property
    def children(self) -> tuple[ChildLink, ...]:
        """The workflows that the body names; others must be listed beside it."""
        return tuple(ChildLink(found.name, found) for found in self._workflows)

    def program(self, services: Lowering) -> ProgramFactory:
        """Lower it: what the kernel drives."""
        body, takes_input = self.body, self.takes_input

        def begin(live: Body) -> Coroutine[Any, Any, Any]:
            ctx: WorkflowContext[Any] = WorkflowContext(live)
            args = (ctx, live.scope.read_input()) if takes_input else (ctx,)
            return cast("Coroutine[Any, Any, Any]", body(*args))

        return program_factory(
            BodyPlan(
                name=self.name,
                begin=begin,
                input_type=self.input_type,
                result_type=self.result_type,
                codec=codec_of(self, services.codec),
                services=services,
            )
        )

    def unit_type(self, unit: UnitKey) -> Any:
        """The type of the step or child of that key, if the body names it; else ``ANY``."""
        key = unit[0].partition("#")[0] if len(unit) == 1 else ""
        return self._or_loose(self._types.get(key, ANY))

    def signal_type(self, signal: str) -> Any:
        """Only the body knows, when it waits."""
        return ANY

    @cached_property
    def known_classes(self) -> Known:
        """The classes it names, and those that annotations lead to: its own, and of its steps."""
        found: list[Any] = [self.input_type, result_type(self.body), *self._types.values()]
        found += [one for one in self._mentioned if isinstance(one, type)]
        return known_classes([*found, *(one.input_type for one in self._workflows)])

    # --- inside --------------------------------------------------------------------------------

    @cached_property
    def _mentioned(self) -> list[Any]:
        return mentioned(self.body)

    @property
    def _workflows(self) -> list[Any]:
        return [
            one for one in self._mentioned if not isinstance(one, Step | type) and one is not self
        ]

    @cached_property
    def _types(self) -> dict[str, Any]:
        """By key. Of another body only the annotation counts: it may name this one in turn."""
        types: dict[str, Any] = {
            one.name: result_type(one.body) if isinstance(one, CodedWorkflow) else one.result_type
            for one in self._workflows
        }
        for one in self._mentioned:
            if isinstance(one, Step):
                types[one.key or one.name] = one.work.result_type
        return types

    def _with(self, node: Node) -> NoReturn:
        refuse(
            f"workflow {self.name!r}",
            f"its body is code, so it takes no declared steps; write `await ctx.step(...)` in "
            f"{describe(self.body)}, or declare another workflow",
        )

    def returns(self, fn: Any) -> NoReturn:
        """A body of code returns its result itself."""
        refuse(f"workflow {self.name!r}", "its body is code; return the result there")


class Workflows(Protocol):
    """``@workflow(...)``: makes an async function a workflow."""

    @overload
    def __call__(
        self, body: Callable[[WorkflowContext[Any]], Coroutine[Any, Any, ResultT]], /
    ) -> Workflow[None, ResultT]: ...
    @overload
    def __call__(
        self, body: Callable[[WorkflowContext[Any], InputT], Coroutine[Any, Any, ResultT]], /
    ) -> Workflow[InputT, ResultT]: ...
    def __call__(self, body: Any, /) -> Any: ...


@overload
def workflow(
    body: Callable[[WorkflowContext[Any]], Coroutine[Any, Any, ResultT]], /
) -> Workflow[None, ResultT]: ...
@overload
def workflow(
    body: Callable[[WorkflowContext[Any], InputT], Coroutine[Any, Any, ResultT]], /
) -> Workflow[InputT, ResultT]: ...
@overload
def workflow(
    *, name: str | None = None, version: str = "1", input: Any = ANY, deps: Any = ANY
) -> Workflows: ...
def workflow(
    body: Any = None,
    /,
    *,
    name: str | None = None,
    version: str = "1",
    input: Any = ANY,
    deps: Any = ANY,
) -> Any:
    """Make ``async def body(ctx, input)`` (or ``body(ctx)``) a workflow.

    ``name`` is the function's by default; ``input`` the type of the run's input, by default the
    annotation of the second parameter. ``deps`` says what ``ctx.deps`` is, for readers: the type
    is that of ``WorkflowContext[Deps]``. Raises ``DefinitionError``.
    """

    def make(body: Any) -> CodedWorkflow[Any, Any]:
        where = f"workflow {name or describe(body)!r}"
        if not callable(body):
            refuse(where, f"@workflow is put before a function, not {type(body).__name__}")
        if inspect.isasyncgenfunction(body) or inspect.isgeneratorfunction(body):
            refuse(
                where,
                "its body is a generator (it has a yield); await ctx.step(...) instead, and return "
                "the result",
            )
        if not is_async(body):
            refuse(where, "its body must be an `async def`, so that it can await its steps")
        has_input = takes(body, 2)
        if not has_input and not takes(body, 1):
            refuse(where, "its body must be callable with (ctx, input) or (ctx)")
        type_ = input
        if type_ is ANY and has_input:
            type_ = parameter_type(body, 1)
        return CodedWorkflow(
            describe(body).rpartition(".")[2] if name is None else name,
            body,
            version=version,
            input_type=type_ if has_input else type(None),
            takes_input=has_input,
        )

    return make if body is None else make(body)
