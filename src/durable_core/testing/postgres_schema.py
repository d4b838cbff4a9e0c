"""A Postgres schema for each test: a name nobody else has, and its removal afterwards."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

SCHEMA_DROPPING = "SELECT format('DROP SCHEMA IF EXISTS %I CASCADE', $1::text)"
"""The statement to execute: names cannot be parameters, so Postgres itself quotes this one."""

PATIENCE_S = 20


@asynccontextmanager
async def own_schema(dsn: str) -> AsyncIterator[str]:
    """The name of a schema that is not there yet; what was created under it is dropped at the end.

    Raises if it cannot be dropped in time, which means that somebody still holds a lock in it.
    """
    name = unused_schema()
    try:
        yield name
    finally:
        await drop_schema(dsn, name)


def unused_schema() -> str:
    """A name that no other test uses, whatever server they share."""
    return f"t_{secrets.token_hex(8)}"


async def drop_schema(dsn: str, name: str) -> None:
    """Drop the schema with all that is in it, if it is there."""
    connection = await asyncpg.connect(dsn, timeout=PATIENCE_S, command_timeout=PATIENCE_S)
    try:
        statement = await connection.fetchval(SCHEMA_DROPPING, name)
        await connection.execute(statement)
    finally:
        await connection.close()
