"""DSN: what of it may be shown, and what is wrong with it for all to see.

A password with an unescaped ``/``, ``?`` or ``#`` breaks a DSN in two, and any part of the rest
may be a piece of it. So what does not look like a whole DSN is not quoted at all.
"""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import urlsplit

from durable_core.errors import StoreUnavailableError

HOST = re.compile(r"(?:\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]{0,5}))?")
"""One host of several, and its port."""


def place_of(dsn: str) -> str:
    """The database, for messages; never with a password, nor with what might be a piece of one."""
    with suppress(ValueError):
        parts = urlsplit(dsn)
        if is_whole(dsn):
            host = parts.hostname or "localhost"
            port = f":{parts.port}" if parts.port else ""
            return f"the Postgres database {parts.path.lstrip('/')!r} on {host}{port}"
    return "the Postgres database"


def without_password(dsn: str) -> str:
    """The DSN with neither password nor parameters, or of a doubtful one the scheme alone."""
    scheme = dsn.partition("://")[0]
    if not is_whole(dsn) or not _ports_are_possible(dsn):
        return f"{scheme}://..."
    parts = urlsplit(dsn)
    access, at, hosts = parts.netloc.rpartition("@")
    return f"{scheme}://{access.partition(':')[0]}{at}{hosts}{parts.path}"


def is_whole(dsn: str) -> bool:
    """Whether nothing of a password stands where other things belong."""
    with suppress(ValueError):
        parts = urlsplit(dsn)
        return "://" in dsn and "@" not in parts.path + parts.query and not parts.fragment
    return False


def check(dsn: str) -> None:
    """Raise for what can be no DSN, before it is tried."""
    if not _ports_are_possible(dsn):
        raise unusable(place_of(dsn))


def _ports_are_possible(dsn: str) -> bool:
    try:
        hosts = urlsplit(dsn).netloc.rpartition("@")[2]
    except ValueError:
        return False
    found = [HOST.fullmatch(host) for host in hosts.split(",")]
    return all(one is not None and 0 < int(one[1] or 5432) < 65_536 for one in found)


def unusable(place: str) -> StoreUnavailableError:
    """Not quoting what is not understood."""
    return StoreUnavailableError(
        f"The DSN of {place} cannot be used: it has the form "
        "postgresql://user:password@host:port/database, where the port is a number up to 65535, "
        "and in a user's name or a password @ is written %40, : %3A, / %2F, ? %3F, and # %23."
    )
