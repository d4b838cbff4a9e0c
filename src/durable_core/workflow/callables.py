"""Callables: what a user's function takes, whether it is async, and what it is annotated to give.

Functions, bound methods, ``functools.partial`` and callable objects all count. Looking is done
once, when a definition is built; ``call_purely`` then runs the synchronous ones (``select``,
``until``, ...) and turns whatever goes wrong into a value.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, Union, get_args, get_origin

from ..codec.types import ANY, return_type
from .names import refuse
from .suspend import Suspend

Function = Callable[..., Any]


def is_async(function: object) -> bool:
    """Whether calling it gives a coroutine."""
    return _shaped(function, inspect.iscoroutinefunction)


def takes(function: object, count: int) -> bool:
    """Whether it can be called with ``count`` positional arguments and nothing else."""
    try:
        signature = inspect.signature(function)  # type: ignore[arg-type]  # any callable
    except (TypeError, ValueError):
        return True  # a builtin that does not tell: it will be seen when it is called
    try:
        signature.bind(*(None,) * count)
    except TypeError:
        return False
    return True


def describe(function: object) -> str:
    """The name by which an error message can call it."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return str(name)


def check_handler(
    function: object, *, what: str, where: str, arities: Sequence[tuple[int, str]] = ((1, "ctx"),)
) -> int:
    """How many arguments to call it with: the first of ``arities`` that fits.

    A handler is an async or plain function (object, method, partial); each arity comes with the
    parameters as they would be written.
    """
    check_function(function, what=what, where=where)
    return _arity(function, what=what, where=where, arities=arities)


def check_function(function: object, *, what: str, where: str) -> None:
    """It can be called, and gives one value."""
    _check_callable(function, what=what, where=where)
    if _shaped(function, inspect.isgeneratorfunction) or _shaped(
        function, inspect.isasyncgenfunction
    ):
        refuse(where, f"{what}, {describe(function)}, is a generator; return one value instead")


def check_pure(
    function: object, *, what: str, where: str, arities: Sequence[tuple[int, str]] = ((1, "ctx"),)
) -> int:
    """The same for a function that shapes the run: it must be synchronous."""
    _check_callable(function, what=what, where=where)
    if is_async(function) or _shaped(function, inspect.isasyncgenfunction):
        refuse(
            where,
            f"{what}, {describe(function)}, is async, but it must be a plain function of what is "
            f"known already; do the work in a step before and read its result",
        )
    return _arity(function, what=what, where=where, arities=arities)


def call_pure(function: Function, *args: Any) -> Any:
    """The value of a plain function; an awaitable is refused, and closed."""
    value = function(*args)
    if inspect.isawaitable(value):
        _drop(value)
        raise TypeError(
            f"{describe(function)} gave an awaitable, but it must be a plain function of what is "
            f"known already; do the work in a step before and read its result"
        )
    return value


def result_type(function: Function) -> Any:
    """What it is annotated to give when it does not suspend, or ``ANY``."""
    return return_type(function, strip=(Suspend,))


def says_all(function: Function) -> bool:
    """Whether its annotation covers all that it may give: a snapshot of ``Suspend`` has none."""
    found = return_type(function)
    return found is not ANY and found == result_type(function)


def parameter_type(function: Function, position: int) -> Any:
    """The annotation of its positional parameter (from 0, ``self`` not counted), or ``ANY``."""
    plain = inspect.unwrap(_plain(function))
    plain = getattr(plain, "__func__", plain)
    try:
        parameters = list(inspect.signature(function).parameters.values())
        annotation = parameters[position].annotation
        if annotation is inspect.Parameter.empty:
            return ANY
        twin = types.FunctionType(plain.__code__, plain.__globals__, closure=plain.__closure__)
    except (AttributeError, IndexError, TypeError, ValueError):
        return ANY  # a builtin, or a class: nothing that could be read
    twin.__annotations__ = {"return": annotation}
    return return_type(twin)


def element_type(annotation: Any) -> Any:
    """The type of the members of an annotated list, set, sequence or iterable, or ``ANY``."""
    origin, args = get_origin(annotation), get_args(annotation)
    if not isinstance(origin, type) or not issubclass(origin, Iterable):
        return ANY
    if issubclass(origin, tuple):
        return args[0] if len(args) == 2 and args[1] is Ellipsis else ANY
    return args[0] if len(args) == 1 else ANY


def list_of(type_: Any) -> Any:
    """The type of a list of these."""
    return ANY if type_ is ANY else list[type_]


def one_of(types: Sequence[Any], *, optional: bool) -> Any:
    """The type of a value of one of these, or ``None`` if that is one."""
    if any(type_ is ANY for type_ in types):
        return ANY
    union: Any = Union
    return union[(*types, None) if optional else tuple(types)]


def typed_map(types: Mapping[str, Any]) -> Any:
    """The type of a dict with these members; ``ANY`` if nothing is known of any."""
    if all(type_ is ANY for type_ in types.values()):
        return ANY
    make: Any = TypedDict
    return make("Results", dict(types))


def _plain(function: object) -> Any:
    """The function behind partials and callable objects, for reading its annotations."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return getattr(function, "__call__", function)  # noqa: B004  # the method, not the question


def _shaped(function: object, question: Callable[[Any], bool]) -> bool:
    return question(function) or question(_plain(function))


def _check_callable(function: object, *, what: str, where: str) -> None:
    if inspect.isawaitable(function):
        _drop(function)
        refuse(where, f"{what} is an awaitable; pass the function itself, without calling it")
    if not callable(function):
        refuse(where, f"{what} must be a function, not {type(function).__name__}; pass a callable")


def _arity(function: object, *, what: str, where: str, arities: Sequence[tuple[int, str]]) -> int:
    for count, _ in arities:
        if takes(function, count):
            return count
    wanted = " or ".join(f"({parameters})" for _, parameters in arities)
    refuse(
        where,
        f"{what}, {describe(function)}, must be callable with {wanted}; change its parameters, "
        f"or bind the others with functools.partial",
    )


def _drop(value: Awaitable[Any]) -> None:
    close = getattr(value, "close", None) or getattr(value, "cancel", None)
    if close is not None:
        close()
