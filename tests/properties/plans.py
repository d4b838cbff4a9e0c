"""Plans: random workflows of all kinds, built from plain data.

Handlers are deterministic: what attempt n of a unit comes to is scripted, and its value is a
function of what it reads. Compensators leave nothing but their entries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from hypothesis import strategies as st

from durable_core.kernel.failure import Failure
from durable_core.kernel.policy import Retry
from durable_core.workflow import SKIP, Branch, StepContext, Undo, Workflow

Context = StepContext[Any, Any]
QUICK = Retry(max_attempts=3, initial=1, jitter=0.5)


class Refused(Exception):
    """What scripted handlers raise."""


@attrs.frozen
class Block:
    """One step: its kind, a size, how many attempts fail (3: all), whether it can be undone."""

    kind: str
    size: int
    failing: int
    undo: bool
    plain: bool
    undo_failing: int


@attrs.frozen
class Plan:
    """A workflow as data."""

    blocks: tuple[Block, ...]
    returns: bool


KINDS = ("step", "step", "parallel", "map", "route", "loop", "sleep", "wait", "child")


def blocks(kinds: tuple[str, ...]) -> st.SearchStrategy[Block]:
    return st.builds(
        Block,
        kind=st.sampled_from(kinds),
        size=st.integers(1, 3),
        failing=st.sampled_from([0, 0, 0, 1, 2, 3]),
        undo=st.booleans(),
        plain=st.booleans(),
        undo_failing=st.sampled_from([0, 0, 1]),
    )


def plans(kinds: tuple[str, ...] = KINDS) -> st.SearchStrategy[Plan]:
    """Random plans of one to five steps."""
    return st.builds(
        Plan,
        blocks=st.lists(blocks(kinds), min_size=1, max_size=5).map(tuple),
        returns=st.booleans(),
    )


def workflow_of(plan: Plan, name: str = "main") -> Workflow[Any, Any]:
    """The workflow a plan describes."""
    workflow: Workflow[Any, Any] = Workflow(name)
    for index, block in enumerate(plan.blocks):
        workflow = _add(workflow, f"s{index}", block)
    if plan.returns:
        workflow = workflow.returns(lambda c: {"read": sorted(c.results), "run": c.input})
    return workflow


def _add(workflow: Workflow[Any, Any], name: str, block: Block) -> Workflow[Any, Any]:
    undo = Undo(_undoing(block), retry=QUICK) if block.undo else None
    size = block.size
    match block.kind:
        case "step":
            return workflow.step(name, _handler(block), compensate=undo, retry=QUICK)
        case "transaction":
            return workflow.step(
                name, _handler(block), transactional=True, compensate=undo, retry=QUICK
            )
        case "parallel":
            entries = {
                f"{name}e{i}": Branch(_handler(block, i), compensate=undo, retry=QUICK)
                for i in range(size)
            }
            return workflow.parallel(name, entries, max_concurrency=2)
        case "map":
            return workflow.map(
                name,
                lambda c: list(range(size)),
                _handler(block, None),
                min_success=1 if size > 1 else None,
                compensate=undo,
                retry=QUICK,
            )
        case "route":
            key = "left" if size % 2 else "nowhere"
            branch = Branch(_handler(block), compensate=undo, retry=QUICK)
            return workflow.route(name, lambda c: key, {"left": branch}, otherwise=SKIP)
        case "loop":
            return workflow.loop(
                name,
                lambda c, value: _act(c, block, None) + value,
                initial=lambda c: 1,
                until=lambda result, n: n >= size,
                feedback=lambda result: result,
                max_iterations=5,
                collect=size == 3,
                compensate=undo,
                retry=QUICK,
            )
        case "sleep":
            return workflow.sleep(name, size * 10)
        case "wait":
            return workflow.wait_for_signal(
                name, "go" if size > 1 else "never", timeout=size * 5, on_timeout="continue"
            )
        case _:
            inner = Plan((attrs.evolve(block, kind="step"),), returns=False)
            return workflow.child(name, workflow_of(inner, f"child{name}"))


def _handler(block: Block, index: int | None = 0) -> Callable[[Context], Any]:
    if block.plain:
        return lambda c: _act(c, block, index)

    async def handler(c: Context) -> Any:
        await c.deps.pause()
        return _act(c, block, index)

    return handler


def _act(c: Context, block: Block, index: int | None) -> int:
    """Only the first entry, item or iteration is scripted to fail."""
    machine = c.deps
    machine.started[(c.run_id, c.unit, c.idempotency_key)] += 1
    first = c.unit.rsplit("/", 1)[-1] in (c.unit, "0", "left") or c.unit.endswith("e0")
    if first and c.attempt <= block.failing:
        raise Refused(f"attempt {c.attempt}")
    return sum(1 for value in c.results.values() if not isinstance(value, Failure)) + block.size


def _undoing(block: Block) -> Callable[[Context], Any]:
    async def undo(c: Context) -> None:
        assert c.value is not None
        if c.attempt <= block.undo_failing:
            raise Refused("not yet")

    return undo
