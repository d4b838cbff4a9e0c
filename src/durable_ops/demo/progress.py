"""Progress: one line that is written over on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time

import attrs

from .terminal import Terminal

BAR = 28
PLAIN_STEPS = 10
"""Lines printed on the whole way where nothing can be written over."""


@attrs.frozen(slots=True, kw_only=True)
class Counts:
    """Where the orders stand; ``finished`` includes the ``undone``."""

    total: int
    finished: int = 0
    running: int = 0
    waiting: int = 0
    undoing: int = 0
    undone: int = 0
    kills: int = 0


class Progress:
    """Shows counts as they come."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._began = time.monotonic()
        self._printed = -1

    @property
    def clock(self) -> str:
        """Seconds since the beginning, as in ``12.3 s``."""
        return f"{time.monotonic() - self._began:5.1f} s"

    def show(self, counts: Counts) -> None:
        """Show where things stand."""
        terminal = self._terminal
        if terminal.rich:
            terminal.status(f"  {self.clock}  {self._bar(counts)}{self._words(counts)}")
            return
        step = counts.finished * PLAIN_STEPS // max(1, counts.total)
        if step > self._printed:
            self._printed = step
            terminal.line(f"  {self.clock}  {self._words(counts).strip()}")

    def event(self, text: str, style: str) -> None:
        """Print something that happened; it stays."""
        self._terminal.line(f"  {self.clock}  {self._terminal.paint(text, style)}")

    def _bar(self, counts: Counts) -> str:
        full = counts.finished * BAR // max(1, counts.total)
        paint = self._terminal.paint
        return paint("█" * full, "green") + paint("░" * (BAR - full), "dim")

    def _words(self, counts: Counts) -> str:
        width = len(str(counts.total))
        words = [f"{counts.finished:{width}}/{counts.total} finished"]
        for number, word in (
            (counts.running, "running"),
            (counts.waiting, "suspended"),
            (counts.undoing, "undoing"),
            (counts.undone, "undone"),
        ):
            words.append(f"{number:{width}} {word}")
        words.append(f"{counts.kills} kills" if counts.kills != 1 else "1 kill ")
        return "  " + "   ".join(words)
