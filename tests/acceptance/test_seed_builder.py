"""Cases S1-S6: building a workflow, as the reference's first line asserts it, in our meaning."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.acceptance.stage import PATIENCE_S, Stage

from durable_core import (
    DefinitionError,
    Retry,
    StepContext,
    Workflow,
    WorkflowNotRegisteredError,
)


async def handler(ctx: StepContext[Any, Any]) -> str:
    return ctx.step_name


async def each(ctx: StepContext[Any, Any], value: Any) -> Any:
    return value


def every_kind() -> Workflow[Any, dict[str, Any]]:
    return (
        Workflow("every-kind")
        .step("reserve", handler)
        .parallel("check", {"price": handler, "fraud": handler})
        .map("pick", lambda ctx: [1, 2], each)
        .route("pay", lambda ctx: "card", {"card": handler})
        .loop("track", each, max_iterations=2)
        .wait_for_signal("approval", "risk.approved")
        .sleep("settle", timedelta(hours=24))
        .child("invoice", Workflow("invoicing").step("bill", handler))
    )


def test_s1_every_kind_of_step_stands_in_one_ordered_list() -> None:
    """The builder keeps steps of every kind in the order they were written; map is ours."""
    assert [(node.kind, node.name) for node in every_kind().nodes] == [
        ("step", "reserve"),
        ("parallel", "check"),
        ("map", "pick"),
        ("route", "pay"),
        ("loop", "track"),
        ("signal", "approval"),
        ("sleep", "settle"),
        ("child", "invoice"),
    ]


def test_s2_a_step_name_is_taken_once() -> None:
    """A second step of the same name is refused when it is built, naming workflow and step."""
    with pytest.raises(DefinitionError, match=r"(?s)order.*reserve.*taken"):
        Workflow("order").step("reserve", handler).step("reserve", handler)


def test_s3_a_parallel_has_an_entry() -> None:
    """A parallel without entries is refused when it is built, naming workflow and step."""
    with pytest.raises(DefinitionError, match=r"(?s)order.*check.*empty"):
        Workflow("order").parallel("check", {})


async def test_s4_a_workflow_is_known_to_the_engine_that_lists_it(stage: Stage) -> None:
    """Ours has no process-wide registry: exactly the engines that list a workflow know it."""
    order = Workflow("order").step("reserve", handler)
    async with stage.running(order) as engine:
        run = await engine.start("order")
        assert await run.result(timeout=PATIENCE_S) == {"reserve": "reserve"}
    async with stage.running(Workflow("other").step("a", handler)) as engine:
        with pytest.raises(WorkflowNotRegisteredError, match="order"):
            await engine.start("order")


def test_s5_a_step_has_three_attempts_and_exponential_backoff() -> None:
    """The defaults are three attempts in all, exponential; ours begins at 1 s and has a cap."""
    nodes: tuple[Any, ...] = Workflow("order").step("reserve", handler).nodes
    (node,) = nodes
    assert node.work.retry == Retry()
    policy = Retry()
    assert (policy.max_attempts, policy.backoff, policy.factor) == (3, "exponential", 2.0)
    assert (policy.initial, policy.max_delay) == (timedelta(seconds=1), timedelta(seconds=60))


def test_s6_a_retry_policy_is_kept_as_it_was_given() -> None:
    """What the author says of retries is what the step has; linear backoff is ``Retry.linear``."""
    policy = Retry.linear(max_attempts=7, step=timedelta(seconds=5))
    nodes: tuple[Any, ...] = Workflow("order").step("reserve", handler, retry=policy).nodes
    (node,) = nodes
    assert node.work.retry is policy
    assert node.work.retry.backoff == "linear"
    plain = Retry.linear(7, step=5, max_delay=3600, jitter=0)
    assert [plain.delay_ms(attempt, "seed") for attempt in (1, 2, 3)] == [5_000, 10_000, 15_000]
