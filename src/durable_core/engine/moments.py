"""Moments: the engine's ms since 1970 UTC as aware datetimes, for whoever reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ..workflow.decisions import EPOCH

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


def moment(ms: int) -> datetime:
    """In UTC, exact to the millisecond; what lies beyond the calendar is its edge. (A deadline may:
    the last moment of year 9999 is rounded up, and in another time zone it is later.)"""
    try:
        return EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        return FIRST if ms < 0 else LAST
