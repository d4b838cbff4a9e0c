"""Translate: the one place where errors of the driver become errors of ours.

Every message names the database and the mend. What an error means is read from SQLite's result
code, never from its text.
"""

from __future__ import annotations

import sqlite3

from durable_core.errors import (
    DurableError,
    EncodingError,
    LimitExceededError,
    SchemaVersionError,
    StoreUnavailableError,
)

UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "another process or connection has kept {place} locked for too long: "
    "find who holds a write transaction open (a shell, a backup, a long migration) and end it",
    sqlite3.SQLITE_LOCKED: "a table of {place} is locked by a statement of the same connection",
    sqlite3.SQLITE_FULL: "there is no space left for {place} (disk, quota, or the database's own "
    "page limit): free some; the transaction was undone whole",
    sqlite3.SQLITE_READONLY: "{place} cannot be written: check the permissions of the file, of its "
    "-wal and -shm companions and of the directory, and whether the disk is mounted read-only",
    sqlite3.SQLITE_PERM: "{place} may not be accessed: check the permissions of the file",
    sqlite3.SQLITE_CANTOPEN: "{place} cannot be opened: check that its directory exists, that it "
    "is a file, and that this process may write both",
    sqlite3.SQLITE_IOERR: "the operating system reported an input/output error for {place}: check "
    "the disk and the kernel's log",
    sqlite3.SQLITE_NOMEM: "there was no memory left for {place}",
    sqlite3.SQLITE_PROTOCOL: "the locks of {place} do not work: SQLite needs a local file system",
    sqlite3.SQLITE_CORRUPT: "{place} is damaged: stop all processes that use it, run `PRAGMA "
    "integrity_check`, and restore a backup or use the sqlite3 shell's `.recover`",
    sqlite3.SQLITE_NOTADB: "{place} is not a SQLite database, or it is encrypted: check the path",
}
DRIVER_ERRORS = (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError)
"""What may come out of the driver; ``ValueError`` is a text with a lone surrogate, or a closed
aiosqlite connection."""

DEFINITE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_LOCKED})
"""Codes that, coming from COMMIT, say that nothing was committed."""


def code_of(error: BaseException) -> int:
    """The primary result code, or 0 for an error of Python's own module."""
    code: int = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF


def is_busy(error: BaseException) -> bool:
    """Whether somebody else holds the lock, so that trying again may help."""
    return code_of(error) == sqlite3.SQLITE_BUSY


def translated(error: Exception, place: str, *, committing: bool = False) -> DurableError:
    """Our error for one of the driver's. ``committing``: it came out of COMMIT itself."""
    code = code_of(error)
    unknown = committing and code not in DEFINITE
    text = UNAVAILABLE.get(code)
    if text is not None:
        return StoreUnavailableError(
            f"The store cannot be used now: {text.format(place=place)}. (SQLite: {error})",
            outcome_unknown=unknown,
        )
    if isinstance(error, UnicodeError | OverflowError):
        return EncodingError(
            f"A value cannot be stored in {place}: {error}. Texts must be valid Unicode and "
            "integers must fit into 64 bits."
        )
    if code == sqlite3.SQLITE_TOOBIG or isinstance(error, sqlite3.DataError):
        return LimitExceededError(
            f"A value is too large for SQLite ({error}); nothing was written to {place}."
        )
    if code == sqlite3.SQLITE_SCHEMA or _names_missing_table(error):
        return SchemaVersionError(
            f"{place} does not have the tables of durable-core ({error}): open the store once "
            "with migrate=True, and check that the path is the one you mean."
        )
    if code == sqlite3.SQLITE_AUTH:
        return DurableError(
            "A transaction of the store is ended by the store alone: leave out BEGIN, COMMIT and "
            f"ROLLBACK (savepoints are fine). (SQLite: {error})"
        )
    if isinstance(error, ValueError) or (isinstance(error, sqlite3.ProgrammingError) and not code):
        return DurableError(
            f"The connection to {place} is closed, or cannot be used like this: {error}."
        )
    return DurableError(
        f"SQLite refused a statement on {place}: {error}. Nothing of it was written; if the "
        "database was not changed by hand, this is a fault of durable-core: please report it."
    )


def _names_missing_table(error: Exception) -> bool:
    """SQLite has no code of its own for this one."""
    return isinstance(error, sqlite3.OperationalError) and "no such table" in str(error)
