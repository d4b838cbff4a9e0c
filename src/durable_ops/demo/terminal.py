"""The terminal: what it can show, and lines that are written over in place.

Colour and rewriting only on a terminal, and no colour when ``NO_COLOR`` is set; elsewhere the
output is plain lines. Where the encoding lacks the block characters, ASCII stands in.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import TextIO

STYLES: Mapping[str, str] = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "magenta": "35",
    "cyan": "36",
}
PLAIN: Mapping[str, str] = {
    "█": "#",
    "░": "-",
    "▓": "<",
    "▒": "!",
    "·": ".",
    "•": "o",
    "✗": "x",
    "✓": "+",
    "─": "-",
    "↶": "<",
    "…": ".",
    "€": "EUR ",
}
WIDTH_MAX = 100


class Terminal:
    """Where the demo prints. ``width`` is columns, ``rich`` whether lines can be rewritten."""

    def __init__(self, stream: TextIO | None = None, *, width: int | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self.rich = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._colour = self.rich and not os.environ.get("NO_COLOR")
        self._blocks = _can_encode(self._stream)
        columns = width if width is not None else shutil.get_terminal_size((WIDTH_MAX, 24)).columns
        self.width = max(60, min(columns - 1, WIDTH_MAX))
        self._pending = False
        self._blank = False

    def paint(self, text: str, style: str) -> str:
        """``text`` in this style, where there is colour."""
        return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if self._colour else text

    def line(self, text: str = "") -> None:
        """Print a line that stays."""
        self.clear()
        self._write(text + "\n")
        self._blank = not text

    def gap(self) -> None:
        """Print an empty line, unless the last one is empty."""
        if not self._blank:
            self.line()

    def status(self, text: str) -> None:
        """Show a line that the next one replaces; nothing where that cannot be done."""
        if self.rich:
            self._write("\r\x1b[2K" + text)
            self._pending = True

    def clear(self) -> None:
        """Take the replaceable line away."""
        if self._pending:
            self._write("\r\x1b[2K")
            self._pending = False

    def _write(self, text: str) -> None:
        if not self._blocks:
            for fine, rough in PLAIN.items():
                text = text.replace(fine, rough)
            encoding = self._stream.encoding or "ascii"
            text = text.encode(encoding, "replace").decode(encoding)
        self._stream.write(text)
        self._stream.flush()


def _can_encode(stream: TextIO) -> bool:
    try:
        "".join(PLAIN).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
