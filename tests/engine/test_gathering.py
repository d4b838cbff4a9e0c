"""Starts made at the same time share a transaction, and nothing but that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from durable_core.engine.client.gathering import BATCH, Gathering
from durable_core.errors import DurableError, StoreUnavailableError
from durable_core.kernel.value import NULL
from durable_core.store import CreateResult, NewRun, Store
from durable_core.testing.virtual_time import VirtualTime


def new(name: str) -> NewRun:
    return NewRun(
        run_id=name, workflow="w", version="1", fingerprint="f", queue="q", input=NULL, digest="d"
    )


class Creates:
    """A store that answers with what it was asked for, when it is let."""

    def __init__(self, refuses: str = "", error: Exception | None = None) -> None:
        self.calls: list[list[str]] = []
        self.called = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self._refuses = refuses
        self._error = error

    async def create(self, runs: Sequence[NewRun], *, conn: Any = None) -> tuple[Any, ...]:
        names = [run.run_id for run in runs]
        self.calls.append(names)
        self.called.set()
        await self.gate.wait()
        if self._error is not None and self._refuses in names:
            raise self._error
        return tuple(names)


def gathering(store: Creates) -> Gathering[NewRun, CreateResult]:
    return Gathering(cast(Store, store).create)


async def ask(gathered: Gathering[NewRun, CreateResult], *names: str) -> list[Any]:
    return await asyncio.gather(
        *(gathered.ask(new(name)) for name in names), return_exceptions=True
    )


async def test_starts_at_one_time_are_one_call_and_each_has_its_own_answer() -> None:
    store = Creates()
    assert await ask(gathering(store), "a", "b", "c") == ["a", "b", "c"]
    assert store.calls == [["a", "b", "c"]]


async def test_what_comes_while_a_batch_is_written_is_the_next_one() -> None:
    store = Creates()
    store.gate.clear()
    gathered = gathering(store)
    first = asyncio.ensure_future(ask(gathered, "a"))
    await store.called.wait()
    others = asyncio.ensure_future(ask(gathered, "b", "c"))
    await asyncio.sleep(0)
    store.gate.set()
    assert await first == ["a"]
    assert await others == ["b", "c"]
    assert store.calls == [["a"], ["b", "c"]]


async def test_a_batch_is_not_without_end() -> None:
    store = Creates()
    names = [f"r{index}" for index in range(BATCH + 1)]
    assert await ask(gathering(store), *names) == names
    assert [len(call) for call in store.calls] == [BATCH, 1]


async def test_a_run_the_store_refuses_fails_alone() -> None:
    error = DurableError("no")
    store = Creates("b", error)
    assert await ask(gathering(store), "a", "b", "c") == ["a", error, "c"]
    assert store.calls == [["a", "b", "c"], ["a"], ["b"], ["c"]]


def test_a_store_that_stays_out_of_reach_is_told_to_all_of_a_batch() -> None:
    error = StoreUnavailableError("gone")
    store = Creates("b", error)

    async def main() -> None:
        gathered = gathering(store)
        assert await ask(gathered, "a", "b") == [error, error]
        assert len(store.calls) > 1 and all(call == ["a", "b"] for call in store.calls)
        assert await ask(gathered, "c") == ["c"]

    with asyncio.Runner(loop_factory=VirtualTime().loop) as runner:
        runner.run(main())


async def test_whoever_stops_waiting_takes_nobody_along() -> None:
    store = Creates()
    store.gate.clear()
    gathered = gathering(store)
    impatient = asyncio.ensure_future(gathered.ask(new("a")))
    patient = asyncio.ensure_future(gathered.ask(new("b")))
    await store.called.wait()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    store.gate.set()
    assert await patient == cast(Any, "b")
    assert store.calls == [["a", "b"]]


async def test_what_must_not_be_done_twice_is_not_repeated_in_doubt() -> None:
    error = StoreUnavailableError("in doubt", outcome_unknown=True)
    store = Creates("b", error)
    gathered: Gathering[NewRun, CreateResult] = Gathering(
        cast(Store, store).create, repeatable=False
    )
    assert await ask(gathered, "a", "b") == [error, error]
    assert store.calls == [["a", "b"]]


async def test_closing_waits_for_what_has_gathered() -> None:
    store = Creates()
    store.gate.clear()
    gathered = gathering(store)
    await gathered.close()  # nothing yet
    first = asyncio.ensure_future(ask(gathered, "a"))
    await store.called.wait()
    second = asyncio.ensure_future(ask(gathered, "b"))
    closing = asyncio.ensure_future(gathered.close())
    await asyncio.sleep(0)
    assert not closing.done()
    store.gate.set()
    await closing
    assert await first == ["a"] and await second == ["b"]


async def test_a_writer_cancelled_before_it_began_is_replaced() -> None:
    store = Creates()
    gathered = gathering(store)
    first = asyncio.ensure_future(gathered.ask(new("a")))
    await asyncio.sleep(0)
    assert gathered._task is not None
    gathered._task.cancel()
    await asyncio.wait([gathered._task])
    assert await ask(gathered, "b") == ["b"]
    assert await first == cast(Any, "a")
    assert store.calls == [["a", "b"]]
