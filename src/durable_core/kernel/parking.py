"""Parking: holding a run that cannot be advanced at all."""

from __future__ import annotations

from . import journal as j
from .failure import Failure
from .outcome import Transition
from .run import RunContext, RunStatus, Waiting


def park(
    run: RunContext,
    *,
    after_seq: int,
    generation: int,
    reason: str,
    failure: Failure,
    now_ms: int,
    again: bool = True,
) -> Transition:
    """Hold a run whose journal cannot even be read; ``again`` False records nothing new."""
    entry = j.RunParked(seq=after_seq + 1, at_ms=now_ms, reason=reason, failure=failure)
    return Transition(
        after_seq=after_seq,
        status=RunStatus.SUSPENDED,
        generation=generation,
        entries=(entry,) if again else (),
        waiting=(Waiting(kind="operator", unit=None, since_ms=now_ms, reason=reason),),
        failure=failure,
        release=True,
    )
