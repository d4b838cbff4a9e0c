"""Nondeterminism: the one sentence for a program that no longer agrees with its journal."""

from __future__ import annotations

from ..errors import NondeterminismError
from .ids import UnitKey


def nondeterminism(run_id: str, unit: UnitKey, *, recorded: str, asked: str) -> NondeterminismError:
    """The error, to be raised."""
    return NondeterminismError(
        f"run {run_id!r} does not fit today's definition at unit {str(unit)!r}: "
        f"recorded is {recorded}, asked for is {asked}; deploy the definition the run was "
        f"started with (or register both versions), then retry the run",
        run_id=run_id,
        unit=str(unit),
        recorded=recorded,
        asked=asked,
    )
