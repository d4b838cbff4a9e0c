"""Translate: the one place where errors of the driver become errors of ours.

Every message names the database and the mend, and none holds a password. What an error means is
read from its SQLSTATE, never from its text.
"""

from __future__ import annotations

import socket

import asyncpg

from durable_core.errors import (
    DurableError,
    EncodingError,
    LimitExceededError,
    SchemaVersionError,
    StoreUnavailableError,
)

DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,  # TimeoutError is one
    EOFError,
)
"""What may come out of the driver."""

AGAIN = frozenset({"40001", "40P01"})
"""Undone whole because of others, so trying again at once may help: serialization failure,
deadlock."""

POOLED = (
    "the session at {place} is not the one it was: a pooler in transaction mode stands before it, "
    "which needs PgStore(..., pooler=True)"
)
UNAVAILABLE = {
    "25006": "{place} is read-only (a standby, or default_transaction_read_only is on): connect to "
    "the primary, e.g. with target_session_attrs=read-write in the DSN",
    "28000": "{place} does not let this role in: check the user in the DSN and pg_hba.conf",
    "28P01": "{place} refused the password: check the user and the password in the DSN",
    "3D000": "{place} does not exist: check the name of the database in the DSN",
    "26000": POOLED,
    "42501": "the role lacks a right in {place}: to work it needs USAGE on the schema of "
    "durable-core, and SELECT, INSERT, UPDATE and DELETE on all tables there; to migrate it needs "
    "CREATE on the database, or to own the schema",
    "42P05": POOLED,
    "42704": "{place} does not know a setting that the DSN asks for: check what stands after the ?",
    "53100": "there is no disk space left for {place}: free some; nothing was written",
    "53200": "there was no memory left for {place}",
    "53300": "{place} takes no more connections: raise max_connections, put a pooler in front "
    "(and use PgStore(..., pooler=True)), or run fewer processes",
    "55P03": "a lock in {place} was not to be had in time: find who holds a transaction open on "
    "the tables of durable-core",
    "57014": "a statement on {place} was cancelled (statement_timeout, or an administrator)",
    "57P03": "{place} is starting up or shutting down",
}
"""SQLSTATEs after which nothing was written, and what to do."""

UNKNOWN = frozenset({"57P01", "57P02", "57P05", "25P03"})
"""SQLSTATEs with which the server ends a connection: what was under way may have committed."""


ELSEWHERE = frozenset({"25006"})
"""SQLSTATEs of a server that is not the one to talk to any more: another connection may find it."""


def code_of(error: BaseException) -> str:
    """The SQLSTATE the server gave, or an empty text."""
    return (
        getattr(error, "sqlstate", None) or "" if isinstance(error, asyncpg.PostgresError) else ""
    )


def breaks_connection(error: BaseException) -> bool:
    """Whether the connection cannot be used any more, or its state is not known."""
    code = code_of(error)
    if code:
        return code in UNKNOWN | ELSEWHERE or code.startswith(("08", "57P"))
    return not isinstance(error, asyncpg.DataError | asyncpg.PostgresError | DurableError)


def translated(error: BaseException, place: str, *, sent: bool = False) -> DurableError:
    """Our error for one of the driver's. ``sent``: it came out of a statement that writes, so
    that a broken connection leaves the outcome open."""
    code = code_of(error)
    if code in UNAVAILABLE:
        text = UNAVAILABLE[code].format(place=place)
        return StoreUnavailableError(f"The store cannot be used now: {text}. (Postgres: {error})")
    if code in AGAIN:
        return StoreUnavailableError(
            f"A transaction on {place} was undone because of others that ran at the same time, "
            f"and might succeed when it is tried again. (Postgres: {error})"
        )
    if isinstance(error, asyncpg.DataError) or code in ("22021", "22P05"):
        return EncodingError(
            f"A value cannot be stored in {place}: {error}. Texts must be valid Unicode without "
            "NUL, and integers must fit into 64 bits."
        )
    if code.startswith("54"):
        return LimitExceededError(
            f"A value is too large for Postgres ({error}); nothing was written to {place}."
        )
    if code in ("42P01", "42883", "3F000", "42703"):
        return SchemaVersionError(
            f"{sentence(place)} does not have the tables and functions of durable-core ({error}): "
            "run `durable migrate --db URL`, and check the DSN and the schema's name."
        )
    if code in ("42P07", "42723", "42710"):
        return SchemaVersionError(
            f"The schema for durable-core in {place} holds something of this name already, which "
            f"is not durable-core's ({error}): choose another schema, as in PgStore(url, "
            'schema="durable_core") and `durable migrate --schema durable_core`.'
        )
    if code == "25P02":
        return DurableError(
            "The transaction of conn= has failed already, and Postgres takes nothing more in it: "
            f"roll it back and begin again. (Postgres: {error})"
        )
    if breaks_connection(error):
        return _broken(error, place, sent)
    return DurableError(
        f"Postgres refused a statement on {place}: {error} (SQLSTATE {code}). Nothing of it was "
        "written; if the database was not changed by hand, this is a fault of durable-core: "
        "please report it."
    )


def _broken(error: BaseException, place: str, sent: bool) -> StoreUnavailableError:
    if isinstance(error, asyncpg.ClientConfigurationError):
        return StoreUnavailableError(f"The DSN of {place} cannot be used: {error}.")
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        why = "nobody listens there: check host and port in the DSN, and that Postgres runs"
    elif isinstance(error, socket.gaierror):
        why = (
            "its host is not known: check the host in the DSN (in a user's name or a password, "
            "@ is written %40, : %3A, and / %2F)"
        )
    elif code_of(error) == "08P01":
        why = (
            f"it, or a pooler before it, refused how we speak ({error}); a pooler in transaction "
            "mode needs PgStore(..., pooler=True), one in session mode must let such settings pass"
        )
    elif isinstance(error, TimeoutError):
        why = "it did not answer in time: check host and port in the DSN, and what is in between"
    else:
        why = f"the connection failed ({str(error).rstrip('.') or type(error).__name__})"
    doubt = "; whether the last statement was committed is not known" if sent else ""
    return StoreUnavailableError(
        f"{sentence(place)} cannot be reached: {why}{doubt}.", outcome_unknown=sent
    )


def sentence(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]
