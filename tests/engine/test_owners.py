"""Owners: a worker that claims its own runs again lives; one of the same name need not be it."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.engine.stage import PATIENCE_S, Stage, Watch

from durable_core import StepContext, Workflow
from durable_core.engine.observer import RunClaimed
from durable_core.engine.owner import name_of
from durable_core.errors import StoreUnavailableError
from durable_core.store import ClaimBatch, ClaimRequest, Store

Ctx = StepContext[Any, Any]

LEASE_S = 0.3


async def one(ctx: Ctx) -> int:
    return 1


WORKFLOW = Workflow("w").step("a", one)


def deaths_at_claims(watch: Watch) -> list[int]:
    return [event.deaths for event in watch.events if isinstance(event, RunClaimed)]


def losing_answers(store: Store, times: int) -> tuple[list[str], asyncio.Event]:
    """Claims that found something are done, and not answered so often. Who claimed, and whether
    anybody has."""
    claim = store.claim
    owners: list[str] = []
    claimed = asyncio.Event()

    async def unanswered(request: ClaimRequest) -> ClaimBatch:
        batch = await claim(request)
        if batch.runs:
            owners.append(request.worker)
            claimed.set()
            if len(owners) <= times:
                raise StoreUnavailableError("the answer is lost", outcome_unknown=True)
        return batch

    store.claim = unanswered  # type: ignore[method-assign]
    return owners, claimed


async def test_a_worker_whose_claim_was_not_answered_is_not_charged_with_a_death(
    stage: Stage,
) -> None:
    store = stage.store()
    owners, _ = losing_answers(store, times=2)
    async with stage.engine(WORKFLOW, store=store) as engine:
        run = await engine.start(WORKFLOW)
        async with engine.worker(lease=LEASE_S):
            assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    assert deaths_at_claims(stage.watch) == [0]
    assert len(owners) == 3 and len(set(owners)) == 1


async def test_a_worker_started_again_under_its_name_is_another_owner(stage: Stage) -> None:
    """The first start claims, and never hears of it, as if it had been killed."""
    store = stage.store()
    owners, claimed = losing_answers(store, times=1)
    async with stage.engine(WORKFLOW, store=store) as engine:
        run = await engine.start(WORKFLOW)
        async with engine.worker(lease=LEASE_S, name="w1"):
            await asyncio.wait_for(claimed.wait(), PATIENCE_S)
        async with engine.worker(lease=LEASE_S, name="w1"):
            assert await run.result(timeout=PATIENCE_S) == {"a": 1}
    assert deaths_at_claims(stage.watch) == [1]
    assert len(set(owners)) == 2
    assert {name_of(owner) for owner in owners} == {"w1"}


async def test_people_are_shown_the_name_alone(stage: Stage) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def waits(ctx: Ctx) -> int:
        begun.set()
        await go_on.wait()
        return 1

    workflow = Workflow("w").step("a", waits)
    async with stage.running(workflow, worker={"name": "w#1"}) as engine:
        run = await engine.start(workflow)
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        explanation = await run.explain()
        go_on.set()
        await run.result(timeout=PATIENCE_S)
    assert explanation.facts["worker"] == "w#1"
    assert "on worker 'w#1';" in str(explanation)
    assert [event.worker for event in stage.watch.events if isinstance(event, RunClaimed)] == [
        "w#1"
    ]
