"""Mentions: which steps, workflows and classes a body names in its code, without running it.

What a body will call is not known before it runs. But what it can call it mostly names, as a
global, in a closure, or as the attribute of a module; the functions it names are looked through
too. So child workflows are registered with their parents, and values are read by the types of
the steps that gave them, and a signal may hold the classes that the body waits for. What is not
found here must be listed, or is read untyped.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

from .registry import is_definition
from .steps import Step

MOST_FUNCTIONS = 200
"""How many functions are looked through, so that a body may name a whole library."""


def mentioned(body: Callable[..., Any]) -> list[Any]:
    """The steps, workflows and classes, each once, in the order in which they are named first."""
    found: dict[int, Any] = {}
    todo: list[Any] = [body]
    seen: set[int] = set()
    while todo and len(seen) < MOST_FUNCTIONS:
        function = todo.pop(0)
        if id(function) in seen:
            continue
        seen.add(id(function))
        for value in _named(function):
            if isinstance(value, Step | type) or is_definition(value):
                found.setdefault(id(value), value)
            elif isinstance(value, types.FunctionType) and value.__module__ == body.__module__:
                todo.append(value)
    return list(found.values())


def _named(function: Any) -> Iterator[Any]:
    """The values of the names in a function's code, as far as they have one now."""
    if not isinstance(function, types.FunctionType):
        return
    names = function.__globals__
    cells: dict[str, Any] = {}
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            cells[name] = cell.cell_contents
        except ValueError:
            continue  # not bound yet
    codes = [code]
    while codes:
        one = codes.pop(0)
        codes += [const for const in one.co_consts if isinstance(const, types.CodeType)]
        for name in (*one.co_names, *one.co_freevars):
            value = cells.get(name, names.get(name))
            yield value
            if isinstance(value, types.ModuleType):
                yield from (vars(value).get(other) for other in one.co_names)
