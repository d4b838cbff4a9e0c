"""An agent under every crash: what the journal has is never asked for, nor done, again."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import Agent
from tests.agents.scripted import Script, calls, heard

from durable_core import WorkflowContext, current_step, workflow
from durable_core.testing import Crash, Faults, Signal, simulate
from durable_pydantic_ai import DurableAgent


class Disk:
    """The world outside: what was done to it stays done, and knows by whom."""

    def __init__(self) -> None:
        self.deleted: dict[str, str] = {}


SCRIPT = Script(
    calls(("c1", "look", {"path": "old"}), ("c2", "look", {"path": "new"})),
    calls(("c3", "delete", {"path": "old"})),
    heard,
)
agent: Agent[Disk] = Agent(SCRIPT.model, name="cleaner", instructions="Keep what is new.")


@agent.tool_plain
async def look(path: str) -> str:
    return f"{path} is there"


@agent.tool_plain(requires_approval=True)
async def delete(path: str) -> str:
    step = current_step()
    step.deps.deleted[step.idempotency_key] = path
    return f"{path} is gone"


# One call at a time: a simulated crash drops whatever else is in the air, and Python then tells of
# the task groups that the agent could not leave in order.
durable = DurableAgent(agent, max_concurrency=1)


@workflow
async def clean(ctx: WorkflowContext[Disk], task: str) -> str:
    return (await durable.run(ctx, task, deps=ctx.deps)).output


APPROVED = [Signal("approval.c3", {"approved": True})]


def deleted_once(sim: Any) -> None:
    assert sim.status == "completed"
    assert sim.result == "old is gone"
    assert list(sim.deps.deleted.values()) == ["old"]


UNITS = [
    *("model", "response", "tool.look", "tool.look#2", "model#2", "response#2"),
    *("tool.delete", "model#3", "response#3"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("unit", UNITS)
def test_a_crash_at_any_unit_leads_to_the_same_end(unit: str, when: Any) -> None:
    plan = Faults(Crash(unit=f"cleaner.{unit}", when=when))

    sim = simulate(clean, "tidy up", plan, deps=Disk, signals=APPROVED)

    deleted_once(sim)
    assert sim.invocations(f"cleaner.{unit}") == 2


@pytest.mark.parametrize("nth", range(1, 11))
def test_a_crash_before_any_commit_leads_to_the_same_end(nth: int) -> None:
    plan = Faults(Crash(verb="commit", nth=nth, when="before"))

    deleted_once(simulate(clean, "tidy up", plan, deps=Disk, signals=APPROVED))


def test_a_finished_request_of_the_model_is_not_made_again() -> None:
    SCRIPT.asked.clear()
    plan = Faults(Crash(unit="cleaner.tool.delete", when="after"))

    sim = simulate(clean, "tidy up", plan, deps=Disk, signals=APPROVED)

    deleted_once(sim)
    assert sim.invocations("cleaner.tool.delete") == 2
    assert SCRIPT.asked == [0, 1, 2]


def test_a_request_that_was_in_the_air_is_made_again_and_nothing_before_it() -> None:
    SCRIPT.asked.clear()
    plan = Faults(Crash(unit="cleaner.model#2", when="after"))

    sim = simulate(clean, "tidy up", plan, deps=Disk, signals=APPROVED)

    deleted_once(sim)
    assert SCRIPT.asked == [0, 1, 1, 2]
    assert sim.invocations("cleaner.tool.look") == 1
