"""Names: which steps and signals there are to name, in a plan, a question, or a test.

A declared workflow has its names in its definition. A body of code has those that can be seen in
it (``references``), and whatever else a simulation comes to: it may make up a key as it runs. So
a name is wrong only if nothing in the body looks like it, and a simulation that is not cut short
never comes to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..errors import DurableError
from ..kernel import journal as j
from ..workflow.coded import CodedWorkflow
from ..workflow.registry import Registry
from .references import named_in, strings_in

GIVEN_UP = ("failed", "compensation_failed", "cancelled")


class UnknownUnitError(DurableError):
    """A plan names a step that there is none of."""


def step_of(unit: str) -> str:
    """The step of a unit: ``pick`` of ``undo pick/3``, ``search`` of ``search#2``."""
    return unit.removeprefix("undo ").split("/")[0].partition("#")[0]


def steps_of(registry: Registry) -> set[str]:
    """What the path of a unit can begin with, in any of the workflows, as far as it can be seen."""
    known: set[str] = set()
    for definition in registry:
        known.update(link.step for link in definition.children)
        if isinstance(definition, CodedWorkflow):
            known.update(named_in(definition))
        for node in getattr(definition, "nodes", ()):
            known.add(node.name)
            known.update(name for name, _ in getattr(node, "entries", ()))
    return known


def signals_of(registry: Registry) -> set[str]:
    """The signals that declared workflows wait for."""
    nodes = [node for definition in registry for node in getattr(definition, "nodes", ())]
    return {node.signal for node in nodes if isinstance(getattr(node, "signal", None), str)}


def written_in(registry: Registry) -> set[str]:
    """Whatever bodies of code write out: it may be a key, or a signal."""
    return {
        text
        for definition in registry
        if isinstance(definition, CodedWorkflow)
        for text in strings_in(definition)
    }


def is_open(registry: Registry) -> bool:
    """Whether any of the workflows is a body of code."""
    return any(isinstance(definition, CodedWorkflow) for definition in registry)


def steps_seen(sim: Any) -> set[str]:
    """The steps that a simulation came to."""
    units = {str(entry.unit) for run in sim.runs for entry in sim.history(run)}
    return {step_of(unit) for unit in (*units, *(call.label for call in sim.world.calls)) if unit}


def signals_seen(sim: Any) -> set[str]:
    """The signals that a simulation waited for."""
    return {
        entry.signal
        for run_id in sim.runs
        for entry in sim.history(run_id)
        if isinstance(entry, j.SignalAwaited)
    }


class Names:
    """Checks the names in a plan and of signals, before a simulation, and, where bodies of code
    may come to more than can be seen in them, after it."""

    def __init__(self, registry: Registry, workflow: str, units: Iterable[tuple[Any, str]],
                 signals: Iterable[str]) -> None:  # fmt: skip
        """``units``: of the faults of a plan, each with its fault."""
        self._workflow = workflow
        self._open = is_open(registry)
        written = written_in(registry)
        self._steps, self._signals = steps_of(registry), signals_of(registry)
        self._units = [one for one in units if step_of(one[1]) not in self._steps | written]
        self._sent = [name for name in signals if name not in self._signals | written]

    def before(self) -> None:
        """Raises ``DurableError`` for what can be seen to be wrong."""
        if not self._open:
            self._refuse(self._steps, self._signals)

    def after(self, sim: Any, quiet: Callable[[], Any]) -> None:
        """The same, by what this simulation came to, or a quiet one."""
        looks: tuple[Callable[[], Any], ...] = (lambda: sim, quiet)
        for look in looks:
            if not self._units and not self._sent:
                return
            seen = look()
            if seen.status in GIVEN_UP:
                return  # who knows what it would have come to
            steps, signals = self._steps | steps_seen(seen), self._signals | signals_seen(seen)
            self._units = [one for one in self._units if step_of(one[1]) not in steps]
            self._sent = [name for name in self._sent if name not in signals]
        self._refuse(steps, signals)

    def _refuse(self, steps: set[str], signals: set[str]) -> None:
        for fault, unit in self._units:
            raise UnknownUnitError(
                f"{fault!r} names unit {unit!r}, but no step is called {step_of(unit)!r}; there "
                f"are {', '.join(sorted(steps)) or 'none'}"
            )
        for name in self._sent:
            raise DurableError(
                f"workflow {self._workflow!r} never waits for a signal {name!r}; it waits for "
                f"{', '.join(sorted(map(repr, signals))) or 'none'}"
            )
