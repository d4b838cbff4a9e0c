"""Faults: what goes wrong in a simulation, as plain data.

A ``Faults`` is a plan: which mishap, where, the how-manieth time. Its text is Python that makes
it again, so that a failing plan can be pasted into a test. An empty plan is a quiet world.

Where: ``unit`` is a handler's unit as in ``ctx.unit`` (``"pay"``, ``"check/fraud"``,
``"pick/3"``; the compensator of a unit is ``"undo pay"``); ``verb`` is a call of the store, one
of ``VERBS``. ``nth`` counts from 1, over all workers.

A fault shrinks towards none at all; the first value that a strategy may draw is the mildest.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

from ..errors import DurableError

VERBS = (
    "claim",
    "commit",
    "renew",
    "inbox",
    "create",
    "deliver",
    "deliver_and_claim",
    "journal",
    "get",
)
STORE_ERRORS = ("refused", "lost", "landed")
OPERATIONS = ("cancel", "terminate", "pause", "unpause", "retry", "start")

When = Literal["before", "after"]
OUTAGE = 60
"""So many calls of the store in a row that fail take longer than a lease."""
WHENS: tuple[When, ...] = ("before", "after")


def _one_place(fault: Any, _: Any, __: Any) -> None:
    if (fault.unit is None) == (fault.verb is None):
        raise DurableError(
            f"{type(fault).__name__} needs a place: either unit=..., or verb= one of {VERBS}"
        )


def _count(_: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DurableError(f"{attribute.name} counts from 1, so it cannot be {value!r}")


def _one_of(*words: str) -> Any:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if value is not None and value not in words:
            raise DurableError(f"{attribute.name} must be one of {words}, not {value!r}")

    return check


def _seconds(_: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 10**9:
        raise DurableError(f"{attribute.name} must be a number of seconds, not {value!r}")


def _positive(_: Any, attribute: Any, value: Any) -> None:
    _seconds(_, attribute, value)
    if value < 0:
        raise DurableError(f"{attribute.name} cannot be less than 0, such as {value!r}")


@attrs.frozen(slots=True, kw_only=True)
class Crash:
    """The worker process dies: before or after a handler's effect, or a call of the store."""

    unit: str | None = None
    verb: str | None = attrs.field(default=None, validator=_one_of(*VERBS))
    nth: int = attrs.field(default=1, validator=_count)
    when: When = attrs.field(default="before", validator=[_one_of(*WHENS), _one_place])


@attrs.frozen(slots=True, kw_only=True)
class Pause:
    """The worker process is frozen for so many leases, and goes on as a zombie."""

    unit: str | None = None
    verb: str | None = attrs.field(default=None, validator=_one_of(*VERBS))
    nth: int = attrs.field(default=1, validator=_count)
    when: When = attrs.field(default="before", validator=_one_of(*WHENS))
    leases: float = attrs.field(default=1.5, validator=[_seconds, _one_place])


@attrs.frozen(slots=True, kw_only=True)
class Raising:
    """A handler raises in its first ``times`` calls, before or after its effect."""

    unit: str
    times: int = attrs.field(default=1, validator=_count)
    when: When = attrs.field(default="before", validator=_one_of(*WHENS))


@attrs.frozen(slots=True, kw_only=True)
class Slow:
    """A handler takes ``seconds`` longer than it does."""

    unit: str
    nth: int = attrs.field(default=1, validator=_count)
    seconds: float = attrs.field(default=60.0, validator=_seconds)


@attrs.frozen(slots=True, kw_only=True)
class StoreError:
    """A call of the store fails: ``refused`` (nothing was written), ``lost`` (nothing was, but
    nobody knows), ``landed`` (it was, but the answer was lost). So do the next calls of the verb,
    ``times`` in all: with many of them the store is out of reach for a while."""

    verb: str = attrs.field(validator=_one_of(*VERBS))
    nth: int = attrs.field(default=1, validator=_count)
    kind: str = attrs.field(default="refused", validator=_one_of(*STORE_ERRORS))
    times: int = attrs.field(default=1, validator=_count)


@attrs.frozen(slots=True, kw_only=True)
class Delay:
    """A call of the store takes ``seconds`` longer: before it is made, or until its answer is
    there."""

    verb: str = attrs.field(validator=_one_of(*VERBS))
    nth: int = attrs.field(default=1, validator=_count)
    seconds: float = attrs.field(default=10.0, validator=_positive)
    when: When = attrs.field(default="before", validator=_one_of(*WHENS))


@attrs.frozen(slots=True, kw_only=True)
class Theft:
    """After the nth commit, the leases end at once for everybody but their holders."""

    nth: int = attrs.field(default=1, validator=_count)


@attrs.frozen(slots=True, kw_only=True)
class ClockJump:
    """After the nth call of the store its clock goes on, or back, by ``seconds``."""

    nth: int = attrs.field(default=1, validator=_count)
    seconds: float = attrs.field(default=3600.0, validator=_seconds)


@attrs.frozen(slots=True, kw_only=True)
class SignalAt:
    """After the nth commit the signals given to the simulation are sent: again, or with ``late``
    for the first time."""

    nth: int = attrs.field(default=1, validator=_count)
    copies: int = attrs.field(default=1, validator=_count)
    reverse: bool = False
    late: bool = False


@attrs.frozen(slots=True, kw_only=True)
class Operate:
    """After the nth commit, an operator acts on the run; ``start``: somebody starts it again,
    by the same id."""

    what: str = attrs.field(validator=_one_of(*OPERATIONS))
    nth: int = attrs.field(default=1, validator=_count)


@attrs.frozen(slots=True, kw_only=True)
class Stop:
    """At the nth call of the store, the worker is told to end: it drains, and another begins."""

    nth: int = attrs.field(default=1, validator=_count)
    grace: float = attrs.field(default=0.0, validator=_seconds)


@attrs.frozen(slots=True, kw_only=True)
class Interrupt:
    """At the nth turn of the workers' event loops, the task that runs the worker is cancelled, as
    by Ctrl-C; another worker begins. Every await ends a turn: so it strikes at any await."""

    nth: int = attrs.field(default=1, validator=_count)


@attrs.frozen(slots=True, kw_only=True)
class Skew:
    """All clocks of the nth worker are off by ``seconds``, from its beginning: the time of day and
    the monotonic one. The store's clock is right."""

    worker: int = attrs.field(default=1, validator=_count)
    seconds: float = attrs.field(default=3600.0, validator=_seconds)


Fault = (
    Crash
    | Pause
    | Raising
    | Slow
    | StoreError
    | Delay
    | Theft
    | ClockJump
    | SignalAt
    | Operate
    | Stop
    | Interrupt
    | Skew
)

KINDS: tuple[type, ...] = (
    Crash,
    Pause,
    Raising,
    Slow,
    StoreError,
    Delay,
    Theft,
    ClockJump,
    SignalAt,
    Operate,
    Stop,
    Interrupt,
    Skew,
)

RACES = (Operate, SignalAt, Slow, Raising, ClockJump)
"""What may change a run's result by right: what others do, handlers that fail, time."""


class Faults:
    """A plan: faults in any order, how many workers there are, and the seed of what is random.

    ``always_suspend``: the run is dropped and claimed again after each of its commits.
    ``embedded``: each worker process starts the run itself, by its id, as soon as its worker has
    found nothing to do, and sends its signals when it may have come to wait; the first one creates
    the run with its lease, and what a signal wakes is leased by its delivery (eager starts and
    deliveries). Plans are equal when they say the same; ``repr`` is Python that makes the plan
    again.
    """

    __slots__ = ("always_suspend", "embedded", "faults", "seed", "workers")

    def __init__(
        self,
        *faults: Fault,
        workers: int = 2,
        seed: int = 0,
        always_suspend: bool = False,
        embedded: bool = False,
    ) -> None:
        for fault in faults:
            if not isinstance(fault, KINDS):
                raise DurableError(f"Faults takes faults such as Crash(...), not {fault!r}")
        if isinstance(workers, bool) or workers not in (1, 2, 3):
            raise DurableError(f"workers must be 1, 2 or 3, not {workers!r}")
        self.faults = faults
        self.workers = workers
        self.seed = seed
        self.always_suspend = always_suspend
        self.embedded = embedded

    def replace(self, **changes: Any) -> Faults:
        """The same plan, but for ``faults`` (in a tuple), ``workers``, ``seed`` and so on."""
        facts = {name: getattr(self, name) for name in self.__slots__} | changes
        return Faults(*facts.pop("faults"), **facts)

    @property
    def races(self) -> bool:
        """Whether the plan may change what a run comes to by right."""
        return any(isinstance(fault, RACES) for fault in self.faults)

    def __repr__(self) -> str:
        parts = [said(fault) for fault in self.faults]
        if self.workers != 2:
            parts.append(f"workers={self.workers}")
        if self.seed:
            parts.append(f"seed={self.seed}")
        if self.always_suspend:
            parts.append("always_suspend=True")
        if self.embedded:
            parts.append("embedded=True")
        return f"Faults({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Faults) and self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash(self._facts())

    def __len__(self) -> int:
        return len(self.faults)

    def __bool__(self) -> bool:
        return True

    def _facts(self) -> tuple[Any, ...]:
        return (self.faults, self.workers, self.seed, self.always_suspend, self.embedded)


def said(fault: Any) -> str:
    """A fault (or other plain data) as Python, without what goes without saying."""
    parts = []
    for field in attrs.fields(type(fault)):
        value = getattr(fault, field.name)
        if value != field.default:
            parts.append(f"{field.name}={value!r}")
    return f"{type(fault).__name__}({', '.join(parts)})"
