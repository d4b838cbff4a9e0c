"""Planting: put one defect into the running engine, and take it out again.

A ``Mutant`` is a sentence and some edits: in this function, this text becomes that. The function
is compiled anew from its own source and lent the new code, so whoever holds it, under whatever
name, runs the defect. Text that is not found is an error: a mutant has to follow the source.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any

import attrs

COUNTER = "_the_defect_is_met"
"""The name under which a planted function finds what counts its calls."""


@attrs.frozen
class Edit:
    """In the function ``module:qualified.name``, ``old`` becomes ``new``, once."""

    function: str
    old: str
    new: str


@attrs.frozen
class Mutant:
    """One planted defect. ``bug`` is its number in the catalogue of ``reliability.md``, section
    B, or 0; ``quick`` ones are tried in CI."""

    name: str
    sentence: str
    edits: tuple[Edit, ...]
    bug: int = 0
    quick: bool = False
    first: str = attrs.field(default="", kw_only=True)
    """The cases to try first: a word of their names."""


@attrs.define
class Met:
    """How often a planted function was called."""

    times: int = 0

    def __call__(self) -> None:
        self.times += 1


@contextmanager
def planted(mutant: Mutant) -> Iterator[Met]:
    """The defect is there until the block is left; gives how often it was met."""
    met = Met()
    functions = [function_of(edit.function) for edit in mutant.edits]
    codes = [code_with(function, edit) for function, edit in zip(functions, mutant.edits,
                                                                 strict=True)]  # fmt: skip
    sound = [function.__code__ for function in functions]
    for function, code in zip(functions, codes, strict=True):
        function.__globals__[COUNTER] = met
        function.__code__ = code
    try:
        yield met
    finally:
        for function, code in zip(functions, sound, strict=True):
            function.__code__ = code
            function.__globals__.pop(COUNTER, None)


def function_of(path: str) -> FunctionType:
    """The function at ``module:qualified.name``."""
    module, _, name = path.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    found = inspect.unwrap(getattr(found, "fget", None) or found)
    if not isinstance(found, FunctionType):
        raise TypeError(f"{path} is no function")
    return found


def code_with(function: FunctionType, edit: Edit) -> CodeType:
    """The code of the function after the edit, which first counts its call."""
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(edit.old) != 1:
        raise LookupError(f"{edit.function} does not hold once: {edit.old!r}")
    tree = ast.parse(source.replace(edit.old, edit.new))
    (definition,) = tree.body
    assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef)
    definition.decorator_list = []
    definition.body[0:0] = ast.parse(f"{COUNTER}()").body
    ast.fix_missing_locations(tree)
    return _only_function(compile(tree, f"<mutant of {edit.function}>", "exec"), function)


def _only_function(module: CodeType, function: FunctionType) -> CodeType:
    for constant in module.co_consts:
        if isinstance(constant, CodeType) and constant.co_name == function.__name__:
            return constant
    raise LookupError(f"{function.__qualname__} was lost")
