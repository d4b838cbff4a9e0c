"""Draft: one transition while it is being drawn up.

Owns the fold (what is recorded, new entries included) and everything the transition will
carry besides. Appending an entry here is the only way a run's record grows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import journal as j
from .decide import Moment
from .event import MessageArrived
from .fold import Fold
from .ids import RUN_UNIT, UnitKey
from .outcome import AttemptKey, ChildStart, Outgoing
from .run import RunContext
from .value import Payload


class Draft(Moment):
    """The growing answer of one ``advance``, and the moment it is given at."""

    __slots__ = (
        "after_seq",
        "children",
        "consumed",
        "entries",
        "messages",
        "renews",
        "stop",
        "tokens_closed",
        "tokens_opened",
    )

    def __init__(
        self,
        run: RunContext,
        fold: Fold,
        now_ms: int,
        signals: Mapping[str, Sequence[MessageArrived]],
    ) -> None:
        super().__init__(run, fold, now_ms, signals)
        self.after_seq = fold.length
        self.entries: list[j.Entry] = []
        self.consumed: list[int] = []
        self.children: list[ChildStart] = []
        self.messages: list[Outgoing] = []
        self.tokens_opened: list[str] = []
        self.tokens_closed: list[str] = []
        self.stop: list[AttemptKey] = []
        self.renews = False

    def record(self, kind: Callable[..., j.Entry], unit: UnitKey = RUN_UNIT, **fields: Any) -> None:
        """Append a new entry of this class for ``unit``."""
        self.append(kind(unit=unit, seq=self.next_seq, at_ms=self.now_ms, **fields))

    def begin_anew(self, payload: Payload) -> None:
        """The run goes on as if it had just begun, with this as its input (``continue_as_new``).

        The journal is begun anew too, its numbers go on; what else this transition carries stays.
        """
        fold, paused = self.fold, self.fold.paused is not None
        waived = fold.deadline_waived
        self.renews = True
        self.entries.clear()
        self.next_seq = self.after_seq + 1
        self.record(
            j.RunContinued,
            payload=payload,
            generation=fold.generation + 1,
            deadline_waived=waived,
        )
        if paused:
            self.record(j.RunPaused)

    def append(self, entry: j.Entry) -> None:
        """Append an entry that is numbered and dated already."""
        self.fold.apply(entry)
        self.entries.append(entry)
        self.next_seq = entry.seq + 1
