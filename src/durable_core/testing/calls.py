"""Calls: what can be told of one call of a handler when it begins."""

from __future__ import annotations

from typing import Any

import attrs

from ..kernel.outcome import Attempt
from ..kernel.policy import Retry


class Injected(Exception):
    """What the plan makes a handler raise."""


@attrs.frozen(slots=True)
class Call:
    """One call of a handler: ``label`` is its unit, with "undo " before it for a compensator."""

    run_id: str
    label: str
    attempt: int
    process: str
    too_late: bool
    """The unit had ended already when this call began."""
    generation: int = 1
    key: str = ""
    """Its idempotency key."""
    attempts_max: int = 1
    retryable: bool = False
    """Whether an exception of no special kind is worth another attempt."""
    timeout_ms: int | None = None
    has_undo: bool = False
    transactional: bool = False
    at_ms: int = 0
    """When it began, by the store's clock."""
    event: int = 0


def call_of(
    run_id: str,
    attempt: Attempt,
    process: str,
    *,
    key: str,
    too_late: bool,
    lease_ms: int,
    at_ms: int,
    event: int,
) -> Call:
    """This attempt, as it is about to be made."""
    unit, undoing, step = str(attempt.key.unit), attempt.key.compensating, attempt.call
    policy: Any = attempt.undo if undoing else step
    return Call(
        run_id,
        f"undo {unit}" if undoing else unit,
        attempt.number,
        process,
        too_late,
        generation=attempt.generation,
        key=key,
        attempts_max=policy.retry.max_attempts,
        retryable=_worth_another(policy.retry),
        timeout_ms=_time_limit_ms(attempt, lease_ms),
        has_undo=step is not None and step.undo is not None,
        transactional=attempt.transactional,
        at_ms=at_ms,
        event=event,
    )


def _time_limit_ms(attempt: Attempt, lease_ms: int) -> int | None:
    """Its timeout; a transaction is limited to a third of the lease besides."""
    if not attempt.transactional:
        return attempt.timeout_ms
    return min(attempt.timeout_ms or lease_ms // 3, lease_ms // 3)


def _worth_another(retry: Retry) -> bool:
    """Whether the policy tries again after an exception of no special kind."""
    try:
        return retry.retryable(Injected())
    except Exception:
        return False
