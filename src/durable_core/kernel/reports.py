"""Reports: what became of an attempt, turned into the entry that records it."""

from __future__ import annotations

from typing import assert_never

from . import journal as j
from .decide import conclude
from .draft import Draft
from .event import AttemptFailed, AttemptStopped, AttemptSucceeded, AttemptSuspended
from .failure import Failure
from .outcome import Attempt
from .policy import Retry

Report = AttemptSucceeded | AttemptFailed | AttemptSuspended | AttemptStopped


def take_report(draft: Draft, attempt: Attempt, report: Report, *, lost_race: bool) -> None:
    """Record what became of ``attempt``; ``lost_race``: its step is not wanted any more.

    A success is recorded however late it comes. A stopped attempt leaves no trace, unless it
    lost a race: then its unit is over.
    """
    unit = attempt.key.unit
    undoing = attempt.key.compensating
    match report:
        case AttemptSucceeded():
            if undoing:
                draft.record(j.UnitCompensated, unit, attempt=attempt.number)
                return
            assert attempt.call is not None
            draft.append(
                j.UnitCompleted(
                    unit=unit,
                    seq=draft.next_seq,
                    at_ms=draft.now_ms,
                    payload=report.payload,
                    attempt=attempt.number,
                    verdict=conclude(attempt.call, report.payload),
                    name=attempt.call.name,
                )
            )
        case AttemptFailed():
            retryable = report.retryable and not lost_race
            _record_failure(draft, attempt, report.failure, retryable=retryable)
        case AttemptSuspended():
            if lost_race:
                draft.record(j.UnitCancelled, unit)
                return
            suspended = j.CompensationSuspended if undoing else j.UnitSuspended
            draft.record(
                suspended,
                unit,
                payload=report.snapshot,
                attempt=attempt.number,
                token=report.token,
                **_named(attempt),
            )
            draft.tokens_opened.append(report.token)
        case AttemptStopped():
            if lost_race:
                draft.record(j.UnitCancelled, unit)
        case _:
            assert_never(report)


def _record_failure(draft: Draft, attempt: Attempt, failure: Failure, *, retryable: bool) -> None:
    undoing = attempt.key.compensating
    policy = _policy(attempt)
    unit = attempt.key.unit
    if not retryable or attempt.number >= policy.max_attempts:
        final = j.CompensationFailed if undoing else j.UnitFailed
        draft.record(final, unit, failure=failure, attempt=attempt.number, **_named(attempt))
        return
    seed = f"{draft.run.run_id}:{unit}{':compensate' if undoing else ''}"
    again = j.CompensationAttemptFailed if undoing else j.AttemptFailed
    draft.record(
        again,
        unit,
        failure=failure,
        attempt=attempt.number,
        retry_at_ms=draft.now_ms + policy.delay_ms(attempt.number, seed),
        **_named(attempt),
    )


def _named(attempt: Attempt) -> dict[str, str | None]:
    """What was called, for the entries of calls; those of compensations do not say it."""
    if attempt.key.compensating or attempt.call is None:
        return {}
    return {"name": attempt.call.name}


def _policy(attempt: Attempt) -> Retry:
    if attempt.undo is not None:
        return attempt.undo.retry
    assert attempt.call is not None
    return attempt.call.retry
