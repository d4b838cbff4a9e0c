"""MemoryStore keeps the store contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from durable_core.errors import DurableError
from durable_core.store import Store
from durable_core.testing.contract import StoreContract, VirtualClock
from durable_core.testing.contract_kit import new_run
from durable_core.testing.memory import MemoryStore


class TestMemoryStore(StoreContract):
    @asynccontextmanager
    async def make_store(self, clock: VirtualClock, folder: Path) -> AsyncIterator[Store]:
        store = MemoryStore(clock=clock)
        await store.open()
        try:
            yield store
        finally:
            await store.close()


async def test_a_change_wakes_waiters_of_another_event_loop() -> None:
    store = MemoryStore()
    await store.open()
    twin = store.twin()
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def elsewhere() -> bool:
        await twin.open()
        while await twin.wait_for_work(0):
            pass
        loop.call_soon_threadsafe(ready.set)
        return await twin.wait_for_work(60_000)

    waiting = asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
    await ready.wait()
    await store.create([new_run()])
    assert await waiting


async def test_there_is_no_transaction_to_join() -> None:
    store = MemoryStore()
    await store.open()
    with pytest.raises(DurableError, match="conn="):
        await store.create([new_run()], conn=object())


async def test_a_store_that_is_not_open_says_so() -> None:
    with pytest.raises(DurableError, match="open"):
        await MemoryStore().get([])


async def test_by_default_the_clock_is_the_wall_clock() -> None:
    store = MemoryStore()
    await store.open()
    assert await store.now_ms() > 1_700_000_000_000
