"""The driver of these tests does what its text says."""

from __future__ import annotations

import pytest
from tests.workflow.driver import drive

from durable_core.workflow import StepContext, Workflow

Context = StepContext[None, None]


def test_it_records_and_replays_without_calling_again() -> None:
    run = drive(Workflow("w").step("a", lambda ctx: 1))
    again = run.replay()
    assert (run.calls, again.calls) == (["a"], [])
    assert run.result == again.result == {"a": 1}


def test_it_calls_async_handlers_that_do_not_wait() -> None:
    async def handler(ctx: Context) -> int:
        return 2

    assert drive(Workflow("w").step("a", handler)).result == {"a": 2}


def test_a_failure_is_final() -> None:
    def handler(ctx: Context) -> int:
        raise ValueError("no")

    run = drive(Workflow("w").step("a", handler))
    assert str(run.failure) == "ValueError: no"
    with pytest.raises(AssertionError, match=r"did not complete"):
        _ = run.result
