"""Recorder: what a program has recorded between two asks, without waiting for it.

A body of code may want the time, or whether it is new, in the middle of an expression, where it
cannot ask and wait. What is told here is an entry like any other: of the transition that is being
drawn up when the program runs for the first time, and read back from the journal ever after.
Rules:

1. The program ran here before exactly when it is catching up with a journal that has units of
   this generation: the entries of one transition land together, so what it recorded here then
   must be there now.
2. A value that is missing, where something that is recorded is still to come, means that the
   program has changed, and so does a kind that differs; only ``patched`` expects that, and says no.
   Behind all that is recorded it may have changed at will: there a value is recorded as at first.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from . import journal as j
from .draft import Draft
from .empty import NO_DICT
from .failure import Failure
from .fold import Fold
from .ids import UnitKey
from .nondeterminism import nondeterminism
from .step import Call, Child, Undo
from .value import NULL, Payload


class UnitLimit(Exception):
    """The run has as many units as it may have; the program fails with this."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Recorder:
    """What one live program had recorded; it is told of the draft of each transition."""

    __slots__ = ("_fold", "_run_id", "asked", "draft", "replaying", "undos", "units")

    def __init__(self, run_id: str, fold: Fold, draft: Draft) -> None:
        self._run_id = run_id
        self._fold = fold
        self.draft = draft
        """The transition that is being drawn up; gone when it is."""
        self.replaying = not fold.going or fold.has_begun
        """Whether the program is only catching up with what it did before."""
        self.units: dict[UnitKey, None] = NO_DICT
        """What was asked for here."""
        self.asked: Container[UnitKey] = ()
        """The steps that were asked for."""
        self.undos: dict[UnitKey, tuple[Call | Child | None, Undo]] = NO_DICT
        """Whatever a rollback may have to call; the steps' own compensators too."""

    @property
    def generation(self) -> int:
        """The run's current generation, from 1."""
        return self._fold.generation

    def value(self, unit: UnitKey, compute: Callable[[int], Payload]) -> Payload:
        """The value recorded for this unit; at first ``compute(now_ms)``, which is recorded.

        Raises ``NondeterminismError`` when the run passed here before and recorded none.
        """
        if self._is_recorded(unit, "value_recorded"):
            return self._fold.units[unit].payload or NULL
        self._refuse_if_passed(unit, "a value")
        payload = compute(self.draft.now_ms)
        self._record(j.ValueRecorded, unit, payload=payload)
        return payload

    def patched(self, unit: UnitKey) -> bool:
        """Whether the run came here first by code that asks so; recorded when it did."""
        if self._is_recorded(unit, "value_recorded"):
            return True
        if self.replaying or self._is_behind():
            return False
        self._record(j.ValueRecorded, unit, payload=NULL)
        return True

    def undo(self, unit: UnitKey, undo: Undo) -> None:
        """From now on a rollback calls this, at its place in the order of commits.

        Raises ``NondeterminismError`` like ``value``.
        """
        if not self._is_recorded(unit, "undo_registered"):
            self._refuse_if_passed(unit, "an undo")
            self._record(j.UndoRegistered, unit)
        self.know(unit, None, undo)

    def know(self, unit: UnitKey, step: Call | Child | None, undo: Undo) -> None:
        """A rollback may have to call this."""
        self.undos = self.undos or {}
        self.undos[unit] = (step, undo)

    def _is_behind(self) -> bool:
        """Whether something is recorded that was not asked for yet: after a retry, what was kept;
        in a fork, what was inherited. Then the run has passed here before."""
        return any(unit not in self.units and unit not in self.asked for unit in self._fold.units)

    def _is_recorded(self, unit: UnitKey, family: str) -> bool:
        self.units = self.units or {}
        self.units[unit] = None
        state = self._fold.units.get(unit)
        if state is None:
            return False
        if state.family != family:
            raise nondeterminism(
                self._run_id, unit, recorded=f"a {state.family}", asked=f"a {family}"
            )
        return True

    def _refuse_if_passed(self, unit: UnitKey, what: str) -> None:
        if self.replaying and (not self._fold.going or self._is_behind()):
            self.units.pop(unit, None)
            raise nondeterminism(self._run_id, unit, recorded="nothing", asked=f"{what} of it")

    def _record(self, kind: Callable[..., j.Entry], unit: UnitKey, **fields: Any) -> None:
        units, most = len(self._fold.units), self.draft.run.limits.units
        if units >= most:
            raise UnitLimit(
                Failure(
                    type="LimitExceededError",
                    message=f"the run has {units} units, the most it may have "
                    f"(Limits.units); {str(unit)!r} was not recorded",
                )
            )
        self.draft.record(kind, unit, **fields)
