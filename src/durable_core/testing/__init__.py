"""The testing kit: a store in memory, a contract for stores, virtual time.

Names are imported when they are first asked for: ``MemoryStore`` needs nothing but the core, the
contract needs pytest and Hypothesis.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agreement import StoreAgreement as StoreAgreement
    from .contract import StoreContract as StoreContract
    from .memory import MemoryStore as MemoryStore
    from .virtual_time import InlineExecutor as InlineExecutor
    from .virtual_time import VirtualTime as VirtualTime

__all__ = ["InlineExecutor", "MemoryStore", "StoreAgreement", "StoreContract", "VirtualTime"]

_HOMES = {
    "InlineExecutor": "virtual_time",
    "MemoryStore": "memory",
    "StoreAgreement": "agreement",
    "StoreContract": "contract",
    "VirtualTime": "virtual_time",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
