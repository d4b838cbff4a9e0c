"""Alike: whether two values are the same to whoever looks at them, and where one holds another."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

SIMPLE = (str, int, float, bytes, type(None))
LOOKED_AT_MAX = 10_000
"""So many members are looked at for one that a value may hold."""


def alike(one: Any, other: Any) -> bool:
    """Equal; objects of one class are compared by their fields. What has no fields and no
    equality of its own is taken for alike: nobody can tell."""
    if isinstance(one, SIMPLE):
        return _equal(one, other)
    match one, other:
        case (list(), list()) | (tuple(), tuple()):
            return len(one) == len(other) and all(map(alike, one, other))
        case (Mapping(), Mapping()):
            return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
        case _:
            pass
    names = fields_of(one)
    if names is not None and type(one) is type(other):
        return all(alike(getattr(one, name, None), getattr(other, name, None)) for name in names)
    if type(one) is type(other) and "__eq__" not in _methods(one):
        return True
    return _equal(one, other)


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) or (one != one and other != other)  # noqa: PLR0124  # NaN


def _methods(value: Any) -> set[str]:
    """What its class has, and ``object`` not."""
    return {name for kind in type(value).__mro__[:-1] for name in vars(kind)}


def fields_of(value: Any) -> tuple[str, ...] | None:
    """The names of its fields, if its class declares any."""
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if attrs.has(kind):
        return tuple(field.name for field in attrs.fields(kind))
    for declared in ("model_fields", "__struct_fields__"):  # pydantic, msgspec
        names = getattr(kind, declared, None)
        if isinstance(names, dict | tuple):
            return tuple(names)
    return None


def holds(value: Any, part: Any) -> bool:
    """Whether ``part`` itself is ``value``, or somewhere in it."""
    todo, left = [value], LOOKED_AT_MAX
    while todo and left:
        current, left = todo.pop(), left - 1
        if current is part:
            return True
        todo += _members(current)
    return False


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, list | tuple):
        return value
    return [getattr(value, name, None) for name in fields_of(value) or ()]


def shown(value: Any) -> str:
    """Its text, cut short."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__}: {error}>"
    return text if len(text) <= 120 else f"{text[:117]}..."
