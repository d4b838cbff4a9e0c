"""Timeline: a chronicle as text, one line an event, one column a process."""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from ..codec.failure import failure_from_exception


@attrs.frozen(slots=True)
class Event:
    """A line of the chronicle: seconds since the start, the process, what happened, and to which
    unit or verb. ``detail`` tells more."""

    at_s: float
    process: str
    what: str
    where: str
    detail: str = ""


FAILURE_MAX, SAID_MAX = 1_000, 120
ADDRESS = re.compile(r"0x[0-9a-f]+")
MARKS = {
    "dies": "x",
    "freezes": "~",
    "is cancelled": "x",
    "store error": "!",
    "lease is stolen": "!",
    "raises": "!",
}
TROUBLE = (
    *MARKS,
    "told to stop",
    "its clock is off",
    "clock jumps",
    "is slow",
    "signals are sent",
    "operator",
)
"""How the events begin that are the plan's doing."""


def what_it_says(error: BaseException) -> str:
    """Its type and the beginning of its message, the same in every simulation."""
    said = str(failure_from_exception(error, limit=FAILURE_MAX))
    return " ".join(ADDRESS.sub("0x…", said).split())[:SAID_MAX]


def drawn(chronicle: Sequence[Event], pointed_at: int | None = None) -> str:
    """Lines of time, process, event and place; what went wrong has a mark in the margin, and an
    arrow points at one event."""
    width = max((len(event.process) for event in chronicle), default=0)
    lines = []
    for number, event in enumerate(chronicle):
        mark = next((sign for word, sign in MARKS.items() if event.what.startswith(word)), " ")
        if number == pointed_at:
            mark = ">"
        detail = f"  ({event.detail})" if event.detail else ""
        lines.append(
            f"{mark} {event.at_s:>10.3f} s  {event.process:<{width}}  {event.what} "
            f"{event.where}{detail}"
        )
    return "\n".join(lines)
