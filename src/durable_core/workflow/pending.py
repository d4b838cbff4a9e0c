"""Pending: what a body may await, and hand to ``ctx.all``, ``ctx.settle`` and ``ctx.first``.

A pending is data: an ask for the kernel, and how its outcome is read. Awaiting it yields it to
whoever drives the body (``coroutine.py``), who puts the outcome in. Each reading of a value is a
fresh copy. It is awaited or combined once; awaiting it again reads it again.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from ..errors import StepFailed
from ..kernel.outcome import Completed, Failed, Outcome, Settled, TimedOut, Won
from ..kernel.step import All, Ask, First, Join
from ..kernel.value import Payload

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Read = Callable[[Outcome], Any]
"""The value of an outcome that is no failure; of a group also the exception of a part."""


class TimedOutType(enum.Enum):
    """The type of ``TIMED_OUT``."""

    TIMED_OUT = "timed out"

    def __repr__(self) -> str:
        return "TIMED_OUT"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return False


TIMED_OUT: Final = TimedOutType.TIMED_OUT
"""What a wait for a signal gives when its time is up; told apart from a signal without payload."""


class Owner(Protocol):
    """The body that a pending belongs to."""

    def taken(self, pending: Pending[Any]) -> None:
        """It is awaited, or part of another one."""
        ...


class Pending(Generic[T_co]):
    """Something a body asked for; ``await`` it, or hand it to ``ctx.all`` and its kin."""

    __slots__ = ("_read", "again", "ask", "asked", "label", "on_outcome", "outcome", "owner")

    def __init__(self, owner: Owner, label: str, ask: Ask, read: Read) -> None:
        """``label`` is what it is called when it failed, e.g. the step's key."""
        self.owner = owner
        self.label = label
        self.ask = ask
        self.outcome: Outcome | None = None
        self.on_outcome: Callable[[], None] | None = None
        self.asked = False
        """Whether it was awaited, or is a part of another one; the end of a child may be awaited
        again."""
        self.again = False
        """Whether it is awaited though it was asked for before, and came to nothing."""
        self._read = read

    def __repr__(self) -> str:
        return f"<pending {self.label}>"

    def __await__(self) -> Generator[Pending[Any], None, T_co]:
        if self.outcome is None:
            self.again = self.asked
            self.take()
            yield self
        found = self.found()
        if isinstance(found, StepFailed):
            raise found
        return found

    def take(self) -> None:
        """It is awaited, or part of another one."""
        self.asked = not isinstance(self.ask, Join)
        self.owner.taken(self)

    def come_out(self, outcome: Outcome) -> None:
        """The kernel has told what it came to."""
        self.outcome = outcome
        if self.on_outcome is not None:
            self.on_outcome()

    def found(self) -> T_co | StepFailed:
        """What it came to: its value, or the exception to raise."""
        assert self.outcome is not None, "a body goes on when what it awaits has come out"
        if isinstance(self.outcome, Failed):
            return StepFailed(self.label, self.outcome.failure)
        return cast("T_co | StepFailed", self._read(self.outcome))


class Group(Pending[T_co]):
    """Several at once: ``ctx.all``, ``ctx.settle`` or ``ctx.first``."""

    __slots__ = ("parts",)

    def __init__(
        self, owner: Owner, label: str, ask: Ask, read: Read, parts: Sequence[Pending[Any]]
    ) -> None:
        super().__init__(owner, label, ask, read)
        self.parts = parts
        for part in parts:
            part.take()

    def found(self) -> T_co | StepFailed:
        """The outcomes are handed down first, so that each part can be read alone too."""
        match self.outcome:
            case Settled(outcomes=outcomes):
                for part, outcome in zip(self.parts, outcomes, strict=True):
                    part.come_out(outcome)
            case Won(index=index, outcome=outcome):
                self.parts[index].come_out(outcome)
            case _:
                raise AssertionError(f"a group cannot come to {self.outcome!r}")
        return super().found()


class Race(Group[T_co]):
    """``ctx.first``: the value of whatever ended first; ``winner`` is its place, from 0."""

    __slots__ = ()

    @property
    def winner(self) -> int:
        """Which of them ended first. Raises ``ValueError`` before it was awaited."""
        if not isinstance(self.outcome, Won):
            raise ValueError("ctx.first has no winner yet: await it first")
        return self.outcome.index


def all_of(owner: Owner, parts: Sequence[Pending[Any]], limit: int | None) -> Group[list[Any]]:
    """The values of all, or the first failure in this order."""

    def read(outcome: Outcome) -> list[Any] | StepFailed:
        values: list[Any] = []
        for part in parts:
            value = part.found()
            if isinstance(value, StepFailed):
                return value
            values.append(value)
        return values

    ask = All(steps=tuple(part.ask for part in parts), max_concurrency=limit)
    return Group(owner, _label("all", parts), ask, read, parts)


def settled_of(owner: Owner, parts: Sequence[Pending[Any]], limit: int | None) -> Group[list[Any]]:
    """The values of all; a ``Failure`` in the place of each that failed."""

    def read(outcome: Outcome) -> list[Any]:
        values = [part.found() for part in parts]
        return [value.failure if isinstance(value, StepFailed) else value for value in values]

    ask = All(steps=tuple(part.ask for part in parts), max_concurrency=limit)
    return Group(owner, _label("settle", parts), ask, read, parts)


def first_of(owner: Owner, parts: Sequence[Pending[Any]]) -> Race[Any]:
    """The value of whatever ends first, or its failure."""

    def read(outcome: Outcome) -> Any:
        assert isinstance(outcome, Won)
        return parts[outcome.index].found()

    ask = First(steps=tuple(part.ask for part in parts))
    return Race(owner, _label("first", parts), ask, read, parts)


def _label(name: str, parts: Sequence[Pending[Any]]) -> str:
    shown = ", ".join(part.label for part in parts[:3])
    return f"{name}({shown}{', ...' if len(parts) > 3 else ''})"


# --- reading the outcome of a lone step ----------------------------------------------------------


def read_by(decode: Callable[[Payload], Any]) -> Read:
    """The value, decoded."""

    def read(outcome: Outcome) -> Any:
        assert isinstance(outcome, Completed), f"a step cannot come to {outcome!r}"
        return decode(outcome.payload)

    return read


def read_signal_by(decode: Callable[[Payload], Any]) -> Read:
    """The payload of a signal, or ``TIMED_OUT``."""
    read = read_by(decode)

    def read_signal(outcome: Outcome) -> Any:
        return TIMED_OUT if isinstance(outcome, TimedOut) else read(outcome)

    return read_signal


def read_nothing(outcome: Outcome) -> None:
    """The value of a sleep."""
