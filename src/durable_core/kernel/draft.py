"""Draft: one transition while it is being drawn up.

Owns the fold (what is recorded, new entries included) and everything the transition will
carry besides. Appending an entry here is the only way a run's record grows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import journal as j
from .decide import Moment
from .event import MessageArrived
from .fold import Fold
from .ids import RUN_UNIT, UnitKey
from .outcome import AttemptKey, ChildStart, Outgoing
from .run import RunContext
from .value import Payload


class Draft:
    """The growing answer of one ``advance``; cheap to make, used once."""

    __slots__ = (
        "after_seq",
        "children",
        "consumed",
        "entries",
        "fold",
        "messages",
        "moment",
        "renews",
        "run",
        "stop",
        "tokens_closed",
        "tokens_opened",
    )

    def __init__(
        self,
        run: RunContext,
        fold: Fold,
        now_ms: int,
        signals: Callable[[str], Sequence[MessageArrived]],
    ) -> None:
        self.run = run
        self.fold = fold
        self.after_seq = fold.length
        self.moment = Moment(
            run_id=run.run_id,
            created_at_ms=run.created_at_ms,
            generation=fold.generation,
            depth=run.depth,
            now_ms=now_ms,
            next_seq=fold.length + 1,
            units=len(fold.units),
            limits=run.limits,
            signals=signals,
        )
        self.entries: list[j.Entry] = []
        self.consumed: list[int] = []
        self.children: list[ChildStart] = []
        self.messages: list[Outgoing] = []
        self.tokens_opened: list[str] = []
        self.tokens_closed: list[str] = []
        self.stop: list[AttemptKey] = []
        self.renews = False

    @property
    def now_ms(self) -> int:
        """The store's time of this advance."""
        return self.moment.now_ms

    def record(self, kind: Callable[..., j.Entry], unit: UnitKey = RUN_UNIT, **fields: Any) -> None:
        """Append a new entry of this class for ``unit``."""
        self.append(kind(unit=unit, seq=self.moment.next_seq, at_ms=self.moment.now_ms, **fields))

    def begin_anew(self, payload: Payload) -> None:
        """The run goes on as if it had just begun, with this as its input (``continue_as_new``).

        The journal is begun anew too, its numbers go on; what else this transition carries stays.
        """
        fold, paused = self.fold, self.fold.paused is not None
        waived = fold.deadline_waived
        self.renews = True
        self.entries.clear()
        self.moment.next_seq = self.after_seq + 1
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
        fold = self.fold
        fold.apply(entry)
        self.entries.append(entry)
        self.moment.next_seq = entry.seq + 1
        self.moment.units = len(fold.units)
        self.moment.generation = fold.generation
