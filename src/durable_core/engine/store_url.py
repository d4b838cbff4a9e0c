"""Store URLs: which store an address means; the only place where the core names an adapter."""

from __future__ import annotations

import re
from typing import Any, cast
from urllib.parse import urlsplit

from ..errors import DurableError
from ..store import Store

FORMS = (
    "sqlite:///relative.db, sqlite:////absolute.db, sqlite:// (in memory), "
    "postgresql://user@host/database, memory://"
)

SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
"""What may be quoted: another text may be a DSN of another form, with a password in it."""


def store_from(store_or_url: object) -> Store:
    """The store itself, or a new one for this URL; nothing is opened yet.

    Raises ``DurableError`` for an address nobody understands and for a driver that is missing.
    """
    if not isinstance(store_or_url, str):
        is_class = isinstance(store_or_url, type)
        if is_class or not callable(getattr(store_or_url, "wait_for_work", None)):
            raise DurableError(
                f"Engine needs a store or the URL of one, not {type(store_or_url).__name__}; "
                f"URLs are {FORMS}"
            )
        return cast(Store, store_or_url)
    scheme = store_or_url.partition(":")[0].lower()
    if "://" not in store_or_url or scheme not in _SCHEMES:
        named = f" (its scheme is {scheme!r:.40})" if SCHEME.fullmatch(scheme) else ""
        raise DurableError(f"this is not the URL of a store{named}; URLs are {FORMS}")
    return _SCHEMES[scheme](store_or_url)


def _sqlite(url: str) -> Store:
    rest = url.partition("://")[2]
    if "?" in rest or "#" in rest:
        raise DurableError(
            "a sqlite:// URL takes no parameters; use SqliteStore(path, synchronous=...) instead"
        )
    if rest and not rest.startswith("/"):
        raise DurableError(
            f"a sqlite:// URL has no host: write sqlite:///{rest} for a relative path, "
            f"sqlite:////{rest} for an absolute one"
        )
    path = rest[1:] or ":memory:"
    try:
        from durable_sqlite import SqliteStore
    except ImportError as error:
        raise _missing("SQLite", "aiosqlite", "sqlite", error) from error
    return cast(Store, SqliteStore(path))


def _postgres(url: str) -> Store:
    try:
        import durable_pg
    except ImportError as error:
        raise _missing("Postgres", "asyncpg", "pg", error) from error
    module: Any = durable_pg
    if not hasattr(module, "PgStore"):
        raise DurableError("this build of durable-core has no Postgres store")
    return cast(Store, module.PgStore(url))


def _memory(url: str) -> Store:
    if urlsplit(url).netloc or urlsplit(url).path:
        raise DurableError("memory:// takes nothing behind it: every such store is a new one")
    from ..testing.memory import MemoryStore

    return MemoryStore()


def _missing(what: str, driver: str, extra: str, error: ImportError) -> DurableError:
    if (error.name or "").partition(".")[0] != driver:
        return DurableError(f"the {what} store cannot be imported: {error}")
    return DurableError(
        f"the {what} store needs the driver {driver}, which is not installed: "
        f"pip install 'durable-core[{extra}]'"
    )


_SCHEMES = {
    "sqlite": _sqlite,
    "postgresql": _postgres,
    "postgres": _postgres,
    "memory": _memory,
}
