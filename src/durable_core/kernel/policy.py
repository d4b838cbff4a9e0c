"""Retry policies and durations: how often, how long, and what is worth another attempt.

Delays are pure functions of (policy, attempt, seed): the jitter is derived by hashing the run,
unit and attempt, so a delay is the same wherever and whenever it is computed. Jitter only ever
lengthens: a retry is never earlier than its backoff.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import attrs

from ..errors import DefinitionError, TerminalError
from .shown import shown

Duration = timedelta | float | int
"""A ``timedelta``, or a number of seconds."""

MAX_DURATION_MS = 1000 * 86_400 * 365 * 1000
"""A thousand years in ms: beyond it a duration is a mistake, not a wish."""


def duration_ms(value: Duration, *, what: str) -> int:
    """Milliseconds (int, rounded up) of a ``timedelta`` or a number of seconds.

    Raises ``DefinitionError`` naming ``what`` for a negative, NaN, infinite or absurd value and
    for anything that is not a duration.
    """
    if isinstance(value, bool) or not isinstance(value, timedelta | int | float):
        raise DefinitionError(
            f"{what} must be a timedelta or a number of seconds, not {type(value).__name__}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise DefinitionError(f"{what} must be finite, not {value!r}")
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds < 0:
        raise DefinitionError(f"{what} must not be negative, but is {shown(seconds)} s")
    if seconds * 1000 > MAX_DURATION_MS:
        raise DefinitionError(f"{what} must be at most a thousand years, but is {shown(seconds)} s")
    return math.ceil(round(seconds * 1000, 3))


def _initial(value: Duration) -> timedelta:
    return timedelta(milliseconds=duration_ms(value, what="Retry.initial"))


def _max_delay(value: Duration) -> timedelta:
    return timedelta(milliseconds=duration_ms(value, what="Retry.max_delay"))


RetryOn = tuple[type[BaseException], ...] | Callable[[BaseException], bool]


@attrs.frozen(slots=True)
class Retry:
    """How a failing unit is retried.

    ``max_attempts`` counts the first try. The delay after failed attempt n (from 1) is
    ``initial * factor ** (n - 1)`` (or ``initial * n`` for ``Retry.linear``), at most
    ``max_delay``, lengthened by up to ``jitter`` (a fraction, 0 to 1). ``on`` is the exception
    types worth retrying, or a predicate; ``give_up_on`` wins over it; ``TerminalError`` is
    never retried. Durations are ``timedelta`` or seconds.
    """

    max_attempts: int = 3
    initial: timedelta = attrs.field(default=timedelta(seconds=1), converter=_initial)
    factor: float = 2.0
    max_delay: timedelta = attrs.field(default=timedelta(seconds=60), converter=_max_delay)
    jitter: float = 0.1
    on: RetryOn = (Exception,)
    give_up_on: tuple[type[BaseException], ...] = ()
    backoff: Literal["exponential", "linear"] = "exponential"

    def __attrs_post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
            raise DefinitionError(
                f"Retry.max_attempts must be an int, not {type(self.max_attempts).__name__}"
            )
        if self.max_attempts < 1:
            raise DefinitionError(
                f"Retry.max_attempts counts the first try, so it must be at least 1, "
                f"not {shown(self.max_attempts)}"
            )
        _check_number("factor", self.factor, minimum=1.0)
        _check_number("jitter", self.jitter, minimum=0.0, maximum=1.0)
        if not isinstance(self.backoff, str) or self.backoff not in ("exponential", "linear"):
            raise DefinitionError(
                f"Retry.backoff must be 'exponential' or 'linear', not {shown(self.backoff)}"
            )
        if not callable(self.on):
            object.__setattr__(self, "on", _exception_types("on", self.on))
        elif isinstance(self.on, type):
            object.__setattr__(self, "on", _exception_types("on", (self.on,)))
        object.__setattr__(self, "give_up_on", _exception_types("give_up_on", self.give_up_on))

    @classmethod
    def linear(
        cls,
        max_attempts: int = 3,
        *,
        step: Duration = timedelta(seconds=5),
        max_delay: Duration = timedelta(seconds=60),
        jitter: float = 0.1,
        on: RetryOn = (Exception,),
        give_up_on: tuple[type[BaseException], ...] = (),
    ) -> Retry:
        """A policy whose delay after failed attempt n is ``n * step``."""
        return cls(
            max_attempts=max_attempts,
            initial=duration_ms(step, what="Retry.linear's step") / 1000,
            max_delay=max_delay,
            jitter=jitter,
            on=on,
            give_up_on=give_up_on,
            backoff="linear",
        )

    def delay_ms(self, attempt: int, seed: str) -> int:
        """Milliseconds to wait after failed attempt ``attempt`` (from 1)."""
        initial_ms = self.initial / timedelta(milliseconds=1)
        max_ms = self.max_delay / timedelta(milliseconds=1)
        if self.backoff == "linear":
            base_ms = min(initial_ms * attempt, max_ms)
        else:
            base_ms = min(initial_ms * _power(self.factor, attempt - 1), max_ms)
        return math.ceil(round(base_ms * (1 + self.jitter * _unit_interval(seed, attempt)), 3))

    def retryable(self, error: BaseException) -> bool:
        """Whether this exception is worth another attempt. A raising predicate propagates."""
        if isinstance(error, TerminalError):
            return False
        if self.give_up_on and isinstance(error, self.give_up_on):
            return False
        if isinstance(self.on, tuple):
            return isinstance(error, self.on)
        return bool(self.on(error))


def _unit_interval(seed: str, attempt: int) -> float:
    digest = hashlib.blake2b(
        f"{seed}\x1f{attempt}".encode("utf-8", "surrogatepass"), digest_size=8
    ).digest()
    return int.from_bytes(digest, "big") / 2**64


def _power(factor: float, exponent: int) -> float:
    try:
        return float(factor) ** exponent
    except OverflowError:
        return 1e300  # any cap is below it, and 0 ms times it is still 0


def _check_number(name: str, value: float, *, minimum: float, maximum: float | None = None) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or (isinstance(value, float) and not math.isfinite(value)):
        raise DefinitionError(f"Retry.{name} must be a finite number, not {shown(value)}")
    if value < minimum or (maximum is not None and value > maximum):
        bounds = f"at least {minimum}" + ("" if maximum is None else f" and at most {maximum}")
        raise DefinitionError(f"Retry.{name} must be {bounds}, not {shown(value)}")


def _exception_types(name: str, value: Any) -> tuple[type[BaseException], ...]:
    types = value if isinstance(value, list | tuple | set | frozenset) else (value,)
    for one in types:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise DefinitionError(
                f"Retry.{name} takes exception classes"
                + (" or a predicate" if name == "on" else "")
                + f", not {shown(one)}"
            )
    return tuple(types)


DEFAULT_RETRY = Retry()
DEFAULT_UNDO_RETRY = Retry(max_attempts=5)
NO_RETRY = Retry(max_attempts=1)
