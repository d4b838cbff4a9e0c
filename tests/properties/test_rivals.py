"""Rivals: what is true of a run however many workers, zombies, thieves and mishaps touch it.

A random workflow is run by two workers whose stores misbehave, and compared with the same run
left in peace; then again with an operator who interferes at random moments, where only the
rules are checked; then by a worker that leaves after each commit. A failing case is reported
with its plan and seed.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, note, settings
from hypothesis import strategies as st
from tests.properties.plans import KINDS, Plan, plans, workflow_of
from tests.properties.rivals import LEASE, LEASE_S, Rivalry
from tests.properties.test_crash_points import EARLY, told

from durable_core.codec.records import facts_to_text
from durable_core.kernel.event import MessageKind
from durable_core.kernel.value import Payload
from durable_core.store import Message

RIVAL_PLANS = plans((*KINDS, "transaction", "transaction"))
PLAN_S = 250.0
"""No plan takes longer than this when nothing goes wrong."""
PATIENCE_S = 3 * LEASE_S + PLAN_S


def in_peace(plan: Plan) -> Rivalry:
    rivalry = Rivalry([workflow_of(plan)], 0)

    async def main() -> None:
        await rivalry.create({"order": 1})
        await rivalry.deliver(EARLY)
        async with rivalry.workers(1):
            assert await rivalry.until_all_ended(PLAN_S)

    rivalry.live(main)
    return rivalry


def check_same(found: Rivalry, expected: Rivalry) -> None:
    assert found.record().status == expected.record().status
    ours, theirs = (Counter(map(told, r.journal())) for r in (found, expected))
    assert ours == theirs
    found.check_journals()


@settings(max_examples=250)
@given(RIVAL_PLANS, st.integers(0, 2**32), st.sampled_from([0.05, 0.2, 0.4]))
def test_mishaps_zombies_and_thieves_change_neither_result_nor_journal(
    plan: Plan, seed: int, trouble: float
) -> None:
    note(f"seed {seed}")
    rivalry = Rivalry([workflow_of(plan)], seed, trouble=trouble)

    async def main() -> None:
        await rivalry.create({"order": 1})
        await rivalry.deliver(EARLY)
        async with rivalry.workers(2):
            guests = asyncio.create_task(rivalry.come_and_go())
            for _ in range(rivalry.random.randrange(8)):
                await asyncio.sleep(rivalry.random.choice((0, 0.01, 1, 20)))
                await rivalry.expire()
            await rivalry.until_all_ended(rivalry.random.choice((10, 100, 300)))
            rivalry.calm_down()
            assert await rivalry.until_all_ended(PATIENCE_S), "the run is stuck"
            await guests

    rivalry.live(main)
    check_same(rivalry, in_peace(plan))
    rivalry.check_beginnings()


OPERATIONS = (
    Message(run_id="run", kind=MessageKind.PAUSE, anyone=True),
    Message(run_id="run", kind=MessageKind.UNPAUSE, anyone=True),
    Message(run_id="run", kind=MessageKind.RETRY, reopens=True),
    Message(run_id="run", kind=MessageKind.SIGNAL, name="go", payload=Payload(b'"again"')),
    Message(run_id="run", kind=MessageKind.CANCEL, meta=facts_to_text({"mode": "compensate"})),
    Message(
        run_id="run",
        kind=MessageKind.CANCEL,
        meta=facts_to_text({"mode": "terminate"}),
        anyone=True,
    ),
)


@settings(max_examples=250)
@given(
    RIVAL_PLANS,
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.lists(st.tuples(st.sampled_from((0, 0.01, 0.3, 2, 15, 60)), st.integers(0, 7)), max_size=8),
)
def test_whatever_an_operator_does_meanwhile_the_rules_hold_and_runs_end(
    plan: Plan, seed: int, trouble: float, does: list[tuple[float, int]]
) -> None:
    note(f"seed {seed}")
    rivalry = Rivalry([workflow_of(plan)], seed, trouble=trouble)

    async def main() -> None:
        await rivalry.create({"order": 1})
        async with rivalry.workers(2):
            guests = asyncio.create_task(rivalry.come_and_go())
            for after_s, what in does:
                await asyncio.sleep(after_s)
                if what < len(OPERATIONS):
                    record = rivalry.record()
                    again = OPERATIONS[what].kind != MessageKind.RETRY
                    if again or record.status not in ("completed", "cancelled"):
                        await rivalry.deliver(OPERATIONS[what])
                else:
                    await rivalry.expire()
            rivalry.calm_down()
            await rivalry.deliver(OPERATIONS[1])
            await guests
            assert await rivalry.until_all_ended(PATIENCE_S), "a run is stuck"

    rivalry.live(main)
    rivalry.check_journals()
    rivalry.check_beginnings()


@settings(max_examples=60)
@given(RIVAL_PLANS, st.integers(0, 2**32))
def test_a_worker_that_leaves_after_each_commit_comes_to_the_same(plan: Plan, seed: int) -> None:
    note(f"seed {seed}")
    rivalry = Rivalry([workflow_of(plan)], seed)

    async def main() -> None:
        await rivalry.create({"order": 1})
        await rivalry.deliver(EARLY)
        engine, store = rivalry.engine()
        async with engine:
            for _ in range(400):
                store.applied.clear()
                async with engine.worker(lease=LEASE, grace=0):
                    await store.applied.wait()
                if rivalry.all_ended():
                    return
        raise AssertionError("the run makes no progress")

    rivalry.live(main)
    check_same(rivalry, in_peace(plan))
