"""Progress: one line that is written over on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time

import attrs

from .terminal import Terminal

BAR_MIN, BAR_MAX = 6, 30
PLAIN_STEPS = 10
"""Lines printed on the whole way where nothing can be written over."""


@attrs.frozen(slots=True, kw_only=True)
class Counts:
    """Where the orders stand; ``finished`` includes the ``undone``."""

    total: int
    finished: int = 0
    running: int = 0
    suspended: int = 0
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
        terminal, words = self._terminal, self._words(counts)
        if terminal.rich:
            bar = self._bar(counts, terminal.width - len(words) - len(self.clock) - 6)
            terminal.status(f"  {self.clock}  {bar}{words}")
            return
        step = counts.finished * PLAIN_STEPS // max(1, counts.total)
        if step > self._printed:
            self._printed = step
            terminal.line(f"  {self.clock}  {words}")

    def event(self, text: str, style: str) -> None:
        """Print something that happened; it stays."""
        self._terminal.line(f"  {self.clock}  {self._terminal.paint(text, style)}")

    def _bar(self, counts: Counts, room: int) -> str:
        """As long as the room allows; nothing where it would be a stub."""
        length = min(room, BAR_MAX)
        if length < BAR_MIN:
            return ""
        full = counts.finished * length // max(1, counts.total)
        paint = self._terminal.paint
        return paint("█" * full, "green") + paint("░" * (length - full), "dim") + "  "

    def _words(self, counts: Counts) -> str:
        width = len(str(counts.total))
        return "  ".join(
            (
                f"{counts.finished:{width}}/{counts.total} finished",
                f"{counts.running:{width}} running",
                f"{counts.suspended:{width}} suspended",
                f"{counts.undone:{width}} undone",
                plural(counts.kills, "kill"),
            )
        )


def plural(number: int, word: str) -> str:
    """``1 kill``, ``3 kills``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
