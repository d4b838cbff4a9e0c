"""The testing kit: a store in memory, a contract for stores, virtual time, Postgres servers.

Names are imported when they are first asked for: ``MemoryStore`` needs nothing but the core, the
contract needs pytest and Hypothesis, the servers need a Postgres.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agreement import StoreAgreement as StoreAgreement
    from .contract import StoreContract as StoreContract
    from .memory import MemoryStore as MemoryStore
    from .postgres import PostgresServer as PostgresServer
    from .postgres import postgres_for_tests as postgres_for_tests
    from .postgres_binaries import find_binaries as find_binaries
    from .strategies import faults as faults
    from .strategies import payloads as payloads
    from .strategies import schedules as schedules
    from .strategies import workflows as workflows
    from .virtual_time import InlineExecutor as InlineExecutor
    from .virtual_time import VirtualTime as VirtualTime

__all__ = [
    "InlineExecutor",
    "MemoryStore",
    "PostgresServer",
    "StoreAgreement",
    "StoreContract",
    "VirtualTime",
    "faults",
    "find_binaries",
    "payloads",
    "postgres_for_tests",
    "schedules",
    "workflows",
]

_HOMES = {
    "InlineExecutor": "virtual_time",
    "MemoryStore": "memory",
    "PostgresServer": "postgres",
    "StoreAgreement": "agreement",
    "StoreContract": "contract",
    "VirtualTime": "virtual_time",
    "faults": "strategies",
    "find_binaries": "postgres_binaries",
    "payloads": "strategies",
    "postgres_for_tests": "postgres",
    "schedules": "strategies",
    "workflows": "strategies",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


class _Door(ModuleType):
    """Some functions live in a module of their own name, which must not hide them here."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Door
