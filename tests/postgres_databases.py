"""Databases that have the schema already: one a test, copied from a template of this process."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from tests.postgres_kit import MAJORS, dsn, execute, server

from durable_pg import PgStore


@contextmanager
def migrated_database() -> Iterator[str]:
    """The DSN of a database of its own, on the newest server; not while an event loop runs."""
    name = f"db_{secrets.token_hex(8)}"
    execute(dsn(MAJORS[0]), f"CREATE DATABASE {name} TEMPLATE {_template()} STRATEGY FILE_COPY")
    try:
        yield server(MAJORS[0]).dsn(name)
    finally:
        execute(dsn(MAJORS[0]), f"DROP DATABASE {name} WITH (FORCE)")


@cache
def _template() -> str:
    name = f"template_{secrets.token_hex(8)}"
    execute(dsn(MAJORS[0]), f"CREATE DATABASE {name}")

    async def migrate() -> None:
        store = PgStore(server(MAJORS[0]).dsn(name), listen=False)
        await store.open(migrate=True)
        await store.close()

    asyncio.run(migrate())
    return name
