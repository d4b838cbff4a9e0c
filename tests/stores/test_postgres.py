"""PgStore keeps the store contract, on the newest and the oldest server there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.postgres_kit import MAJORS, dsn, own_schema

from durable_core.store import Store
from durable_core.testing.contract import StoreContract, VirtualClock
from durable_core.testing.postgres import NO_POSTGRES
from durable_pg import PgStore

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES),
]


class PostgresContract(StoreContract):
    """The contract, on a server of the version ``major`` and with these ``options``."""

    major: ClassVar[int]
    options: ClassVar[dict[str, Any]] = {}

    @asynccontextmanager
    async def make_store(self, clock: VirtualClock, folder: Path) -> AsyncIterator[Store]:
        async with own_schema(self.major) as schema:
            store = PgStore(dsn(self.major), schema=schema, clock=clock, **self.options)
            await store.open(migrate=True)
            try:
                yield store
            finally:
                await store.close()


class TestNewest(PostgresContract):
    major = MAJORS[0] if MAJORS else 0


class TestOldest(PostgresContract):
    major = MAJORS[-1] if MAJORS else 0


class TestPlain(PostgresContract):
    major = MAJORS[0] if MAJORS else 0
    options: ClassVar[dict[str, Any]] = {"plain": True, "listen": False}


class TestPooler(PostgresContract):
    major = MAJORS[0] if MAJORS else 0
    options: ClassVar[dict[str, Any]] = {"pooler": True}
