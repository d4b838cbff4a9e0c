"""The testing kit: simulations of workflows, a store in memory, a contract for stores, servers.

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
    from .asserting import assert_durable as assert_durable
    from .checks import violations as violations
    from .contract import StoreContract as StoreContract
    from .counterexample import Counterexample as Counterexample
    from .counterexample import CounterexampleError as CounterexampleError
    from .explore import Report as Report
    from .explore import explore as explore
    from .findings import Finding as Finding
    from .findings import findings as findings
    from .memory import MemoryStore as MemoryStore
    from .plan import ClockJump as ClockJump
    from .plan import Crash as Crash
    from .plan import Delay as Delay
    from .plan import Faults as Faults
    from .plan import Interrupt as Interrupt
    from .plan import Operate as Operate
    from .plan import Pause as Pause
    from .plan import Raising as Raising
    from .plan import SignalAt as SignalAt
    from .plan import Skew as Skew
    from .plan import Slow as Slow
    from .plan import Stop as Stop
    from .plan import StoreError as StoreError
    from .plan import Theft as Theft
    from .postgres import PostgresServer as PostgresServer
    from .postgres import postgres_for_tests as postgres_for_tests
    from .postgres_binaries import find_binaries as find_binaries
    from .replay import Replay as Replay
    from .replay import check_upgrade as check_upgrade
    from .replay import replay as replay
    from .simulate import Signal as Signal
    from .simulate import simulate as simulate
    from .simulation import Simulation as Simulation
    from .strategies import faults as faults
    from .strategies import payloads as payloads
    from .strategies import schedules as schedules
    from .strategies import workflows as workflows
    from .virtual_clock import VirtualClock as VirtualClock
    from .virtual_time import InlineExecutor as InlineExecutor
    from .virtual_time import VirtualTime as VirtualTime
    from .witness import Violation as Violation
    from .world import SimulationLimitError as SimulationLimitError

__all__ = [
    "ClockJump",
    "Counterexample",
    "CounterexampleError",
    "Crash",
    "Delay",
    "Faults",
    "Finding",
    "InlineExecutor",
    "Interrupt",
    "MemoryStore",
    "Operate",
    "Pause",
    "PostgresServer",
    "Raising",
    "Report",
    "Signal",
    "SignalAt",
    "Simulation",
    "SimulationLimitError",
    "Skew",
    "Slow",
    "Stop",
    "StoreAgreement",
    "StoreContract",
    "StoreError",
    "Theft",
    "Violation",
    "VirtualClock",
    "VirtualTime",
    "assert_durable",
    "check_upgrade",
    "explore",
    "faults",
    "find_binaries",
    "findings",
    "payloads",
    "postgres_for_tests",
    "replay",
    "schedules",
    "simulate",
    "violations",
    "workflows",
]

_HOMES = {
    "ClockJump": "plan",
    "Counterexample": "counterexample",
    "CounterexampleError": "counterexample",
    "Crash": "plan",
    "Delay": "plan",
    "Faults": "plan",
    "Finding": "findings",
    "InlineExecutor": "virtual_time",
    "Interrupt": "plan",
    "MemoryStore": "memory",
    "Operate": "plan",
    "Pause": "plan",
    "PostgresServer": "postgres",
    "Raising": "plan",
    "Replay": "replay",
    "Report": "explore",
    "Signal": "simulate",
    "SignalAt": "plan",
    "Simulation": "simulation",
    "SimulationLimitError": "world",
    "Skew": "plan",
    "Slow": "plan",
    "Stop": "plan",
    "StoreAgreement": "agreement",
    "StoreContract": "contract",
    "StoreError": "plan",
    "Theft": "plan",
    "Violation": "witness",
    "VirtualClock": "virtual_clock",
    "VirtualTime": "virtual_time",
    "assert_durable": "asserting",
    "check_upgrade": "replay",
    "explore": "explore",
    "faults": "strategies",
    "find_binaries": "postgres_binaries",
    "findings": "findings",
    "payloads": "strategies",
    "postgres_for_tests": "postgres",
    "replay": "replay",
    "schedules": "strategies",
    "simulate": "simulate",
    "violations": "checks",
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
