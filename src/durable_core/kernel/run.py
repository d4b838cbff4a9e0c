"""A run as the kernel knows it: its status, its unchanging facts, and what it waits for."""

from __future__ import annotations

import enum

import attrs

from .limits import DEFAULT_LIMITS, Limits
from .value import Payload


class RunStatus(enum.Enum):
    """Where a run is in its life; the last four are terminal within a generation."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPENSATING = "compensating"
    COMPLETED = "completed"
    FAILED = "failed"
    COMPENSATION_FAILED = "compensation_failed"
    CANCELLED = "cancelled"

    __hash__ = object.__hash__  # members are single; the one of Enum is slow

    @property
    def terminal(self) -> bool:
        """Whether the run has ended."""
        return self in TERMINAL


TERMINAL = frozenset(
    {
        RunStatus.COMPLETED,
        RunStatus.FAILED,
        RunStatus.COMPENSATION_FAILED,
        RunStatus.CANCELLED,
    }
)


@attrs.frozen(slots=True, kw_only=True, weakref_slot=False)
class RunContext:
    """The facts of a run that no transition changes.

    ``fingerprint`` is that of the definition the run was started with. ``deaths`` counts
    workers that died holding the run since it last made progress, as of this claim.
    """

    run_id: str
    workflow: str
    version: str
    fingerprint: str
    input: Payload
    created_at_ms: int = 0
    parent_id: str | None = None
    parent_unit: str | None = None
    depth: int = 0
    deadline_ms: int | None = None
    deaths: int = 0
    limits: Limits = DEFAULT_LIMITS


@attrs.frozen(slots=True, kw_only=True)
class Waiting:
    """One thing a suspended run waits for.

    ``kind`` is ``timer``, ``retry``, ``signal``, ``child``, ``resume`` or ``operator``; ``name``
    the signal's, or the child run's id; ``reason`` why an operator is needed.
    """

    kind: str
    unit: str | None
    since_ms: int
    name: str | None = None
    until_ms: int | None = None
    reason: str | None = None
    token: str | None = None
