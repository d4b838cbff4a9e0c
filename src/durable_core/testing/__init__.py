"""The testing kit: a store in memory, a contract for stores, virtual time, Postgres servers.

Names are imported when they are first asked for: ``MemoryStore`` needs nothing but the core, the
contract needs pytest and Hypothesis, the servers need a Postgres.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agreement import StoreAgreement as StoreAgreement
    from .contract import StoreContract as StoreContract
    from .memory import MemoryStore as MemoryStore
    from .postgres import PostgresServer as PostgresServer
    from .postgres import postgres_for_tests as postgres_for_tests
    from .postgres_binaries import find_binaries as find_binaries
    from .virtual_time import InlineExecutor as InlineExecutor
    from .virtual_time import VirtualTime as VirtualTime

__all__ = [
    "InlineExecutor",
    "MemoryStore",
    "PostgresServer",
    "StoreAgreement",
    "StoreContract",
    "VirtualTime",
    "find_binaries",
    "postgres_for_tests",
]

_HOMES = {
    "InlineExecutor": "virtual_time",
    "MemoryStore": "memory",
    "PostgresServer": "postgres",
    "StoreAgreement": "agreement",
    "StoreContract": "contract",
    "VirtualTime": "virtual_time",
    "find_binaries": "postgres_binaries",
    "postgres_for_tests": "postgres",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
