"""Forking: which entries of a journal a fork inherits; pure."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ...errors import DurableError
from ...kernel import journal as j
from ...kernel.fold import Fold
from ...kernel.ids import UnitKey
from ...kernel.tables import UNIT_ENDED, UNIT_KINDS, UNIT_MOVES, UnitStatus


def inherited(run_id: str, entries: Sequence[j.Entry], from_step: str) -> tuple[j.Entry, ...]:
    """The entries of every unit that ended before ``from_step`` began, then ``run_forked``.

    ``from_step`` is a step's name or a unit's path. What was under way, undone, or forgotten by a
    retry is left out, and so are the run's own entries. Raises ``DurableError`` when the run has
    not come to that step.
    """
    units = _lifetimes(run_id, entries)
    begun = [
        found[0].seq
        for unit, found in units.items()
        if unit.step == from_step or str(unit) == from_step
    ]
    if not begun:
        steps = dict.fromkeys(unit.step for unit in units)
        known = ", ".join(repr(step) for step in steps) or "none yet"
        raise DurableError(
            f"from_step: run {run_id!r} has not come to a step {from_step!r:.100}; "
            f"the steps in its journal are: {known}"
        )
    cut = min(begun)
    kept = sorted(
        (entry for found in units.values() if _ended_before(found, cut) for entry in found),
        key=lambda entry: entry.seq,
    )
    copied = [attrs.evolve(entry, seq=seq) for seq, entry in enumerate(kept, 1)]
    at_ms = entries[-1].at_ms
    return (*copied, j.RunForked(seq=len(copied) + 1, at_ms=at_ms, source_id=run_id))


def _lifetimes(run_id: str, entries: Sequence[j.Entry]) -> dict[UnitKey, list[j.Entry]]:
    """The entries of each unit since it last began."""
    fold = Fold(run_id)
    units: dict[UnitKey, list[j.Entry]] = {}
    for entry in entries:
        fold.apply(entry)
        if isinstance(entry, j.RunRetried):
            units = {unit: found for unit, found in units.items() if unit in fold.units}
        elif entry.kind in UNIT_KINDS:
            units.setdefault(entry.unit, []).append(entry)
    return units


def _ended_before(entries: Sequence[j.Entry], cut: int) -> bool:
    status = UnitStatus.NEW
    for entry in entries:
        status = UNIT_MOVES[status][entry.kind]
    return status in UNIT_ENDED and entries[-1].seq < cut
