"""What a handler's annotation says it returns, or ``ANY`` where it says nothing we can use."""

from __future__ import annotations

import functools
import inspect
import operator
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Never, NoReturn, TypeVar, Union, get_args, get_origin

ANY: object = Any
"""The type of a value nobody annotated."""


def return_type(fn: Callable[..., Any], *, strip: tuple[type, ...] = ()) -> object:
    """The type of the value ``fn`` gives, awaited if need be.

    ``ANY`` when the annotation is missing, ``Any``, or names what cannot be resolved. Classes in
    ``strip`` (and their subclasses) are removed from unions; alone, they leave ``ANY``. Never
    raises.
    """
    try:
        return _return_type(fn, strip)
    except Exception:
        # Annotations are user code: a name that is not there, a lazy one that raises.
        return ANY


def _return_type(fn: Callable[..., Any], strip: tuple[type, ...]) -> object:
    fn = _underlying(fn)
    if isinstance(fn, type):
        return _strip(fn, strip)
    annotations = getattr(fn, "__annotations__", None) or {}
    if "return" not in annotations:
        return ANY
    found = _resolve(fn, annotations["return"])
    if not inspect.iscoroutinefunction(fn):
        found = _awaited(found)
    return _strip(found, strip)


def _underlying(fn: Any) -> Any:
    """The function (or class) whose annotation counts."""
    for _ in range(32):
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif inspect.ismethod(fn):
            fn = fn.__func__
        elif isinstance(fn, type) or inspect.isroutine(fn):
            return fn
        elif inspect.isfunction(getattr(fn, "__wrapped__", None)):  # functools.cache and the like
            fn = fn.__wrapped__
        else:
            fn = type(fn).__call__
    return fn


def _resolve(fn: Any, annotation: object) -> object:
    """Evaluate the return annotation only: a parameter that cannot be resolved is no concern."""
    wrapped = inspect.unwrap(fn)
    scope: dict[str, Any] = {
        name.__name__: name for name in getattr(wrapped, "__type_params__", ())
    }
    code = getattr(wrapped, "__code__", None)
    for name, cell in zip(
        getattr(code, "co_freevars", ()), getattr(wrapped, "__closure__", None) or (), strict=False
    ):
        try:
            scope[name] = cell.cell_contents
        except ValueError:
            continue  # a free variable that is not bound yet
    holder = types.SimpleNamespace(__annotations__={"return": annotation})
    hints = typing.get_type_hints(
        holder, getattr(wrapped, "__globals__", {}), scope, include_extras=True
    )
    return hints["return"]


def _awaited(found: object) -> object:
    origin = get_origin(found)
    if origin is None or not isinstance(origin, type):
        return ANY if found in (Awaitable, Coroutine) else found
    if issubclass(origin, Coroutine) or origin is Generator:
        return get_args(found)[2] if origin is not Generator else found
    if issubclass(origin, Awaitable):
        return get_args(found)[-1]
    return found


def _strip(found: object, strip: tuple[type, ...]) -> object:
    if found in (Any, NoReturn, Never, object) or isinstance(found, TypeVar):
        return ANY
    if _is_one_of(found, strip):
        return ANY
    if get_origin(found) not in (Union, types.UnionType):
        return found
    members = get_args(found)
    kept = tuple(member for member in members if not _is_one_of(member, strip))
    if any(member in (Any, object) for member in kept) or not kept:
        return ANY
    if len(kept) == len(members):
        return found
    return functools.reduce(operator.or_, kept)


def _is_one_of(found: object, classes: tuple[type, ...]) -> bool:
    bare = get_origin(found) or found
    return isinstance(bare, type) and issubclass(bare, classes) if classes else False
