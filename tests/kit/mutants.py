"""Mutants: engines with one planted defect each, all of which the kit has to find.

Test the tests: a kit that is content with a broken engine proves nothing about a sound one.
``kill`` lets the kit loose on one mutant, ``table`` on many.

``python -m tests.kit.mutants`` prints the table; with words, of the mutants whose names hold one.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

import attrs
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from tests.kit.corpus import Case, corpus
from tests.kit.kernel_mutants import KERNEL_MUTANTS
from tests.kit.planting import Mutant, planted
from tests.kit.store_mutants import STORE_MUTANTS
from tests.kit.worker_mutants import WORKER_MUTANTS

from durable_core.testing.checks import violations
from durable_core.testing.counterexample import checked
from durable_core.testing.plan import Faults
from durable_core.testing.strategies import faults
from durable_core.testing.witness import Violation
from durable_core.testing.world import SimulationLimitError

exploring = import_module("durable_core.testing.explore")
"""The module, which stands behind the function of its name."""

MUTANTS: tuple[Mutant, ...] = (*STORE_MUTANTS, *KERNEL_MUTANTS, *WORKER_MUTANTS)

SCHEDULES_MAX = 5_000
"""Within so many schedules a mutant has to be found."""
RANDOM_PLANS = 40
"""How many plans are drawn for each case, when no single fault shows anything."""
SMALL = (
    "patient",
    "poison",
    "signals in order",
    "talk",
    "silence",
    "too late",
    "busy, then a signal",
    "started twice",
    "cancelled at the end",
    "agent: one turn",
    "saga: torn",
    "saga: waits",
    "route, sleep",
    "map, sleep",
    "agent: two tools",
    "saga: stuck",
    "signal, child",
    "step, loop",
    "tree: deep",
    "tree: fallen",
    "saga: trip",
)
"""The cases the mutants are tried on: together they have all kinds of steps and of endings."""


@attrs.frozen
class Kill:
    """What became of a mutant. ``by`` None: it survived."""

    mutant: Mutant
    by: Violation | str | None
    case: str
    plan: str
    schedules: int
    seconds: float
    met: int
    """How often the defect was met."""

    @property
    def how(self) -> str:
        """Which check found it."""
        if isinstance(self.by, Violation):
            return self.by.name or "the case's own check"
        return self.by or "SURVIVED"


class Hunt:
    """One mutant, being looked for."""

    def __init__(self, limit: int = SCHEDULES_MAX) -> None:
        self.schedules = 0
        self.limit = limit
        self.plan = Faults()

    @property
    def tired(self) -> bool:
        """Whether it has gone on for too long."""
        return self.schedules >= self.limit

    def one(self, case: Case, plan: Faults, quiet: Any = None, status: str = "") -> Any:
        """What is wrong with one schedule, if anything is."""
        self.schedules += 1
        self.plan = plan
        try:
            sim = case.simulate(plan)
        except SimulationLimitError as error:
            return Violation("I-LIVE", str(error))
        except Exception as error:
            return f"{type(error).__name__} out of the engine"
        found = violations(sim, quiet)
        if found:
            return found[0]
        said = checked(case.check, sim)
        if said is not None:
            return said[0]
        if status and sim.status != status:
            return Violation("trial", f"the run is {sim.status}, not {status}")
        return None

    def singles(self, case: Case) -> Any:
        """Every single fault, until one shows something."""
        with patch.object(exploring, "FAILURES_MAX", 1):
            try:
                report = case.explore()
            except Exception as error:
                self.schedules += 1
                return f"{type(error).__name__} out of the engine"
        self.schedules += report.schedules
        found = report.counterexample
        if found is None:
            return None
        self.plan = found.plan
        return found.violations[0]

    def trials(self, case: Case) -> Any:
        """No fault at all, and the case's own plans."""
        found = self.one(case, Faults())
        if found is not None:
            return found
        for plan, status in case.trials:
            found = self.one(case, plan, status=status)
            if found is not None:
                return found
        return None

    def drawn(self, case: Case, count: int = RANDOM_PLANS) -> Any:
        """Random plans, until one shows something."""
        found: list[Any] = []
        quiet = case.simulate(Faults())

        @seed(0)
        @settings(max_examples=count, phases=[Phase.generate], database=None, deadline=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(st.data())
        def draw(data: st.DataObject) -> None:
            plan = data.draw(faults(case.workflow, signals=case.signals))
            if not found and not self.tired:
                found.extend(filter(None, [self.one(case, plan, quiet)]))

        draw()
        return found[0] if found else None


def kill(mutant: Mutant, limit: int = SCHEDULES_MAX) -> Kill:
    """Plant the mutant and look for it: in single faults and trials, then in random plans."""
    hunt, began = Hunt(limit), time.perf_counter()
    cases = _in_order(mutant)
    found, where = None, ""
    with planted(mutant) as met, silence():
        for look in (hunt.trials, hunt.singles, hunt.drawn):
            for case in cases:
                if found is None and not hunt.tired:
                    found, where = look(case), case.name
    return Kill(
        mutant,
        found,
        where if found is not None else "",
        repr(hunt.plan) if found is not None else "",
        hunt.schedules,
        time.perf_counter() - began,
        met.times,
    )


def _in_order(mutant: Mutant) -> list[Case]:
    """The small cases, and those where the mutant is to be expected before them."""
    cases = [case for case in corpus() if case.name in SMALL or case.name == mutant.first]
    cases.sort(key=lambda case: SMALL.index(case.name) if case.name in SMALL else -1)
    likely = [case for case in cases if mutant.first and mutant.first in case.name]
    return likely + [case for case in cases if case not in likely]


@contextmanager
def silence() -> Iterator[None]:
    """A broken engine complains a lot."""
    logging.disable(logging.CRITICAL)
    try:
        with patch.object(asyncio.BaseEventLoop, "call_exception_handler", lambda *_: None):
            yield
    finally:
        logging.disable(logging.NOTSET)


# --- the table -----------------------------------------------------------------------------------


def kills(mutants: Iterable[Mutant] = MUTANTS) -> Iterator[Kill]:
    """What becomes of each."""
    for mutant in mutants:
        yield kill(mutant)


def line(one: Kill) -> str:
    """A line of the table."""
    bug = f"#{one.mutant.bug}" if one.mutant.bug else ""
    return (
        f"{one.mutant.name:<32}{bug:<5}{one.how:<24}{one.case:<20}"
        f"{one.schedules:>6,}{one.seconds:>9.1f}"
    )


HEADING = f"{'mutant':<32}{'bug':<5}{'found by':<24}{'in':<20}{'schedules':>6}{'seconds':>6}"


def table(mutants: Sequence[Mutant] = MUTANTS) -> str:
    """Hunt them all, and tell of it line by line."""
    return "\n".join([HEADING, *map(line, kills(mutants))])


def main() -> None:
    """Print the table as it comes; a survivor is an error."""
    words = sys.argv[1:]
    print(HEADING)
    survivors = 0
    for one in kills(m for m in MUTANTS if not words or any(word in m.name for word in words)):
        print(line(one), flush=True)
        survivors += one.by is None
    sys.exit(f"{survivors} survived" if survivors else 0)


if __name__ == "__main__":
    main()
