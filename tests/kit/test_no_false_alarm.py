"""What random schedules took for a broken rule, and is none: each the smallest that did."""

from __future__ import annotations

from typing import Any

import pytest

from durable_core import Retry, Workflow
from durable_core.testing import (
    Crash,
    Faults,
    Interrupt,
    Operate,
    Pause,
    StoreError,
    Theft,
    simulate,
    violations,
)
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


@pytest.mark.parametrize(
    "plan",
    [
        Faults(Interrupt(nth=28), StoreError(verb="commit"), workers=1, embedded=True),
        Faults(Crash(verb="claim"), Crash(verb="commit", when="after"), embedded=True),
        Faults(Pause(verb="commit", when="after"), workers=1, embedded=True),
    ],
    ids=["cancelled", "dead", "frozen"],
)
@pytest.mark.parametrize("on_timeout", ["continue", "fail"])
def test_a_wait_may_time_out_when_whoever_was_to_send_the_signal_is_gone(
    plan: Faults, on_timeout: Any
) -> None:
    workflow = Workflow("w").wait_for_signal("s", "go", timeout=1.0, on_timeout=on_timeout)
    signals = {"go": "go!"}
    sim = simulate(workflow, None, plan, signals=signals)
    assert any(entry.kind in ("wait_timed_out", "unit_failed") for entry in sim.journal)
    assert violations(sim, simulate(workflow, None, signals=signals)) == [], sim.timeline()


def test_there_is_no_such_excuse_where_nothing_went_wrong() -> None:
    workflow = Workflow("w").wait_for_signal("s", "go", timeout=1.0, on_timeout="continue")
    quiet = simulate(workflow, None, signals={"go": "go!"})
    late = simulate(workflow, None, Faults(embedded=True))
    assert [one.name for one in violations(late, quiet)] == ["I-CRASH"] * 2
