"""Mishaps: which faults of a plan are still to happen, and what has happened of it.

A fault happens once, at its place; ``Raising`` and ``StoreError`` as often as they say. Whoever
stands at a place asks here whether something goes wrong there, and does it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from .plan import Fault, Faults, Interrupt, Raising, StoreError


class Mishaps:
    """One plan on its way. ``seconds`` gives the virtual time."""

    def __init__(self, plan: Faults, seconds: Callable[[], float]) -> None:
        self.fired: Counter[str] = Counter()
        """How often each kind of fault happened."""
        self.happened: list[Fault] = []
        """What happened, in order."""
        self.over_s = 0.0
        """When the last one was over."""
        self.interrupts = {fault.nth for fault in plan.faults if isinstance(fault, Interrupt)}
        """The turns at which a worker is to be cancelled."""
        self.pending = {id(fault): fault for fault in plan.faults}
        self._plan = plan
        self._seconds = seconds

    def take(self, kind: type[Any], **place: Any) -> Any:
        """The fault of this kind for this place, if the plan has one; it happens now."""
        for fault in self.pending.values():
            if type(fault) is kind and all(
                getattr(fault, name) == value for name, value in place.items()
            ):
                self._happens(fault)
                return fault
        return None

    def raising(self, unit: str, nth: int) -> Raising | None:
        """What makes the unit's nth call raise."""
        for fault in self._plan.faults:
            if isinstance(fault, Raising) and fault.unit == unit and nth <= fault.times:
                self._happens(fault)
                return fault
        return None

    def store_error(self, verb: str, nth: int) -> StoreError | None:
        """What makes the nth call of the verb fail."""
        for fault in self._plan.faults:
            if (
                isinstance(fault, StoreError)
                and fault.verb == verb
                and 0 <= nth - fault.nth < (fault.times)
            ):
                self._happens(fault)
                return fault
        return None

    def lasts(self, seconds: float = 0.0) -> None:
        """What has just happened goes on for so long from now."""
        self.over_s = max(self.over_s, self._seconds() + seconds)

    def _happens(self, fault: Fault) -> None:
        self.pending.pop(id(fault), None)
        self.fired[type(fault).__name__] += 1
        self.happened.append(fault)
        self.lasts()
