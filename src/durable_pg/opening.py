"""Opening: what a server, a role and a schema must be before a store works on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from durable_core.errors import SchemaVersionError, StoreUnavailableError

from . import queries, schema
from .queries import in_schema
from .schema import Migration
from .schema_name import SchemaName
from .translate import sentence


async def check_server(
    conn: Any, place: str, *, plain: bool, any_isolation: bool, durability: str
) -> None:
    """Raise for a server that is too old (for functions, or for ``plain`` statements), encoded
    otherwise, or read-only; for connections that begin transactions in a way that functions
    do not bear, unless ``any_isolation``; and for commits of another durability, on connections
    that we have not set up."""
    ((number, encoding, isolation, read_only, commits),) = await conn.fetch(queries.IN_FORCE)
    oldest = schema.OLDEST_PLAIN_SERVER if plain else schema.OLDEST_SERVER
    if number < oldest:
        raise SchemaVersionError(
            f"{sentence(place)} runs Postgres {number // 10_000}, and durable-core needs "
            f"{oldest // 10_000} or newer{' even with plain=True' if plain else ''}."
        )
    if encoding != "UTF8":
        raise SchemaVersionError(
            f"{sentence(place)} is encoded in {encoding}, which cannot hold every text: "
            "durable-core needs a database with ENCODING 'UTF8'."
        )
    if isolation != "read committed" and not any_isolation:
        raise StoreUnavailableError(
            f"Connections to {place} begin transactions as {isolation!r}, but the store's "
            "functions need 'read committed': give the pool "
            "server_settings={'default_transaction_isolation': 'read committed'}."
        )
    if read_only == "on":
        raise StoreUnavailableError(
            f"{sentence(place)} is read-only (a standby, or default_transaction_read_only is on): "
            "connect to the primary, e.g. with target_session_attrs=read-write in the DSN."
        )
    if (commits == "off") is not (durability == "relaxed"):
        wanted = queries.DURABILITY[durability]
        raise StoreUnavailableError(
            f"Connections to {place} commit with synchronous_commit = {commits}, which is not "
            f"durability={durability!r}: give your pool "
            f"server_settings={{'synchronous_commit': '{wanted}'}}, or, behind a pooler, set it "
            "for the role (ALTER ROLE ... SET), or ask for the other durability."
        )


async def check_schema(conn: Any, name: SchemaName, place: str, known: Sequence[Migration]) -> Any:
    """Raise unless the schema is this library's, and the role may work in it; tells which database
    it is."""
    await schema.verify(conn, name, place, known)
    if await conn.fetchval(queries.MAY_WRITE, name.name) is False:
        raise StoreUnavailableError(
            f"The role may not write the tables of {name.quoted} in {place}: grant it SELECT, "
            "INSERT, UPDATE and DELETE on all tables of the schema."
        )
    return await conn.fetchval(in_schema(queries.READ_HOME, name))
