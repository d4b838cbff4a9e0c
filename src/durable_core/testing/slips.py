"""Slips: what the text of a body shows that its code objects do not.

Looked for in the syntax tree of its source, where there is one. Better nothing said than a wrong
alarm: a set is known as one only where it is written as one, or is named in the same function.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from types import FunctionType

import attrs

SETS = ("set", "frozenset")
IN_ORDER = ("list", "tuple", "enumerate", "iter", "zip", "map", "next")
"""What takes the members of a set in the order in which they happen to lie there."""
EVERYTHING = ("BaseException", "GeneratorExit", "ContinueAsNew")


@attrs.frozen(slots=True)
class Slip:
    """What is wrong, and how to mend it."""

    what: str
    mend: str


def slips_in(function: FunctionType) -> Iterator[Slip]:
    """The slips in a body, or in a function that it calls."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            line = function.__code__.co_firstlineno - 1
            yield from _unordered(node, line)
            yield from _swallowing(node, line)


# --- sets ----------------------------------------------------------------------------------------


def _unordered(function: ast.AST, line: int) -> Iterator[Slip]:
    """A set whose members are taken one by one, in an order that changes with each process."""
    sets = _names_of_sets(function)
    for node in ast.walk(function):
        for taken in _taken(node):
            if _is_set(taken, sets) and not _is_harmless(node, function):
                yield Slip(
                    f"it goes through a set in line {line + taken.lineno}, {ast.unparse(taken)}: "
                    "in another process its members come in another order, and so do the steps",
                    "write sorted(...) around it, or use a list or a dict",
                )


def _taken(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.For(iter=one) | ast.comprehension(iter=one) | ast.Starred(value=one):
            yield one
        case ast.Call(func=ast.Name(id=name), args=args) if name in IN_ORDER:
            yield from args
        case ast.Call(func=ast.Attribute(attr="pop", value=one), args=[]):
            yield one


def _is_harmless(node: ast.AST, function: ast.AST) -> bool:
    """Whether the order is lost again, as in ``sorted(x for x in a_set)`` and ``{*a_set}``."""
    if isinstance(node, ast.For):
        return not any(isinstance(one, ast.Await | ast.Attribute) for one in ast.walk(node))
    for outer in ast.walk(function):
        match outer:
            case ast.Set(elts=inside):
                pass
            case ast.SetComp(generators=inside) | ast.DictComp(generators=inside):
                pass
            case ast.Call(func=ast.Name(id="sorted" | "set" | "frozenset" | "sum" | "min" | "max"
                          | "len" | "any" | "all"), args=inside):  # fmt: skip
                pass
            case _:
                continue
        if any(within is node for one in inside for within in ast.walk(one)):
            return True
    return False


def _names_of_sets(function: ast.AST) -> frozenset[str]:
    """The variables that are given nothing but sets."""
    given: dict[str, list[ast.expr | None]] = {}
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name):
                        given.setdefault(target.id, []).append(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=value):
                given.setdefault(name, []).append(value)
            case ast.Name(id=name, ctx=ast.Store()):
                given.setdefault(name, [])
            case _:
                pass
    sets: frozenset[str] = frozenset()
    for _ in range(3):  # a set made of sets made of sets
        sets = frozenset(
            name
            for name, values in given.items()
            if values and all(one is not None and _is_set(one, sets) for one in values)
        )
    return sets


def _is_set(value: ast.expr, sets: frozenset[str]) -> bool:
    match value:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in SETS
        case ast.Name(id=name):
            return name in sets
        case ast.BinOp(left=left, op=ast.Sub() | ast.BitAnd() | ast.BitOr() | ast.BitXor(),
                       right=right):  # fmt: skip
            return _is_set(left, sets) or _is_set(right, sets)
        case ast.Call(func=ast.Attribute(value=one, attr=name)):
            return _is_set(one, sets) and name in (
                "union", "intersection", "difference", "symmetric_difference", "copy",
            )  # fmt: skip
        case _:
            return False


# --- exceptions ----------------------------------------------------------------------------------


def _swallowing(function: ast.AST, line: int) -> Iterator[Slip]:
    """What the engine leaves a body by does not get past an ``except`` that takes everything."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Try):
            continue
        for handler in node.handlers:
            if _takes_everything(handler) and not _raises(handler):
                kind = "except" if handler.type is None else f"except {ast.unparse(handler.type)}"
                yield Slip(
                    f"`{kind}` in line {line + handler.lineno} also catches what the engine leaves "
                    "a body by (ctx.continue_as_new, and a run that is dropped)",
                    "catch Exception, or raise again",
                )
        for one in _leaving(node.finalbody):
            yield Slip(
                f"the `finally` in line {line + one.lineno} leaves by "
                f"{type(one).__name__.lower()}, which swallows what the engine leaves a body "
                "by (ctx.continue_as_new, and a run that is dropped)",
                "leave the `finally` at its end",
            )


def _leaving(statements: Iterable[ast.AST], *, in_loop: bool = False) -> Iterator[ast.stmt]:
    """The statements that leave these, other than at their end or by an exception."""
    for one in statements:
        match one:
            case ast.Return():
                yield one
            case ast.Break() | ast.Continue() if not in_loop:
                yield one
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                continue
            case _:
                loop = isinstance(one, ast.For | ast.AsyncFor | ast.While)
                yield from _leaving(ast.iter_child_nodes(one), in_loop=in_loop or loop)


def _takes_everything(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None or (isinstance(kind, ast.Name | ast.Attribute)
                         and ast.unparse(kind).rpartition(".")[2] in EVERYTHING)
        for kind in kinds
    )  # fmt: skip


def _raises(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(one, ast.Raise) for part in handler.body for one in ast.walk(part))
