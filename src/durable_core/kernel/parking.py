"""Parking: holding a run that cannot be advanced, and when to look whether it can by now."""

from __future__ import annotations

from . import journal as j
from .failure import Failure
from .outcome import Transition
from .run import RunContext, RunStatus, Waiting

DEFINITION_CHANGED, UNDECODABLE = "definition_changed", "undecodable"
LIFTED = frozenset({DEFINITION_CHANGED, UNDECODABLE})
"""Reasons that a worker lifts which has other code, or another codec."""
SOON_MS, SELDOM_MS = 1_000, 3_600_000


def again_ms(reason: str, since_ms: int, now_ms: int) -> int | None:
    """When a parked run is tried again, if nothing tells which worker would fit: after a second,
    then after as long as it has been parked, at least once an hour. While a deployment rolls, a
    worker that fits gets it soon, and what nobody mends costs next to nothing. None: only an
    operator moves it."""
    if reason not in LIFTED:
        return None
    return now_ms + min(max(SOON_MS, now_ms - since_ms), SELDOM_MS)


def park(
    run: RunContext,
    *,
    after_seq: int,
    generation: int,
    reason: str,
    failure: Failure,
    now_ms: int,
    since_ms: int | None = None,
) -> Transition:
    """Hold a run whose journal cannot even be read; if it is so ``since_ms``, that is not recorded
    again."""
    began_ms = now_ms if since_ms is None else since_ms
    entry = j.RunParked(seq=after_seq + 1, at_ms=now_ms, reason=reason, failure=failure)
    return Transition(
        after_seq=after_seq,
        status=RunStatus.SUSPENDED,
        generation=generation,
        entries=(entry,) if since_ms is None else (),
        waiting=(Waiting(kind="operator", unit=None, since_ms=began_ms, reason=reason),),
        failure=failure,
        release=True,
        claim_at_ms=again_ms(reason, began_ms, now_ms),
    )
