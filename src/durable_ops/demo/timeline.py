"""Timeline: one run as text, drawn from its journal.

One row a unit, in the order in which they began; bars over relative time, waits dotted, failed
attempts and compensations marked. A journal says when things were committed, not when they
began: a unit's bar begins where its step could begin, unless the caller knows better and hands
over the beginnings it has seen. With those, an attempt that died with its worker shows too.

Pure: journal in, lines out. Times are milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Literal

import attrs

from durable_core import JournalEntry

Mark = Literal["work", "failed", "lost", "wait", "undo"]
GLYPHS: Mapping[Mark, str] = {"work": "█", "failed": "▒", "lost": "░", "wait": "·", "undo": "▓"}
COLOURS: Mapping[Mark, str] = {
    "work": "green",
    "failed": "yellow",
    "lost": "red",
    "wait": "dim",
    "undo": "magenta",
}
MEANINGS: Mapping[Mark, str] = {
    "work": "work",
    "failed": "failed",
    "lost": "cut off by a kill",
    "wait": "waiting",
    "undo": "undoing",
}

BEGIN_WAIT = {"timer_started", "signal_awaited", "child_started", "child_rollback_requested"}
WORK_ENDS: Mapping[str, Mark] = {
    "unit_completed": "work",
    "unit_suspended": "work",
    "unit_failed": "failed",
    "attempt_failed": "failed",
}
UNDO_ENDS: Mapping[str, Mark] = {
    "unit_compensated": "undo",
    "compensation_attempt_failed": "failed",
    "compensation_failed": "failed",
}
WAIT_ENDS = {"timer_fired", "signal_consumed", "wait_timed_out", "child_completed", "child_failed"}
LABEL_MAX = 24
NOTE_MAX = 42
CLOCK_SLACK_MS = 20
"""How much the clock of who saw a beginning may be ahead of the store's."""

AXIS_STEPS_MS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000)


@attrs.frozen(slots=True)
class Begun:
    """A handler was seen to begin at ``at_ms``; ``undo`` if it was a compensator."""

    unit: str
    undo: bool
    at_ms: int


@attrs.frozen(slots=True)
class Span:
    """A stretch of a row."""

    mark: Mark
    start_ms: int
    end_ms: int


@attrs.define(slots=True)
class Row:
    """A unit's line."""

    label: str
    spans: list[Span] = attrs.field(factory=list)
    note: str = ""

    @property
    def start_ms(self) -> int:
        """When it began."""
        return min(span.start_ms for span in self.spans)


def rows_of(
    entries: Sequence[JournalEntry], begun: Sequence[Begun] = (), deaths_ms: Sequence[int] = ()
) -> list[Row]:
    """The rows of a journal; ``deaths_ms`` says when workers died."""
    rows: dict[tuple[str, bool], Row] = {}
    open_since: dict[tuple[str, bool], int] = {}
    begins = _begins(begun)
    free_ms = at_ms(entries[0]) if entries else 0
    step: str | None = None
    last_ms = free_ms
    for entry in entries:
        unit, now = str(entry.unit), at_ms(entry)
        undo = entry.kind in UNDO_ENDS or entry.kind == "child_rollback_requested"
        key = (unit, undo)
        if undo or entry.step != step:
            step, free_ms = entry.step, last_ms  # the step could begin when the last one ended
        row = rows.setdefault(key, Row(("↶ " if undo else "") + unit))
        if entry.kind in BEGIN_WAIT:
            open_since[key] = now
        elif entry.kind in WAIT_ENDS or (entry.kind in UNDO_ENDS and key in open_since):
            since = open_since.pop(key, now)
            row.spans.append(Span("undo" if undo else "wait", since, now))
            row.note = "by the child" if undo else entry.kind.replace("_", " ")
        elif entry.kind in WORK_ENDS or entry.kind in UNDO_ENDS:
            mark = WORK_ENDS.get(entry.kind) or UNDO_ENDS[entry.kind]
            _attempt(row, mark, now, begins.get(key, []), free_ms, deaths_ms)
            row.note = _note(entry)
        last_ms = max(last_ms, now)
    return sorted((row for row in rows.values() if row.spans), key=lambda row: row.start_ms)


def draw(
    title: str,
    entries: Sequence[JournalEntry],
    *,
    begun: Sequence[Begun] = (),
    deaths_ms: Sequence[int] = (),
    width: int = 100,
) -> Iterator[list[tuple[str, str | None]]]:
    """The lines of the picture, each as pieces of text with the colour they want."""
    rows = rows_of(entries, begun, deaths_ms)
    yield [(title, "bold")]
    if not rows:
        yield [("nothing has happened yet", "dim")]
        return
    start, end = rows[0].start_ms, max(span.end_ms for row in rows for span in row.spans)
    label = min(LABEL_MAX, max(len(row.label) for row in rows))
    notes = max(len(row.note) for row in rows)
    columns = max(20, width - label - notes - 6)
    scale = Scale(start, max(1, end - start), columns)
    yield [(" " * (label + 2) + scale.axis(), "dim")]
    deaths = [at for at in deaths_ms if start <= at <= end]
    if deaths:
        line = [" "] * columns
        for at in deaths:
            line[scale.column(at)] = "✗"
        yield [(" " * (label + 2) + "".join(line), "red"), ("  worker killed", "red")]
    for row in rows:
        yield [
            (_fit(row.label, label) + "  ", None),
            *scale.bar(row.spans),
            ("  " + row.note, "dim"),
        ]
    used = {span.mark for row in rows for span in row.spans}
    legend = "   ".join(f"{GLYPHS[mark]} {MEANINGS[mark]}" for mark in GLYPHS if mark in used)
    yield [(" " * (label + 2) + legend, "dim")]


@attrs.frozen(slots=True)
class Scale:
    """Moments to columns."""

    start_ms: int
    length_ms: int
    columns: int

    def column(self, moment_ms: int) -> int:
        """The column of a moment, from 0."""
        place = (moment_ms - self.start_ms) * self.columns // self.length_ms
        return max(0, min(self.columns - 1, place))

    def bar(self, spans: Sequence[Span]) -> list[tuple[str, str | None]]:
        """The spans in their columns; the shortest has one, and doing hides waiting."""
        cells: list[Mark | None] = [None] * self.columns
        for span in sorted(spans, key=lambda span: span.mark != "wait"):
            first = self.column(span.start_ms)
            last = max(first + 1, self.column(span.end_ms))
            cells[first:last] = [span.mark] * (last - first)
        pieces: list[tuple[str, str | None]] = []
        for mark in cells:
            glyph, colour = (" ", None) if mark is None else (GLYPHS[mark], COLOURS[mark])
            if pieces and pieces[-1][1] == colour:
                pieces[-1] = (pieces[-1][0] + glyph, colour)
            else:
                pieces.append((glyph, colour))
        return pieces

    def axis(self) -> str:
        """Marks of relative time at round seconds, at most eight."""
        step = next((s for s in AXIS_STEPS_MS if self.length_ms / s <= 8), self.length_ms)
        line = [" "] * (self.columns + 8)
        for moment in range(0, self.length_ms, step):
            text = f"{moment / 1000:g} s"
            first = moment * self.columns // self.length_ms
            if first + len(text) <= self.columns:
                line[first : first + len(text)] = text
        return "".join(line[: self.columns])


def at_ms(entry: JournalEntry) -> int:
    """When the entry was written."""
    return round(entry.at.timestamp() * 1000)


def _begins(begun: Sequence[Begun]) -> dict[tuple[str, bool], list[int]]:
    begins: dict[tuple[str, bool], list[int]] = {}
    for one in begun:
        begins.setdefault((one.unit, one.undo), []).append(one.at_ms)
    return {key: sorted(moments) for key, moments in begins.items()}


def _attempt(
    row: Row,
    mark: Mark,
    end_ms: int,
    begins: list[int],
    free_ms: int,
    deaths_ms: Sequence[int],
) -> None:
    """Add the attempt that ended at ``end_ms``, and those that died before it.

    ``begins`` are the beginnings of this unit that no earlier attempt has used up.
    """
    used = [moment for moment in begins if moment <= end_ms + CLOCK_SLACK_MS]
    del begins[: len(used)]
    last = used[-1] if used else max(free_ms, row.spans[-1].end_ms if row.spans else free_ms)
    if row.spans and last > row.spans[-1].end_ms:
        row.spans.append(Span("wait", row.spans[-1].end_ms, used[0] if used else last))
    for moment, following in pairwise(used):
        died = next((at for at in deaths_ms if moment <= at <= following), following)
        row.spans.append(Span("lost", moment, died))
        row.spans.append(Span("wait", died, following))
    row.spans.append(Span(mark, min(last, end_ms), end_ms))


def _note(entry: JournalEntry) -> str:
    if entry.failure is not None and entry.kind in ("unit_failed", "compensation_failed"):
        return _fit(str(entry.failure.message), NOTE_MAX).rstrip()
    return f"attempt {entry.attempt}" if entry.attempt and entry.attempt > 1 else ""


def _fit(text: str, length: int) -> str:
    return text.ljust(length) if len(text) <= length else text[: length - 1] + "…"
