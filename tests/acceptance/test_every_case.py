"""Every acceptance case of the reference has exactly one test here, and a sentence."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

CASE = re.compile(r"test_([srw]\d+)_")
CASES = (
    {f"s{n}" for n in range(1, 30)}
    | {f"r{n}" for n in range(1, 48)}
    | {f"w{n}" for n in range(1, 13)}
)


def cases_tested() -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every test named for a case, with the case."""
    found = []
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                match = CASE.match(node.name)
                if match:
                    found.append((match[1], node))
    return found


def test_every_case_has_exactly_one_test() -> None:
    counts = Counter(case for case, _ in cases_tested())
    assert counts == Counter(CASES)


def test_every_case_is_told_in_our_words() -> None:
    silent = [case for case, test in cases_tested() if not ast.get_docstring(test)]
    assert silent == []
