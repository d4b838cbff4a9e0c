"""Schema name: the one name that becomes part of SQL, and therefore the one that is checked."""

from __future__ import annotations

import hashlib
import re

import attrs

from durable_core.errors import DurableError

WELL_FORMED = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")


@attrs.frozen(slots=True)
class SchemaName:
    """The Postgres schema a store lives in. Raises ``DurableError`` for what is no plain name."""

    name: str

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.name, str) or WELL_FORMED.fullmatch(self.name) is None:
            raise DurableError(
                f"schema={self.name!r} cannot be the name of a Postgres schema for durable-core: "
                "use letters, digits and underscores, not beginning with a digit, at most 40."
            )
        if self.name.lower().startswith("pg_"):
            raise DurableError(
                f"schema={self.name!r} is not allowed: Postgres keeps names that begin with pg_ "
                "for itself."
            )

    @property
    def quoted(self) -> str:
        """As it stands in a statement."""
        return f'"{self.name}"'

    @property
    def channel(self) -> str:
        """The NOTIFY channel of this schema; one plain word, whatever the schema's name."""
        return "durable_" + hashlib.blake2b(self.name.encode(), digest_size=8).hexdigest()

    @property
    def lock(self) -> int:
        """The key of the advisory lock under which this schema is migrated."""
        digest = hashlib.blake2b(f"durable:{self.name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)
