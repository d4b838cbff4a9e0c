"""Random schedules: generated workflows under random plans, and what they add up to.

Shared by the tests, which take some hundreds, and by ``make torture``, which takes as many as it
is asked for. A schedule follows from its seed alone.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any
from zlib import crc32

import attrs
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from durable_core import Workflow
from durable_core.testing.checks import violations
from durable_core.testing.plan import Faults, SignalAt
from durable_core.testing.simulate import Signal, simulate
from durable_core.testing.simulation import Simulation
from durable_core.testing.strategies import SIGNALS, faults, workflows

Flow = Workflow[Any, Any]

INPUT = {"order": 1}
PLANS = 5
"""How many plans each workflow is put through: drawing one costs more than simulating it."""


class BrokenRuleError(AssertionError):
    """A schedule broke one of the engine's rules."""


@attrs.define
class Tally:
    """What was tried. Its text is the report of a green run."""

    schedules: int = 0
    workflows: int = 0
    twice: int = 0
    fired: Counter[str] = attrs.field(factory=Counter)
    statuses: Counter[str] = attrs.field(factory=Counter)
    states: set[int] = attrs.field(factory=set)
    began_at: float = attrs.field(factory=time.monotonic)

    def add(self, sim: Simulation) -> None:
        """Count one."""
        self.schedules += 1
        self.fired.update(sim.fired)
        self.statuses[sim.status] += 1
        self.states.add(signature(sim))

    @classmethod
    def of(cls, parts: Iterable[Tally]) -> Tally:
        """All of these together."""
        whole = cls()
        for part in parts:
            whole.schedules += part.schedules
            whole.workflows += part.workflows
            whole.twice += part.twice
            whole.fired.update(part.fired)
            whole.statuses.update(part.statuses)
            whole.states |= part.states
            whole.began_at = min(whole.began_at, part.began_at)
        return whole

    def __str__(self) -> str:
        took_s = time.monotonic() - self.began_at
        facts = {
            "schedules": self.schedules,
            "workflows": self.workflows,
            "seen twice": self.twice,
            "states": len(self.states),
            **dict(sorted(self.fired.items())),
            **dict(sorted(self.statuses.items())),
        }
        lines = [f"  {name:<20}{count:>10,}" for name, count in facts.items()]
        lines.append(f"  {'schedules a second':<20}{self.schedules / max(took_s, 0.001):>10,.0f}")
        return "\n".join(lines)


def signature(sim: Simulation) -> int:
    """Of what there is to tell ends apart: statuses, entries by kind, faults by kind."""
    runs = tuple(
        (run.status, tuple(sorted(Counter(entry.kind for _, entry in run.entries).items())))
        for run in sim.world.stored.values()
    )
    return crc32(repr((runs, sorted(sim.fired))).encode())  # the same in every process


def signals_of(workflow: Flow, *, early: bool = True) -> list[Signal]:
    """What the workflow itself waits for, sent once each."""
    names = dict.fromkeys(
        getattr(node, "signal", None) for node in workflow.nodes if node.kind == "signal"
    )
    return [Signal(name, f"{name}!", early=early) for name in names if name in SIGNALS]


def play(workflow: Flow, plan: Faults) -> Simulation:
    """Simulate one schedule."""
    late = any(isinstance(fault, SignalAt) for fault in plan.faults)
    signals = signals_of(workflow, early=not late)
    return simulate(workflow, INPUT, plan, signals=signals, resume="go on")


def judge(workflow: Flow, plan: Faults, quiet: Simulation) -> Simulation:
    """Simulate one schedule, and raise what is wrong with it."""
    sim = play(workflow, plan)
    found = violations(sim, quiet)
    if found:
        raise BrokenRuleError(
            "\n".join([*map(str, found), repr(workflow), repr(plan), sim.timeline()])
        )
    return sim


def run_seed(number: int, schedules: int, tally: Tally, *, again: int = 50) -> None:
    """So many schedules, drawn from this seed; every ``again``-th is simulated twice."""

    @seed(number)
    @settings(
        max_examples=max(1, schedules // PLANS),
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
        report_multiple_bugs=False,
    )
    @given(workflows(), st.data())
    def one(workflow: Flow, data: st.DataObject) -> None:
        quiet = judge(workflow, Faults(), play(workflow, Faults()))
        tally.workflows += 1
        plans = faults(workflow, signals=signals_of(workflow), max_faults=6)
        for _ in range(PLANS):
            plan = data.draw(plans)
            sim = judge(workflow, plan, quiet)
            tally.add(sim)
            if tally.schedules % again == 0:
                tally.twice += 1
                assert play(workflow, plan).trace == sim.trace, (workflow, plan)

    try:
        one()
    except Exception as error:
        error.add_note(f"drawn from seed {number}")
        raise


def seeds(first: int, count: int) -> list[int]:
    """Seeds that have nothing to do with each other."""
    chance = random.Random(first)
    return [chance.randrange(1 << 32) for _ in range(count)]
