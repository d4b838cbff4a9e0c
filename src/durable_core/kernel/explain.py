"""Explain: what a run is doing, in a sentence and as facts; a pure function over its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from .failure import Failure
from .parking import LIFTED
from .run import RunStatus, Waiting

LATE_MS = 1_000
"""A run that waits is taken up soon after its moment; after so long, somebody is missing."""


@attrs.frozen(slots=True)
class Explanation:
    """Why a run is where it is. ``str()`` is the sentence; ``facts`` is JSON-like."""

    sentence: str
    facts: Mapping[str, Any]

    def __str__(self) -> str:
        return self.sentence


def explain(
    *,
    run_id: str,
    workflow: str,
    status: RunStatus,
    waits: Sequence[Waiting],
    failure: Failure | None,
    now_ms: int,
    since_ms: int,
    owner: str | None = None,
    due_at_ms: int | None = None,
) -> Explanation:
    """What the run waits for, since when, and who must act.

    ``owner`` is the worker that holds it, ``due_at_ms`` when it may be claimed (or, while it is
    held, when the lease ends); ``since_ms`` when it last changed.
    """
    facts: dict[str, Any] = {
        "run_id": run_id,
        "workflow": workflow,
        "status": status.value,
        "since_ms": since_ms,
        "waiting_for": [attrs.asdict(wait) for wait in waits],
    }
    if owner is not None:
        facts["worker"] = owner
    if due_at_ms is not None:
        facts["due_at_ms"] = due_at_ms
    if failure is not None:
        facts["failure"] = str(failure)
    start = f"Run {run_id!r} of workflow {workflow!r}"
    if status.terminal:
        return Explanation(start + _ended(status, failure) + ".", facts)
    if owner is not None and due_at_ms is not None and due_at_ms > now_ms:
        doing = "undoing its work" if status is RunStatus.COMPENSATING else "working"
        return Explanation(f"{start} is {doing} on worker {owner!r}; nobody must act.", facts)
    late_ms = None if due_at_ms is None else now_ms - due_at_ms
    if waits:
        parts = [_waits(wait, now_ms) for wait in waits[:3]]
        if len(waits) > 3:
            parts.append(f"and {len(waits) - 3} more")
        if late_ms is not None and late_ms >= LATE_MS and waits[0].kind != "operator":
            parts.append(_ready(late_ms))
        return Explanation(f"{start} is {status.value}: it {'; '.join(parts)}.", facts)
    if late_ms is not None and late_ms >= 0:
        return Explanation(f"{start} is {status.value} and {_ready(late_ms)}.", facts)
    begins = f"begins in {_span(due_at_ms - now_ms)}" if due_at_ms is not None else "is idle"
    return Explanation(f"{start} is {status.value} and {begins}.", facts)


def _ready(late_ms: int) -> str:
    return (
        f"has been ready for {_span(late_ms)}: it needs a worker that knows this workflow and "
        "version and serves its queue"
    )


def _ended(status: RunStatus, failure: Failure | None) -> str:
    match status:
        case RunStatus.COMPLETED:
            return " has completed"
        case RunStatus.CANCELLED:
            return " was cancelled"
        case RunStatus.COMPENSATION_FAILED:
            return (
                f" failed with {failure}, and not all of its work could be undone: an operator "
                "may mend the cause and retry it"
            )
        case _:
            return f" failed with {failure}; whatever of it has a compensator was undone"


def _waits(wait: Waiting, now_ms: int) -> str:
    since = f"since {_span(now_ms - wait.since_ms)}"
    until = "" if wait.until_ms is None else f", for {_span(wait.until_ms - now_ms)} more"
    match wait.kind:
        case "timer":
            return f"sleeps in {wait.unit!r} {since}{until}"
        case "retry":
            return f"retries {wait.unit!r} after {wait.reason}{until}"
        case "signal":
            return (
                f"waits {since} for the signal {wait.name!r} in {wait.unit!r}{until}: whoever "
                "sends it must act"
            )
        case "child":
            return f"waits {since} for its child run {wait.name!r} in {wait.unit!r}"
        case "resume":
            return f"waits {since} to be resumed in {wait.unit!r}: whoever holds the token must act"
        case _:
            who = "a worker that fits, or an operator," if wait.reason in LIFTED else "an operator"
            return f"is parked {since} ({wait.reason}): {who} must act"


def _span(ms: int) -> str:
    seconds = max(0, ms) / 1000
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            count = round(seconds / size, 1)
            return f"{count:g} {unit}{'' if count == 1 else 's'}"
    return f"{seconds:.3g} s"
