"""Slots: one is free again whenever its handler has ended, or never began."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from durable_core import JsonCodec, Limits, Workflow
from durable_core.engine.clock import StoreClock
from durable_core.engine.observer import Observers
from durable_core.engine.worker.attempts import Surroundings
from durable_core.engine.worker.slots import Slots
from durable_core.kernel.event import AttemptStopped
from durable_core.kernel.ids import UnitKey
from durable_core.kernel.journal import Journal
from durable_core.kernel.outcome import Attempt, AttemptKey
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


def slots_of(freed: list[int], count: int = 1, **limits: Any) -> Slots:
    clock = StoreClock()
    clock.set(0)
    return Slots(
        count,
        Surroundings(
            codec=CODEC,
            limits=Limits(**limits),
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


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))])
async def test_of_many_calls_of_a_run_each_can_end_and_each_that_is_left_be_stopped(
    order: tuple[int, ...],
) -> None:
    freed: list[int] = []
    slots, told = slots_of(freed, count=4), Told()
    gates = [asyncio.Event() for _ in order]

    def attempt(number: int) -> Attempt:
        async def handler(ctx: Any) -> int:
            await gates[number].wait()
            return number

        one = attempt_at(handler)
        one.key = AttemptKey(UnitKey.of(str(number)))
        return one

    attempts = [attempt(number) for number in range(4)]
    for one in attempts:
        slots.run(one, told)
    first, second, *left = order
    for number in (first, second):
        gates[number].set()
        await asyncio.sleep(0.001)
    slots.stop([attempts[left[0]].key], told)
    await asyncio.sleep(0.001)
    slots.stop_all(told)
    await asyncio.sleep(0.001)
    assert [report.key for report in told.reports] == [attempts[number].key for number in order]
    assert [isinstance(report, AttemptStopped) for report in told.reports] == [0, 0, 1, 1]
    assert (slots.wanted, len(freed)) == (0, 4)


@pytest.mark.parametrize("waits", [False, True], ids=["at work", "waiting"])
async def test_a_retry_is_stopped_though_the_attempt_before_it_was_abandoned(waits: bool) -> None:
    """Both have one key, and the abandoned one keeps its slot until it ends."""
    freed: list[int] = []
    slots = slots_of(freed, count=2 if waits else 3, cancel_grace=timedelta(0))
    told, end = Told(), asyncio.Event()
    began: list[str] = []

    def attempt(key: str, name: str, *, stubborn: bool = False) -> Attempt:
        async def handler(ctx: Any) -> None:
            began.append(name)
            while not end.is_set():
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    if not stubborn:
                        raise

        one = attempt_at(handler)
        one.key = AttemptKey(UnitKey.of(key))
        return one

    async def turns() -> None:
        for _ in range(10):
            await asyncio.sleep(0.001)

    other, first = attempt("other", "other"), attempt("unit", "first", stubborn=True)
    slots.run(other, told)
    slots.run(first, told)
    await turns()
    slots.stop([first.key], told)
    await turns()
    assert told.reports == [AttemptStopped(first.key)]
    retry = attempt("unit", "retry")
    slots.run(retry, told)
    await turns()
    slots.stop([other.key, retry.key], told)
    await turns()
    stopped = {report.key for report in told.reports[1:]}
    assert (stopped, len(told.reports)) == ({other.key, retry.key}, 3)
    assert began == ["other", "first", *([] if waits else ["retry"])]
    end.set()
    await turns()
    assert slots.wanted == 0
    assert len(told.reports) == 3
