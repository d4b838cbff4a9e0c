"""Limits: a bound on everything, enforced before the write."""

from __future__ import annotations

from datetime import timedelta

import attrs

from ..errors import DefinitionError
from .policy import duration_ms
from .shown import shown

MIB = 1024 * 1024
NAME_LENGTH = 200
"""The longest workflow or step name, in characters; definitions are built before any engine."""


def _count(instance: Limits, attribute: attrs.Attribute[int], value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DefinitionError(
            f"Limits.{attribute.name} must be an int of 1 or more, not {shown(value)}"
        )


def _duration(instance: Limits, attribute: attrs.Attribute[timedelta], value: timedelta) -> None:
    duration_ms(value, what=f"Limits.{attribute.name}")


def _limit(default: int) -> int:
    return attrs.field(default=default, validator=_count)


@attrs.frozen(slots=True, kw_only=True)
class Limits:
    """What one run and one worker may use.

    Bytes, encoded: ``input``, ``result`` (of one unit), ``signal`` (also resume data), ``error``
    (text of one failure). Characters: ``name`` (names and ids). Counts: ``depth`` (nesting of a
    value), ``units`` (of one run), ``fan_out`` (items of one map), ``child_depth``, ``inbox``
    (messages waiting), ``worker_deaths`` (before a run is held as ``poisoned``), ``waits`` (listed
    in ``RunInfo.waiting_for``). Durations: ``cancel_grace`` (for a cancelled handler to end),
    ``loop_stall_limit`` (after which a stalled event loop loses its runs).
    """

    input: int = _limit(MIB)
    result: int = _limit(MIB)
    signal: int = _limit(MIB)
    error: int = _limit(16 * 1024)
    name: int = _limit(NAME_LENGTH)
    depth: int = _limit(64)
    units: int = _limit(50_000)
    fan_out: int = _limit(10_000)
    child_depth: int = _limit(32)
    inbox: int = _limit(10_000)
    waits: int = _limit(1_000)
    worker_deaths: int = _limit(5)
    cancel_grace: timedelta = attrs.field(default=timedelta(seconds=5), validator=_duration)
    loop_stall_limit: timedelta = attrs.field(default=timedelta(seconds=60), validator=_duration)


DEFAULT_LIMITS = Limits()
