"""Tidiness that no linter checks: sizes, docstrings, markers, SQL as constants.

Each check walks the syntax trees of everything under src. What may break a rule stands in an
allow list, and the list must stay accurate: an entry that is no longer needed fails too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
FILES = sorted(SRC.rglob("*.py"))
LINES_PER_FILE_MAX = 500
LINES_PER_FUNCTION_MAX = 70

LONG_FUNCTIONS: set[str] = set()
"""`path::qualified.name` of functions that may be longer, each with its reason beside it."""

LONG_FILES: set[str] = set()
"""Paths of files that may be longer, each with its reason beside it."""

BANNED_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve"}
BANNED_CALLS = {"eval", "exec", "__import__"}
MARKERS = re.compile(r"\b(FIXME|XXX|HACK)\b")
EXECUTE = re.compile(r"^(execute\w*|executemany|executescript|fetch(row|val|all|many)?)$")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def short(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


every_file = pytest.mark.parametrize("path", FILES, ids=short)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function with its qualified name, outermost first."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef):
            name = f"{prefix}{child.name}"
            if isinstance(child, Function):
                yield name, child
            yield from functions(child, f"{name}.")
        else:
            yield from functions(child, prefix)


def length(function: Function) -> int:
    """Lines from `def` to the end, without the docstring: prose is never too long."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    doc = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (doc.end_lineno or doc.lineno) - doc.lineno + 1
    return lines


def imported_modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def is_built_text(node: ast.expr) -> bool:
    """True for text put together on the spot: f-string with holes, `+`, `%` or `.format`."""
    match node:
        case ast.JoinedStr(values=values):
            return any(isinstance(value, ast.FormattedValue) for value in values)
        case ast.BinOp(op=ast.Add() | ast.Mod()):
            return True
        case ast.Call(func=ast.Attribute(attr="format" | "format_map")):
            return True
        case _:
            return False


def sql_built_in(tree: ast.AST) -> Iterator[int]:
    """Lines where text put together on the spot is handed to a method that executes SQL."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=attr), args=[statement, *_]) if EXECUTE.match(
                attr
            ) and is_built_text(statement):
                yield node.lineno


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) > 10


@every_file
def test_a_module_opens_with_a_sentence(path: Path) -> None:
    doc = ast.get_docstring(tree_of(path))
    assert doc, "say in one sentence what this file owns"
    paragraph = doc.split("\n\n")[0].strip()
    assert re.search(r"[.:!?]($|\s)", paragraph), f"not a sentence: {paragraph!r}"


@every_file
def test_no_marker_is_left_behind(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [n for n, line in enumerate(lines, 1) if MARKERS.search(line)] == []


@every_file
def test_nothing_stored_can_execute(path: Path) -> None:
    tree = tree_of(path)
    roots = {name.split(".")[0] for name in imported_modules(tree)}
    assert not roots & BANNED_MODULES
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & BANNED_CALLS


@every_file
def test_no_back_door_between_floors(path: Path) -> None:
    names = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Name | ast.Attribute)
    }
    if path.parts[-3:] == ("durable_core", "testing", "__init__.py"):
        return  # the kit's own door: it imports nothing but its own modules, and those lazily
    assert "TYPE_CHECKING" not in names


@every_file
def test_sql_is_a_constant(path: Path) -> None:
    assert list(sql_built_in(tree_of(path))) == [], "put the statement into queries.py"


@pytest.mark.parametrize(
    ("source", "bad"),
    [
        ("db.execute('SELECT 1')", False),
        ("db.execute(READ_RUN, (run_id,))", False),
        ("db.execute(f'SELECT {column}')", True),
        ("db.executemany('SELECT ' + column, rows)", True),
        ("db.fetch('SELECT %s' % column)", True),
        ("db.execute_fetchall('SELECT {}'.format(column))", True),
    ],
)
def test_built_sql_is_recognised(source: str, bad: bool) -> None:
    assert bool(list(sql_built_in(ast.parse(source)))) is bad


def test_functions_fit_a_screen() -> None:
    long = {
        f"{short(path)}::{name}"
        for path in FILES
        for name, function in functions(tree_of(path))
        if length(function) > LINES_PER_FUNCTION_MAX
    }
    assert long == LONG_FUNCTIONS, f"over {LINES_PER_FUNCTION_MAX} lines, or no longer so"


def test_files_are_one_noun_or_one_verb() -> None:
    long = {
        short(path)
        for path in FILES
        if len(path.read_text(encoding="utf-8").splitlines()) > LINES_PER_FILE_MAX
    }
    assert long == LONG_FILES, f"over {LINES_PER_FILE_MAX} lines, or no longer so"


def test_every_folder_with_modules_is_a_package() -> None:
    """A folder without `__init__.py` is invisible to the contracts that hold the floors."""
    folders = {path.parent for path in FILES if path.parent != SRC}
    assert [short(folder) for folder in folders if not (folder / "__init__.py").exists()] == []
