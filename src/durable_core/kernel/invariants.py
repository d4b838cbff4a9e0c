"""Invariants: the named rules, checked on both sides of the store.

``check_transition`` stands before every commit and is constant in the length of the journal;
``Fold`` checks each entry (I-SEQ, I-ONCE, I-LEGAL, I-FINAL) as it is appended and again as it
is read back; ``check_journal`` looks at a whole journal, for tests and for the testing kit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import InvariantError
from . import journal as j
from .fold import Fold
from .ids import UnitKey
from .outcome import Transition
from .run import RunStatus
from .tables import RUN_MOVES


def check_transition(run_id: str, before: RunStatus, transition: Transition) -> None:
    """Refuse a transition that would break a rule. Raises ``InvariantError``."""
    for name, broken in _transition_rules(before, transition):
        if broken:
            raise InvariantError(
                f"{name} would be broken by a transition of run {run_id!r} after entry "
                f"{transition.after_seq}: {broken}; nothing was written; please report this"
            )


def _transition_rules(before: RunStatus, transition: Transition) -> Iterator[tuple[str, str]]:
    expected = transition.after_seq
    for entry in transition.entries:
        expected += 1
        if entry.seq != expected:
            yield "I-SEQ", f"entry {entry.seq} stands where {expected} should"
    after = transition.status
    if after is not before and after not in RUN_MOVES[before] and not _reopens(transition):
        yield "I-LEGAL", f"the status cannot move from {before.value} to {after.value}"
    if transition.ended != after.terminal:
        yield "I-FINAL", f"status {after.value} disagrees with ended={transition.ended}"
    if transition.ended and (transition.attempts or transition.release):
        yield "I-FINAL", "an ended run has nothing to start and no lease to give back"
    if transition.release and transition.attempts:
        yield "I-LIVE", "attempts are started on a lease that is given up"
    timed = transition.resume_at_ms is not None
    if transition.release and (transition.claim_at_ms is not None) != timed:
        yield "I-LIVE", "the run is given up, and would not be claimed for its next moment"
    if transition.release and not timed and not transition.waiting:
        yield "I-LIVE", "the run is given up with no due time, and waits for nothing"


def _reopens(transition: Transition) -> bool:
    return any(isinstance(e, j.RunRetried | j.RollbackRequested) for e in transition.entries)


def check_journal(run_id: str, entries: Sequence[j.Entry]) -> Fold:
    """The fold of a journal that keeps the rules. Raises ``EncodingError`` where an entry cannot
    follow (I-SEQ, I-ONCE, I-LEGAL, I-FINAL) and ``InvariantError`` for I-REVERSE."""
    fold = Fold.of(run_id, entries)
    _check_reverse(run_id, entries)
    return fold


def _check_reverse(run_id: str, entries: Sequence[j.Entry]) -> None:
    """Compensations are settled in strict reverse order of commit, within a generation."""
    committed: dict[UnitKey, int] = {}
    last: int | None = None
    for entry in entries:
        if isinstance(entry, j.UnitCompleted | j.ChildCompleted | j.UndoRegistered):
            committed[entry.unit] = entry.seq
        elif isinstance(entry, j.RunRetried | j.RollbackStarted):
            last = None
        elif isinstance(entry, j.UnitCompensated | j.CompensationFailed):
            seq = committed[entry.unit]
            if last is not None and seq > last:
                raise InvariantError(
                    f"I-REVERSE is broken in run {run_id!r}: unit {str(entry.unit)!r} was "
                    f"committed after a unit that was undone before it"
                )
            last = seq
