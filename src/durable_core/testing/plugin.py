"""The pytest plugin ``durable``: fixtures with a Postgres store for the tests of an application.

::

    async def test_an_order_is_shipped(durable_pg):
        async with Engine(durable_pg, [order]) as engine:
            ...

It is loaded in every run of pytest where this package is installed, so it imports what a fixture
needs when the fixture is asked for; ``-p no:durable`` turns it off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ..store import Store


@pytest.fixture(scope="session")
def durable_pg_dsn() -> str:
    """Where a Postgres for tests is: one server a test process; skips if there is none.

    See ``durable_core.testing.postgres.postgres_for_tests`` for where it comes from.
    """
    from .postgres import NO_POSTGRES, postgres_for_tests

    dsn = postgres_for_tests()
    if dsn is None:
        pytest.skip(NO_POSTGRES)
    return dsn


@pytest.fixture
def durable_pg(durable_pg_dsn: str) -> Iterator[Store]:
    """A Postgres store of the test's own: migrated, not opened, dropped after the test."""
    from durable_pg import PgStore

    from .postgres_schema import drop_schema, unused_schema

    async def migrate() -> None:
        store = PgStore(durable_pg_dsn, schema=schema)
        await store.open(migrate=True)
        await store.close()

    schema = unused_schema()
    try:
        _run_apart(migrate())
        yield PgStore(durable_pg_dsn, schema=schema)
    finally:
        _run_apart(drop_schema(durable_pg_dsn, schema))


def _run_apart(work: Coroutine[Any, Any, None]) -> None:
    """Run it in another thread, for in this one an event loop may be running."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, work).result()
