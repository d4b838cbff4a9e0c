"""Every legal move, as data. Whatever is not in these tables is illegal.

Three machines: the run's status, the unit (moved by its entries), and the compensation of a
unit (likewise). ``fold.py`` obeys the last two on every entry, stored or new; ``invariants.py``
checks the first on every transition; the tests walk the whole products and the docs' diagrams
are drawn from here. This file knows no program, no time and no store.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from .run import RunStatus

# --- runs ----------------------------------------------------------------------------------

RUN_MOVES: Mapping[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset(
        {
            RunStatus.RUNNING,
            RunStatus.SUSPENDED,
            RunStatus.COMPENSATING,
            RunStatus.COMPLETED,
            RunStatus.FAILED,
            RunStatus.CANCELLED,
        }
    ),
    RunStatus.RUNNING: frozenset(
        {
            RunStatus.RUNNING,
            RunStatus.SUSPENDED,
            RunStatus.COMPENSATING,
            RunStatus.COMPLETED,
            RunStatus.FAILED,
            RunStatus.COMPENSATION_FAILED,
            RunStatus.CANCELLED,
        }
    ),
    RunStatus.SUSPENDED: frozenset(
        {
            RunStatus.RUNNING,
            RunStatus.SUSPENDED,
            RunStatus.COMPENSATING,
            RunStatus.COMPLETED,
            RunStatus.FAILED,
            RunStatus.COMPENSATION_FAILED,
            RunStatus.CANCELLED,
        }
    ),
    RunStatus.COMPENSATING: frozenset(
        {
            RunStatus.COMPENSATING,
            RunStatus.FAILED,
            RunStatus.COMPENSATION_FAILED,
            RunStatus.CANCELLED,
        }
    ),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.COMPENSATION_FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}
"""Status moves within one generation."""

REOPENING: Mapping[RunStatus, str] = {
    RunStatus.FAILED: "run_retried",
    RunStatus.COMPENSATION_FAILED: "run_retried",
    RunStatus.COMPLETED: "rollback_requested",
}
"""Which entry opens a new generation of an ended run."""

# --- units -----------------------------------------------------------------------------------


class UnitStatus(enum.Enum):
    """Where a unit is; it starts ``NEW``, without any entry."""

    NEW = "new"
    RETRYING = "retrying"
    SUSPENDED = "suspended"
    RESUMED = "resumed"
    SLEEPING = "sleeping"
    AWAITING = "awaiting"
    WITH_CHILD = "with_child"
    COMPLETED = "completed"
    TIMED_OUT = "timed_out"
    FAILED = "failed"
    CANCELLED = "cancelled"

    __hash__ = object.__hash__  # members are single; the one of Enum is slow


U = UnitStatus

_ATTEMPTED: Mapping[str, UnitStatus] = {
    "unit_completed": U.COMPLETED,
    "unit_failed": U.FAILED,
    "attempt_failed": U.RETRYING,
    "unit_suspended": U.SUSPENDED,
    "unit_cancelled": U.CANCELLED,
}

UNIT_MOVES: Mapping[UnitStatus, Mapping[str, UnitStatus]] = {
    U.NEW: {
        **_ATTEMPTED,
        "route_decided": U.COMPLETED,
        "items_recorded": U.COMPLETED,
        "value_recorded": U.COMPLETED,
        "undo_registered": U.COMPLETED,
        "timer_started": U.SLEEPING,
        "signal_awaited": U.AWAITING,
        "child_started": U.WITH_CHILD,
    },
    U.RETRYING: _ATTEMPTED,
    U.RESUMED: _ATTEMPTED,
    U.SUSPENDED: {
        "unit_resumed": U.RESUMED,
        "unit_cancelled": U.CANCELLED,
    },
    U.SLEEPING: {
        "timer_fired": U.COMPLETED,
        "unit_cancelled": U.CANCELLED,
    },
    U.AWAITING: {
        "signal_consumed": U.COMPLETED,
        "signal_rejected": U.AWAITING,
        "wait_timed_out": U.TIMED_OUT,
        "unit_failed": U.FAILED,
        "unit_cancelled": U.CANCELLED,
    },
    U.WITH_CHILD: {
        "child_completed": U.COMPLETED,
        "child_failed": U.FAILED,
        "child_cancel_requested": U.WITH_CHILD,
    },
    U.COMPLETED: {},
    U.TIMED_OUT: {},
    U.FAILED: {},
    U.CANCELLED: {},
}
"""Unit status and entry kind to the next unit status."""

_UNDO_ATTEMPTED: Mapping[str, UnitStatus] = {
    "unit_compensated": U.COMPLETED,
    "compensation_failed": U.FAILED,
    "compensation_attempt_failed": U.RETRYING,
    "compensation_suspended": U.SUSPENDED,
}

UNDO_MOVES: Mapping[UnitStatus, Mapping[str, UnitStatus]] = {
    U.NEW: {**_UNDO_ATTEMPTED, "child_rollback_requested": U.WITH_CHILD},
    U.RETRYING: _UNDO_ATTEMPTED,
    U.RESUMED: _UNDO_ATTEMPTED,
    U.SUSPENDED: {"compensation_resumed": U.RESUMED},
    U.WITH_CHILD: {"unit_compensated": U.COMPLETED, "compensation_failed": U.FAILED},
    U.SLEEPING: {},
    U.AWAITING: {},
    U.COMPLETED: {},
    U.TIMED_OUT: {},
    U.FAILED: {},
    U.CANCELLED: {},
}
"""The same for the compensation of a completed unit."""

UNIT_KINDS = frozenset(kind for moves in UNIT_MOVES.values() for kind in moves)
UNDO_KINDS = frozenset(kind for moves in UNDO_MOVES.values() for kind in moves)

UNIT_ENDED = frozenset({U.COMPLETED, U.TIMED_OUT, U.FAILED, U.CANCELLED})
"""Statuses after which a unit's handler never starts again (within a generation)."""

FAMILY: Mapping[str, str] = {
    "unit_completed": "call",
    "attempt_failed": "call",
    "unit_suspended": "call",
    "unit_resumed": "call",
    "route_decided": "route_decided",
    "items_recorded": "items_recorded",
    "value_recorded": "value_recorded",
    "undo_registered": "undo_registered",
    "timer_started": "timer",
    "timer_fired": "timer",
    "signal_awaited": "wait",
    "signal_consumed": "wait",
    "signal_rejected": "wait",
    "wait_timed_out": "wait",
    "child_started": "child",
    "child_cancel_requested": "child",
    "child_completed": "child",
    "child_failed": "child",
}
"""Which kind of step an entry belongs to; kinds that fit any step (a failure, a cancellation)
are not listed. A replayed program that asks for another family has changed."""
