"""Nearness: a suspended run is claimed a little before its moment, and rests until then.

A claim is a transaction of a few ms. Made when the moment has come, it makes every sleep, retry
and time-out late by as much; made ``NEAR_MS`` before, it is in nobody's way. A worker rests 10 ms
between two claims for what falls due, so this is enough to have all of it in its hands. Rules:

1. A run rests where nothing was recorded just now and its moment is near. Where something was,
   the lease is given up by the same commit, which says what the run waits for, too.
2. What was claimed is not all that was acknowledged before the moment. So what time decides then
   is committed with ``Commit.not_before_ms`` (``Runner`` in the engine): the store refuses it where
   a message has come meanwhile.
3. A worker that dies meanwhile delays the run by its lease, as it does any run it holds.
"""

from __future__ import annotations

NEAR_MS = 20
"""How long before its moment a run may be claimed, and is kept."""


def is_near(resume_at_ms: int | None, now_ms: int) -> bool:
    """Whether this time is still to come, and so near that a run rests until then."""
    return resume_at_ms is not None and now_ms < resume_at_ms <= now_ms + NEAR_MS


def is_claimable(resume_at_ms: int, now_ms: int) -> bool:
    """Whether a run with something to do at this time may be claimed, or kept, by now."""
    return now_ms >= resume_at_ms - NEAR_MS


def claimable_from(resume_at_ms: int | None, now_ms: int) -> int | None:
    """From when on a run with something to do at this time is to be claimed: a little before,
    but not in the past, where it would overtake others. None: not by time."""
    if resume_at_ms is None:
        return None
    return max(resume_at_ms - NEAR_MS, min(resume_at_ms, now_ms))
