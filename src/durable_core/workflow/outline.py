"""Outline: what a body of code asks for, read off its source, so that it can be drawn.

Nothing runs, and nothing is decided: the calls of the context stand in the order of the code, and
whether they are in a branch or a loop is said in a word. Where there is no source (a body made by
``exec``, say) the outline is empty.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import attrs

KINDS = {
    "step": "step",
    "transact": "step",
    "sleep": "sleep",
    "sleep_until": "sleep",
    "wait_for_signal": "signal",
    "child": "child",
    "start_child": "child",
}
"""Methods of the context that ask for something, and what that is in a drawing."""

BEFORE: dict[type[ast.AST], tuple[str, ...]] = {
    ast.If: ("test",),
    ast.IfExp: ("test",),
    ast.Match: ("subject",),
    ast.Try: ("body", "finalbody"),
    ast.For: ("iter",),
}
"""Fields of a statement that stand outside of its branch or loop."""

WHERE: dict[type[ast.AST], str] = {
    ast.If: "in a branch",
    ast.IfExp: "in a branch",
    ast.Try: "in a branch",
    ast.Match: "in a branch",
    ast.For: "in a loop",
    ast.While: "in a loop",
    ast.ListComp: "for each item",
    ast.GeneratorExp: "for each item",
    ast.SetComp: "for each item",
}


@attrs.frozen(slots=True)
class Asked:
    """One call in the code: its kind, what it is called there, and where it stands."""

    kind: str
    name: str
    facts: tuple[str, ...] = ()


def outline_of(body: Callable[..., Any]) -> tuple[Asked, ...]:
    """The calls of the body's context, in the order of the code."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(body)))
        function = tree.body[0]
    except (OSError, TypeError, SyntaxError, IndexError, ValueError):
        return ()
    if not isinstance(function, ast.AsyncFunctionDef) or not function.args.args:
        return ()
    return tuple(_asked(function.body, function.args.args[0].arg, ()))


def _asked(nodes: list[Any], ctx: str, facts: tuple[str, ...]) -> Iterator[Asked]:
    for node in nodes:
        where = WHERE.get(type(node))
        below = facts if where is None or where in facts else (*facts, where)
        for field, value in ast.iter_fields(node):
            inside = facts if field in BEFORE.get(type(node), ()) else below
            parts = value if isinstance(value, list) else [value]
            yield from _asked([one for one in parts if isinstance(one, ast.AST)], ctx, inside)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, method = node.func.value, node.func.attr
            if isinstance(owner, ast.Name) and owner.id == ctx and method in KINDS:
                yield Asked(KINDS[method], _name(node, method), facts)


def _name(call: ast.Call, method: str) -> str:
    """Its key if that is written there, else its first argument."""
    for word in call.keywords:
        if word.arg == "key" and isinstance(word.value, ast.Constant):
            return str(word.value.value)
    if not call.args or method in ("sleep", "sleep_until"):
        return method
    first = call.args[0]
    if isinstance(first, ast.Constant):
        return str(first.value)
    if isinstance(first, ast.Call) and isinstance(first.func, ast.Attribute):
        for word in first.keywords:  # search.with_options(key="again")
            if word.arg == "key" and isinstance(word.value, ast.Constant):
                return str(word.value.value)
        first = first.func.value
    return ast.unparse(first).rpartition(".")[2]
