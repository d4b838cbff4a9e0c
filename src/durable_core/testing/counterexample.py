"""Counterexample: a plan under which something is not as it should be, told to a person."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from textwrap import indent
from typing import Any

import attrs

from ..errors import DurableError
from .plan import Faults
from .simulation import Simulation
from .timeline import TROUBLE
from .witness import WORKFLOW, Violation

CHECK = "check"
"""The name of a violation that the user's own ``check`` found."""
SPOKEN = {CHECK: "Your check failed", WORKFLOW: "The workflow is wrong"}


class CounterexampleError(DurableError, AssertionError):
    """A schedule was found that breaks a rule or an assertion; ``counterexample`` is it."""

    def __init__(self, counterexample: Counterexample) -> None:
        self.counterexample = counterexample
        super().__init__(str(counterexample))


@attrs.frozen(slots=True)
class Counterexample:
    """The smallest plan that was found, what came of it, and what is wrong with that."""

    plan: Faults
    sim: Simulation
    violations: tuple[Violation, ...]
    error: BaseException | None = None
    """What the user's ``check`` raised."""

    @property
    def size(self) -> tuple[int, bool, int, str]:
        """Fewer faults are smaller, then a plan that is not embedded, then a shorter timeline."""
        plan = self.plan
        return len(plan), plan.embedded, len(self.sim.world.chronicle), repr(plan)

    def __str__(self) -> str:
        first, *more = self.violations
        event = _event_of(self.sim) if first.event is None else first.event
        parts = [f"{_name(first)} {_place(self.sim, first, event)}: {first.sentence}"]
        if first.expected or first.found:
            parts.append(
                f"  expected: {first.expected or 'nothing'}\n  found:    {first.found or 'nothing'}"
            )
        for other in more[:MORE]:
            parts.append(f"also {_name(other)}: {other.sentence}")
        if len(more) > MORE:
            parts.append(f"and {len(more) - MORE} more")
        parts.append(f"\nThe plan:\n  {self.plan!r}")
        parts.append(f"\nThe timeline:\n{indent(self.sim.timeline(event), '  ')}")
        return "\n".join(parts)


MORE = 3
"""How many violations are told besides the first."""


def checked(
    check: Callable[[Simulation], Any], sim: Simulation
) -> tuple[Violation, Exception] | None:
    """What the user's ``check`` has against a simulation."""
    try:
        check(sim)
    except Exception as error:
        said = str(error) or _source(error)
        if not isinstance(error, AssertionError):
            said = f"{type(error).__name__}: {said}"
        return Violation(CHECK, said, _unit_of(sim)), error
    return None


def _source(error: BaseException) -> str:
    """The line that raised it, for an assertion without words."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    return linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno).strip()


def _name(violation: Violation) -> str:
    return SPOKEN.get(violation.name, f"{violation.name} is broken")


def _place(sim: Simulation, violation: Violation, event: int | None) -> str:
    place = f"at unit {violation.unit!r}" if violation.unit else "by the run"
    if event is None:
        return place
    moment = sim.world.chronicle[event]
    return f"{place}, {moment.at_s:.3f} s, {moment.process}"


def _event_of(sim: Simulation) -> int | None:
    """Where the last thing went wrong, else the end."""
    chronicle = sim.world.chronicle
    troubles = [number for number, one in enumerate(chronicle) if one.what.startswith(TROUBLE)]
    return troubles[-1] if troubles else len(chronicle) - 1 if chronicle else None


def _unit_of(sim: Simulation) -> str:
    units: Sequence[str] = [
        unit for fault in sim.plan.faults if (unit := getattr(fault, "unit", None)) is not None
    ]
    return units[-1] if units else ""
