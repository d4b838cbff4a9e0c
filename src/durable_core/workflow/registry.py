"""Registry: the definitions an engine knows, by name and version.

``Definition`` is all that the registry and the engine know of a workflow, however it was
written. Rules: one definition a name and version; children come with their parents; the latest
version of a name is the one listed last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import attrs

from ..codec.payload import Codec
from ..errors import DefinitionError, WorkflowNotRegisteredError
from ..kernel.ids import UnitKey, derived_id
from ..kernel.program import ProgramFactory
from ..kernel.run import RunContext
from ..kernel.shown import shown
from ..kernel.value import Payload
from .lent import Hidden, Log, plainly, unheard


@attrs.frozen(slots=True)
class ChildLink:
    """A step that starts child runs, and the workflow: a definition, or a name."""

    step: str
    workflow: Definition | str


class Definition(Protocol):
    """A workflow as everybody but its front end sees it."""

    @property
    def name(self) -> str:
        """The workflow's name."""
        ...

    @property
    def version(self) -> str:
        """Its version; every run is executed by its own."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal for definitions that ask for the same steps."""
        ...

    @property
    def input_type(self) -> Any:
        """The type of a run's input, or ``ANY``."""
        ...

    @property
    def result_type(self) -> Any:
        """The type of a result that is one payload, or ``ANY``; read it by ``loose.decode``."""
        ...

    @property
    def compensable(self) -> bool:
        """Whether any of its own units can have a compensator (children's not counted)."""
        ...

    @property
    def children(self) -> tuple[ChildLink, ...]:
        """The child workflows it is known to start."""
        ...

    def program(self, services: Lowering) -> ProgramFactory:
        """What the kernel drives. Made once an engine."""
        ...

    def unit_type(self, unit: UnitKey) -> Any:
        """The type of a unit's value, or ``ANY``; read it by ``loose.decode``."""
        ...

    def signal_type(self, signal: str) -> Any:
        """The type of this signal's payload where all waits for it agree, or ``ANY``."""
        ...


def is_definition(candidate: object) -> bool:
    """Whether this looks like a workflow, and not like its class.

    The class is asked first: to look at a body's children is to look through its code, which
    asks this of whatever it names, perhaps of the same workflow.
    """
    return not isinstance(candidate, type) and all(
        hasattr(type(candidate), attribute) or hasattr(candidate, attribute)
        for attribute in ("name", "version", "fingerprint", "input_type", "children", "program")
    )


class Registry:
    """The workflows of an engine; complete and checked when it is made."""

    def __init__(self, workflows: Iterable[Definition]) -> None:
        """Raises ``DefinitionError`` for what is no workflow, for two different definitions of
        one name and version, and for a child that is not there."""
        self._versions: dict[str, dict[str, Definition]] = {}
        self._latest: dict[str, Definition] = {}
        listed = list(workflows)
        for definition in listed:
            self._add(definition)
            self._latest[definition.name] = definition
        for definition in listed:
            self._add_children(definition)
        for definition in self:
            for link in definition.children:
                self._check_link(definition, link)

    def __iter__(self) -> Iterator[Definition]:
        for versions in self._versions.values():
            yield from versions.values()

    def __len__(self) -> int:
        return sum(len(versions) for versions in self._versions.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all workflows, sorted."""
        return tuple(sorted(self._versions))

    def latest(self, name: str) -> Definition:
        """The version listed last. Raises ``WorkflowNotRegisteredError``."""
        found = self._latest.get(name)
        if found is None:
            raise self._unknown(f"workflow {name!r}")
        return found

    def get(self, name: str, version: str) -> Definition:
        """This version. Raises ``WorkflowNotRegisteredError``."""
        found = self.find(name, version)
        if found is None:
            raise self._unknown(f"version {version!r} of workflow {name!r}")
        return found

    def find(self, name: str, version: str) -> Definition | None:
        """This version, or None."""
        return self._versions.get(name, {}).get(version)

    def child(self, link: ChildLink) -> Definition:
        """The definition a child run of this step is started with."""
        if isinstance(link.workflow, str):
            return self.latest(link.workflow)
        return self.get(link.workflow.name, link.workflow.version)

    def compensable(self, definition: Definition) -> bool:
        """Whether rolling back a completed run of it can undo anything, its children's included."""
        seen: set[tuple[str, str]] = set()
        todo = [definition]
        while todo:
            one = todo.pop()
            if (one.name, one.version) in seen:
                continue
            seen.add((one.name, one.version))
            if one.compensable:
                return True
            todo += [self.child(link) for link in one.children]
        return False

    # --- filling it ----------------------------------------------------------------------------

    def _add(self, definition: Definition) -> None:
        if not is_definition(definition):
            raise DefinitionError(
                f"{shown(definition)} is not a workflow; list Workflow objects (or functions made "
                f"workflows by @workflow), not {type(definition).__name__}"
            )
        versions = self._versions.setdefault(definition.name, {})
        known = versions.setdefault(definition.version, definition)
        if known is not definition and known != definition:
            raise DefinitionError(
                f"workflow {definition.name!r} is defined twice, differently, with version "
                f"{definition.version!r}; give the changed one another version, "
                f"or another name if they are different workflows"
            )

    def _add_children(self, parent: Definition) -> None:
        todo = [parent]
        seen: set[int] = set()
        while todo:
            for link in todo.pop().children:
                child = link.workflow
                if isinstance(child, str) or id(child) in seen:
                    continue
                seen.add(id(child))
                self._add(child)
                self._latest.setdefault(child.name, child)
                todo.append(child)

    def _check_link(self, definition: Definition, link: ChildLink) -> None:
        if isinstance(link.workflow, str) and link.workflow not in self._latest:
            raise DefinitionError(
                f"workflow {definition.name!r}, step {link.step!r}: there is no workflow "
                f"{link.workflow!r} to be its child; list it beside its parent, or pass the "
                f"Workflow itself. Known are: {self._known()}"
            )

    def _unknown(self, what: str) -> WorkflowNotRegisteredError:
        return WorkflowNotRegisteredError(
            f"{what} is not registered; list it in Engine(..., workflows). "
            f"Known are: {self._known()}"
        )

    def _known(self) -> str:
        known = [f"{name} ({', '.join(self._versions[name])})" for name in sorted(self._versions)]
        return ", ".join(known) or "none"


@attrs.frozen(slots=True, kw_only=True)
class Lowering:
    """What a definition needs to become a program.

    The rest is for bodies of code: ``deps`` is what the engine's lifespan yielded, ``log`` makes
    the log of one run, told when it is to be silent, and ``hidden`` calls a function so that it
    finds no event loop.
    """

    codec: Codec
    registry: Registry
    deps: Any = None
    log: Callable[[RunContext, Callable[[], bool]], Log] = unheard
    hidden: Hidden = plainly


def input_digest(codec: Codec, workflow: str, payload: Payload) -> str:
    """Identifies a start: equal for an equal workflow name and an equal input."""
    return derived_id("input", workflow, codec.canonical(payload).decode("latin-1"))
