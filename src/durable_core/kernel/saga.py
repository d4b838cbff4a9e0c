"""Saga: which compensations are due, in which order, and how a rollback ends.

The compensated set is exactly the completed units with a compensator that the run itself
completed (not those a fork inherited), in strict reverse commit order, one at a time. A
compensation that fails for good does not stop the others; it makes the run end
``compensation_failed``.
"""

from __future__ import annotations

from collections.abc import Container

from .fold import Fold
from .ids import UnitKey
from .run import RunStatus
from .tables import UnitStatus


def pending(fold: Fold, compensable: Container[UnitKey]) -> list[UnitKey]:
    """Units still to be undone, in commit order: the last is the next."""
    return [
        unit
        for unit in fold.completed
        if unit in compensable
        and not fold.units[unit].inherited
        and not (unit in fold.undos and fold.undos[unit].ended)
    ]


def not_undone(fold: Fold) -> tuple[str, ...]:
    """Paths of the units whose compensation failed for good, in commit order."""
    return tuple(
        str(unit)
        for unit in fold.completed
        if unit in fold.undos and fold.undos[unit].status is UnitStatus.FAILED
    )


def final_status(cause: str, failed: tuple[str, ...]) -> RunStatus:
    """How a run ends whose rollback is over, by its cause and the units not undone."""
    if failed:
        return RunStatus.COMPENSATION_FAILED
    return RunStatus.FAILED if cause == "failed" else RunStatus.CANCELLED
