"""Workflow: a declared workflow as frozen data, and what the engine asks of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, Self, TypeVar, overload

import attrs

from ..codec.types import ANY
from ..kernel.ids import UnitKey
from ..kernel.program import ProgramFactory
from .builder import Builder, InputT
from .callables import Function, check_pure, list_of, result_type, typed_map
from .checks import Spot, check_workflow
from .context import StepContext
from .diagram import Graph, graph_of, to_mermaid
from .known import Known, known_classes
from .loose import Loose, codec_of
from .lower import Plan, program_factory
from .names import refuse
from .nodes import (
    ChildNode,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    SignalNode,
    SleepNode,
    StepNode,
    annotations_of,
    entries_of,
    value_type,
    works_of,
)
from .registry import ChildLink, Definition, Lowering, Registry

ResultT = TypeVar("ResultT")
NewResultT = TypeVar("NewResultT")


@attrs.frozen(slots=True, init=False)
class Workflow(Builder[InputT], Generic[InputT, ResultT]):
    """A workflow: a name, a version, the type of its input, and its steps in order.

    ``Workflow("checkout", input=Cart).step(...).route(...)``; each call gives a new workflow.
    A wrong definition raises ``DefinitionError`` at once. Without ``returns`` a run's result is
    the map of the results of its steps.
    """

    name: str
    version: str
    input_type: Any
    nodes: tuple[Node, ...]
    returned: Function | None
    """The function given to ``returns``."""

    @overload
    def __init__(self: Workflow[Any, dict[str, Any]], name: str, *, version: str = "1") -> None: ...
    @overload
    def __init__(
        self: Workflow[InputT, dict[str, Any]],
        name: str,
        *,
        input: type[InputT],
        version: str = "1",
    ) -> None: ...
    @overload
    def __init__(
        self: Workflow[Any, dict[str, Any]], name: str, *, input: object, version: str = "1"
    ) -> None: ...
    def __init__(self, name: str, *, input: Any = ANY, version: str = "1") -> None:
        check_workflow(name, version, input)
        self.__attrs_init__(name, version, input, (), None)

    def __hash__(self) -> int:
        return hash((self.name, self.version, self.fingerprint))

    def __repr__(self) -> str:
        steps = ", ".join(f"{node.kind} {node.name}" for node in self.nodes)
        return f"<Workflow {self.name!r} version {self.version!r}: {steps or 'no steps'}>"

    def returns(
        self, fn: Callable[[StepContext[Any, InputT]], NewResultT]
    ) -> Workflow[InputT, NewResultT]:
        """The run's result is ``fn(ctx)``, called once when every step is done."""
        where = f"workflow {self.name!r}, returns"
        if self.returned is not None:
            refuse(where, "is said twice; keep one")
        check_pure(fn, what="the function", where=where)
        changed: Workflow[InputT, NewResultT] = Workflow.__new__(Workflow)
        self._fill(changed, self.nodes, fn)
        return changed

    def graph(self) -> Graph:
        """Its steps and what follows what, as data."""
        return graph_of(self.name, self.version, self.nodes)

    def to_mermaid(self) -> str:
        """Its steps as the text of a Mermaid flowchart; steps that a rollback undoes are dashed."""
        return to_mermaid(self.graph())

    # --- what the engine asks ------------------------------------------------------------------

    @cached_property
    def fingerprint(self) -> str:
        """Hash over kinds and names of steps, their entries, and children's workflow names."""
        steps = [[node.kind, node.name, *entries_of(node)] for node in self.nodes]
        text = json.dumps(steps, ensure_ascii=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()

    @cached_property
    def result_type(self) -> Any:
        """What ``returns`` is annotated to give, else the map of the steps' types, or ``ANY``.

        Where nobody says it and there are known classes, it is ``Loose``.
        """
        if self.returned is not None:
            return self._or_loose(result_type(self.returned))
        return typed_map(
            {node.name: value_type(node) for node in self.nodes if not isinstance(node, SleepNode)}
        )

    @property
    def compensable(self) -> bool:
        """Whether any of its own units has a compensator."""
        return any(
            (isinstance(node, ChildNode) and node.undo is not None)
            or any(work.undo is not None for _, work in works_of(node))
            for node in self.nodes
        )

    @property
    def children(self) -> tuple[ChildLink, ...]:
        """The child workflows it starts, by step."""
        return tuple(
            ChildLink(node.name, node.workflow)
            for node in self.nodes
            if isinstance(node, ChildNode)
        )

    def program(self, services: Lowering) -> ProgramFactory:
        """Lower it: what the kernel drives."""
        registry = services.registry
        children: dict[str, tuple[Definition, bool]] = {}
        for link in self.children:
            child = registry.child(link)
            children[link.step] = (child, registry.compensable(child))
        return program_factory(
            Plan(
                nodes=self.nodes,
                returns=self.returned,
                input_type=self.input_type,
                result_type=self.result_type,
                codec=codec_of(self, services.codec),
                children=children,
                handlers=self._handlers(),
            )
        )

    def unit_type(self, unit: UnitKey) -> Any:
        """The annotated type of this unit's value, or ``ANY`` (``Loose`` with known classes)."""
        types = self._unit_types
        found = types.get(unit, ANY)
        if found is ANY and len(unit) == 2:
            found = types.get((unit[0], ""), ANY)
        return self._or_loose(found)

    def signal_type(self, signal: str) -> Any:
        """The type of this signal's payload, where every wait for it says the same."""
        types = [
            node.type
            for node in self.nodes
            if isinstance(node, SignalNode) and node.signal == signal
        ]
        return types[0] if types and all(one == types[0] for one in types) else ANY

    @cached_property
    def known_classes(self) -> Known:
        """The classes its annotations lead to, its children's included, by their labels.

        They may stand in values without an annotation; see ``loose.py``.
        """
        found: list[Any] = [self.input_type]
        if self.returned is not None:
            found.append(result_type(self.returned))
        for node in self.nodes:
            found += annotations_of(node)
            if isinstance(node, ChildNode):
                found += getattr(node.workflow, "known_classes", {}).values()
        return known_classes(found)

    # --- inside --------------------------------------------------------------------------------

    @cached_property
    def _loose(self) -> Any:
        return Loose(self.known_classes) if self.known_classes else ANY

    def _or_loose(self, type_: Any) -> Any:
        return self._loose if type_ is ANY else type_

    @cached_property
    def _unit_types(self) -> dict[tuple[str, ...], Any]:
        """Types by path; ``(step, "")`` stands for all items or iterations of a step."""
        types: dict[tuple[str, ...], Any] = {}
        for node in self.nodes:
            match node:
                case StepNode():
                    types[(node.name,)] = node.work.result_type
                case SignalNode():
                    types[(node.name,)] = node.type
                case ChildNode():
                    types[(node.name,)] = node.result_type
                case MapNode():
                    types[(node.name,)] = list_of(node.item_type)
                    types[(node.name, "")] = node.work.result_type
                case LoopNode():
                    types[(node.name,)] = node.initial_type
                    types[(node.name, "")] = node.work.result_type
                case ParallelNode() | RouteNode():
                    for entry, work in works_of(node):
                        types[(node.name, str(entry))] = work.result_type
                case _:
                    pass
        return types

    def _handlers(self) -> dict[str, tuple[object, ...]]:
        handlers: dict[str, tuple[object, ...]] = {}
        for node in self.nodes:
            if isinstance(node, ParallelNode):
                handlers |= {entry: (work.handler,) for entry, work in node.entries}
            else:
                handlers[node.name] = tuple(work.handler for _, work in works_of(node))
        return handlers

    def _with(self, node: Node) -> Self:
        changed = type(self).__new__(type(self))
        self._fill(changed, (*self.nodes, node), self.returned)
        return changed

    def _fill(
        self, other: Workflow[Any, Any], nodes: tuple[Node, ...], returned: Function | None
    ) -> None:
        """Make ``other`` this workflow with these nodes; everything was checked already."""
        other.__attrs_init__(self.name, self.version, self.input_type, nodes, returned)

    def _spot(self, step: object) -> Spot:
        return Spot.of(self.name, step, self._taken())

    def _taken(self) -> frozenset[str]:
        names = {node.name for node in self.nodes}
        for node in self.nodes:
            if isinstance(node, ParallelNode):
                names.update(entry for entry, _ in node.entries)
        return frozenset(names)


__all__ = ["Definition", "Lowering", "Registry", "Workflow"]
