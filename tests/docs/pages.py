"""The pages of the documentation, and what stands in their code blocks."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a language. `python` is a program that runs as it stands, `py` is not."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text for written_in, text in found if written_in == language]


def shown(page: Path) -> list[tuple[str, str]]:
    """Programs, each with what the page says that it prints: a block of `text` behind it."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [
        (program, output)
        for (first, program), (second, output) in itertools.pairwise(found)
        if (first, second) == ("python", "text")
    ]
