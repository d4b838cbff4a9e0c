"""Array types: what the driver would ask the server about on every new connection, told to it.

asyncpg knows ``text[]`` by itself. Of other array types in a statement it asks the catalogs, once
on each connection: several round trips, and a query that takes longer to plan than a verb takes.
The types of our parameters are built in, and have the same numbers in every Postgres.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

ARRAYS = {
    1000: ("_bool", 16, "boolean"),
    1001: ("_bytea", 17, "bytea"),
    1005: ("_int2", 21, "smallint"),
    1016: ("_int8", 20, "bigint"),
}
"""By number: the name, and number and name of the elements' type."""

KNOWN = [
    {
        "oid": oid,
        "ns": "pg_catalog",
        "name": name,
        "kind": b"b",
        "basetype": None,
        "elemtype": element,
        "elemdelim": b",",
        "range_subtype": None,
        "attrtypoids": None,
        "attrnames": None,
        "depth": 0,
        "basetype_name": None,
        "elemtype_name": element_name,
        "range_subtype_name": None,
    }
    for oid, (name, element, element_name) in ARRAYS.items()
]
"""As the driver's own query answers."""


async def tell(connection: Any) -> None:
    """Have a new connection know them. There is no public way; without it, the driver asks."""
    with suppress(AttributeError, KeyError, TypeError):
        cast(Any, connection)._protocol.get_settings().register_data_types(KNOWN)
