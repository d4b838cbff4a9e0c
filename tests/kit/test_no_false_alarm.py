"""What random schedules took for a broken rule, and is none: each the smallest that did."""

from __future__ import annotations

from typing import Any

import pytest

from durable_core import Retry, Workflow
from durable_core.testing import Crash, Faults, Operate, Pause, Theft, simulate, violations
from durable_core.testing.generated import Awaits, Gives, Items

once = Retry(max_attempts=1)
two = Workflow("two").step("a", Gives()).step("b", Gives())


@pytest.mark.parametrize(
    ("workflow", "plan"),
    [
        (
            Workflow("frozen").map("m", Items(2), Awaits(failing=1)),
            Faults(Pause(unit="m/0", nth=2, leases=4.0), Crash(verb="commit", nth=3), workers=1),
        ),
        (Workflow("paused").sleep("s", 1), Faults(Operate(what="pause"))),
        (
            Workflow("late").step("s", Awaits(), retry=once, transactional=True),
            Faults(Pause(unit="s"), workers=1),
        ),
        (two, Faults(Theft(), Operate(what="cancel"))),
    ],
    ids=[
        "frozen for longer than three leases",
        "a timer of a paused run",
        "a time-out that passed in a freeze",
        "one batch with commits under two leases",
    ],
)
def test_no_rule_is_broken(workflow: Workflow[Any, Any], plan: Faults) -> None:
    sim = simulate(workflow, None, plan)
    assert not sim.world.missed or plan.races
    assert violations(sim, simulate(workflow)) == [], sim.timeline()
