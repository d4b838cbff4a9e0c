"""SqliteStore keeps the store contract, in a file and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from durable_core.store import Store
from durable_core.testing.contract import StoreContract, VirtualClock
from durable_sqlite import SqliteStore


class TestSqliteFile(StoreContract):
    @asynccontextmanager
    async def make_store(self, clock: VirtualClock, folder: Path) -> AsyncIterator[Store]:
        store = SqliteStore(folder / "test.db", clock=clock, synchronous="OFF")
        await store.open()
        try:
            yield store
        finally:
            await store.close()


class TestSqliteInMemory(StoreContract):
    @asynccontextmanager
    async def make_store(self, clock: VirtualClock, folder: Path) -> AsyncIterator[Store]:
        store = SqliteStore(":memory:", clock=clock)
        await store.open()
        try:
            yield store
        finally:
            await store.close()
