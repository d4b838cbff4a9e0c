"""Memory of processes: what a workflow's functions keep in variables outside of themselves.

All simulated processes share the variables of the one real process, where a process that dies
really loses them. So a search makes a simulation in which they are lost, and compares.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..workflow.registry import Definition
from .references import CONTAINERS, Variable, kept_outside, reached, uses_of


class Memory:
    """The variables that functions of these workflows change; those that ``instruments`` use
    are the test's own, and no memory."""

    def __init__(self, workflows: Iterable[Definition], instruments: Iterable[Any] = ()) -> None:
        spared = {
            use.variable
            for instrument in instruments
            for part in (instrument, *_methods(instrument))
            for function in reached(part)
            for use in uses_of(function)
        }
        self.variables = tuple(
            variable for variable in kept_outside(workflows) if variable not in spared
        )
        self._at_first = self._content()
        self._before = self._at_first

    @property
    def names(self) -> str:
        """The variables' names."""
        return ", ".join(dict.fromkeys(variable.name for variable in self.variables))

    def __enter__(self) -> Memory:
        self._before = self._content()
        return self

    def __exit__(self, *_: object) -> None:
        self._fill(self._before)

    def forget(self) -> None:
        """Everything is as it was when this was made."""
        self._fill(self._at_first)

    def _content(self) -> list[tuple[Variable, Any, Any]]:
        content = []
        for variable in self.variables:
            try:
                value = variable.get()
            except LookupError:
                continue
            content.append((variable, value, _copy(value)))
        return content

    def _fill(self, content: list[tuple[Variable, Any, Any]]) -> None:
        for variable, value, kept in content:
            if isinstance(value, CONTAINERS):
                _refill(value, _copy(kept))
            variable.set(value)


def _copy(value: Any) -> Any:
    """A copy of containers and of the containers in them; anything else stays what it is."""
    match value:
        case dict():
            copied = value.copy()
            for key, member in value.items():
                copied[key] = _copy(member)
            return copied
        case list():
            return [_copy(member) for member in value]
        case _ if isinstance(value, CONTAINERS):
            return value.copy()
        case _:
            return value


def _refill(value: Any, kept: Any) -> None:
    value.clear()
    if isinstance(value, dict):
        for key, member in kept.items():
            value[key] = member
    elif isinstance(value, set):
        value.update(kept)
    else:
        value.extend(kept)


def _methods(instrument: Any) -> tuple[Any, ...]:
    return tuple(vars(instrument).values()) if isinstance(instrument, type) else ()
