"""The examples run as a new user would run them: offline, in seconds, and say what they should."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LINES_MAX = 120

SAYS = {
    "agent": ["Done: old.log is gone", "{'loop': 'Done: old.log is gone'}"],
    "approval": [
        "20 euros for ada",
        "grace said no to bob",
        "nobody decided about eve in time",
    ],
    "every_hour": ["round 2", "made: report 1, report 2"],
    "fan_out": ["{'/': 3, '/shop': 7, '/about': 1}"],
    "order_both_ways": [
        "declared order: lamp for 120.00, picked up by ada",
        "declared order: the card was declined; undone: ('hold',)",
        "coded order: lamp for 120.00, picked up by ada",
        "coded order: the card was declined; undone: ('hold',)",
        "still held: ['lamp', 'lamp']",
    ],
    "pydantic_agent": ["may it? send {'to': 'ada@example.org'}", "I have written to Ada."],
}

OFFLINE = """
import runpy, sys

def refuse(event, args):
    if event == "socket.connect":
        raise RuntimeError(f"an example went to the network: {args}")

sys.addaudithook(refuse)
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_says_what_it_should(example: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OFFLINE, example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    rest = done.stdout
    for line in SAYS[example.stem]:
        _, found, rest = rest.partition(line)
        assert found, f"{line!r} does not come in:\n{done.stdout}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_opens_with_what_it_shows(example: Path) -> None:
    text = example.read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(text)) or ""

    assert len(text.splitlines()) <= LINES_MAX
    assert f"python examples/{example.name}" in doc


def test_every_example_is_looked_at_and_listed() -> None:
    listed = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for example in EXAMPLES:
        assert example.stem in SAYS
        assert f"../examples/{example.name}" in listed
