"""Slots: one is free again whenever its handler has ended, or never began."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from durable_core import JsonCodec, Limits, Workflow
from durable_core.engine.attempts import Surroundings
from durable_core.engine.clock import StoreClock
from durable_core.engine.observer import Observers
from durable_core.engine.slots import Slots
from durable_core.kernel.event import AttemptStopped
from durable_core.kernel.journal import Journal
from durable_core.kernel.outcome import Attempt
from durable_core.kernel.reports import Report
from durable_core.kernel.run import RunContext
from durable_core.kernel.transition import Held
from durable_core.kernel.value import NULL
from durable_core.workflow import Lowering, Registry

CODEC = JsonCodec()


class Told:
    """Whoever is told how an attempt ended."""

    run_id = "run"
    workflow = "w"

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def may_begin(self) -> bool:
        return True

    def attempt_ended(self, report: Report) -> None:
        self.reports.append(report)

    async def transact(self, call: Any) -> Report | None:
        raise AssertionError("nothing here is transactional")


def attempt_at(handler: Callable[[Any], Any]) -> Attempt:
    workflow = Workflow("w").step("a", handler)
    run = RunContext(run_id="run", workflow="w", version="1", fingerprint="f", input=NULL)
    program = workflow.program(Lowering(codec=CODEC, registry=Registry([workflow])))
    return Held(run, program, Journal()).advance([], 0).attempts[0]


def slots_of(freed: list[int]) -> Slots:
    clock = StoreClock()
    clock.set(0)
    return Slots(
        1,
        Surroundings(
            codec=CODEC,
            limits=Limits(),
            clock=clock,
            deps=None,
            executor=lambda: ThreadPoolExecutor(1),
            entropy=bytes,
            observers=Observers(()),
            transaction_ms=1_000,
        ),
        lambda: freed.append(1),
    )


@pytest.mark.parametrize("dropped", [False, True])
async def test_an_attempt_that_is_stopped_before_it_began_gives_its_slot_back(
    dropped: bool,
) -> None:
    called: list[Any] = []
    freed: list[int] = []
    slots, told = slots_of(freed), Told()
    attempt = attempt_at(called.append)
    slots.run(attempt, told)
    if dropped:
        slots.drop(told)
    else:
        slots.stop([attempt.key], told)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (called, freed, slots.wanted) == ([], [1], 0)
    assert told.reports == ([] if dropped else [AttemptStopped(attempt.key)])


async def test_a_slot_is_free_when_its_handler_has_ended() -> None:
    freed: list[int] = []
    slots, told = slots_of(freed), Told()

    async def handler(ctx: Any) -> int:
        return 1

    slots.run(attempt_at(handler), told)
    assert slots.wanted == 1
    for _ in range(5):
        await asyncio.sleep(0)
    assert (freed, slots.wanted, len(told.reports)) == ([1], 0, 1)
