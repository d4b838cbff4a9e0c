"""Every numbered flaw of the reference engine has a test that shows that ours is without it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

FLAWS = range(1, 52)
NAME = re.compile(r"test_flaw_(\d+)_\w+$")
FILES = sorted(Path(__file__).parent.glob("test_?_*.py"))


def flaw_tests() -> list[tuple[int, ast.FunctionDef | ast.AsyncFunctionDef]]:
    return [
        (int(match.group(1)), node)
        for path in FILES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (match := NAME.match(node.name))
    ]


def test_every_flaw_has_a_test() -> None:
    assert sorted({number for number, _ in flaw_tests()}) == list(FLAWS)


def test_every_such_test_says_in_one_sentence_what_it_shows() -> None:
    for _, node in flaw_tests():
        doc = ast.get_docstring(node)
        assert doc and doc.endswith("."), f"{node.name} needs a sentence"
