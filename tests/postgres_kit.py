"""Servers for our own tests: one a test process and major version, started when first used.

Nobody may kill or restart them; a test that does so starts a ``PostgresServer`` of its own.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

import asyncpg

from durable_core.testing import postgres_schema
from durable_core.testing.postgres import PostgresServer, shared_server
from durable_core.testing.postgres_binaries import all_binaries, find_binaries

ALL_MAJORS = tuple(dict.fromkeys(each.major for each in all_binaries()))
"""Every version found, newest first: (18, 16) come with the wheel, others with the system."""

MAJORS = tuple(dict.fromkeys((ALL_MAJORS[0], ALL_MAJORS[-1]))) if ALL_MAJORS else ()
"""The newest and the oldest of them, which is what tests of the Postgres adapter run on."""


def server(major: int) -> PostgresServer:
    """The running server of this version."""
    binaries = find_binaries(major)
    assert binaries is not None, f"there is no Postgres {major}, only {ALL_MAJORS}"
    return shared_server(binaries)


def dsn(major: int) -> str:
    """Where its database `postgres` is; use a schema of your own in it."""
    return server(major).dsn()


def own_schema(major: int) -> AbstractAsyncContextManager[str]:
    """The name of a schema for one test on this version; it is dropped at the end."""
    return postgres_schema.own_schema(dsn(major))


@contextmanager
def own_database(major: int) -> Iterator[str]:
    """The DSN of an empty database for one test on this version; it is dropped at the end."""
    name = f"t_{secrets.token_hex(8)}"
    execute(dsn(major), f"CREATE DATABASE {name}")
    try:
        yield server(major).dsn(name)
    finally:
        execute(dsn(major), f"DROP DATABASE {name} WITH (FORCE)")


def execute(where: str, *scripts: str) -> None:
    """Run each in a transaction of its own at this DSN; not while an event loop is running."""

    async def connected() -> None:
        connection = await asyncpg.connect(where)
        try:
            for script in scripts:
                await connection.execute(script)
        finally:
            await connection.close()

    asyncio.run(connected())
