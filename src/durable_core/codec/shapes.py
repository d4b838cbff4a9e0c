"""Shape: how values of one annotation become plain values and come back; the simple ones.

``write`` is strict: it takes only what ``read`` will give back with the same type. ``read`` is
a little wider, because inputs and signals also come from people who write JSON by hand: a date
may be ISO text, a tuple a list.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from ..errors import LimitExceededError
from .plain import As, Bag, finish
from .refusal import Refusal, mismatch, type_name

Wire = frozenset[object] | None
"""The kinds of plain values that a shape writes; None means that it may be anything."""


def kind_of(raw: object) -> object:
    """Which kind of plain value this is, as listed in ``Shape.wire``."""
    return raw.tag if type(raw) is Bag else type(raw)


class Shape:
    """Two inverse functions, and what a union needs to choose between its members."""

    wire: Wire = None
    plain = False
    """True if values are plain already, so that only the outermost type needs a look: ``read``
    takes finished values too, and ``check`` takes nothing else."""

    def __init__(self, type_: Any) -> None:
        self.type = type_
        self.label = type_name(type_)

    def accepts(self, value: Any) -> bool:
        """A quick look from outside: may ``value`` be of this shape?"""
        return type(value) is self.type

    def write(self, value: Any) -> Any:
        """The plain value. Raises ``Refusal``."""
        raise NotImplementedError

    def read(self, raw: Any, _: Any = None) -> Any:
        """The value again. Raises ``Refusal``."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """A finished plain value, or what a hand-written one stands for. Raises ``Refusal``."""
        return self.read(value)

    def unlabelled(self, raw: Any) -> Any:
        """What stands under our label: the annotation was a union when this was written.

        Raises ``Refusal`` when it is not ours.
        """
        if type(raw) is As and raw.label == self.label:
            return raw.value
        raise Refusal(f"{self.label} expected, {describe(raw)} found")


def describe(raw: Any) -> str:
    """A plain value's kind, for people."""
    kind = kind_of(raw)
    if type(raw) is As:
        return raw.label
    return str(kind)[1:] if type(kind) is str else type_name(kind)


def guarded(function: Callable[[Any], Any], argument: Any, doing: str) -> Any:
    """``function(argument)``, with whatever a user's code raises made a ``Refusal``."""
    try:
        return function(argument)
    except (Refusal, RecursionError, LimitExceededError):
        raise
    except Exception as error:
        raise raised(error, doing) from error


def raised(error: Exception, doing: str) -> Refusal:
    """A user's code raised; never raises itself."""
    try:
        text = f": {error}"[:500]
    except Exception:
        text = ""
    return Refusal(f"{doing} raised {type_name(type(error))}{text}")


# --- a bound on the work -----------------------------------------------------------------------

_nodes: ContextVar[list[int]] = ContextVar("_nodes")
"""How many values the value that is being written may still consist of."""


def write_bounded(shape: Shape, value: Any, nodes: int) -> Any:
    """``shape.write(value)``; a few objects that hold each other many times may unfold to
    endless text. Raises ``Refusal``, and ``LimitExceededError`` above ``nodes`` values."""
    token = _nodes.set([nodes, nodes])
    try:
        return shape.write(value)
    finally:
        _nodes.reset(token)


def spend(count: int) -> None:
    """``count`` more values are about to be written. Raises ``LimitExceededError``."""
    left = _nodes.get(None)
    if left is not None:
        left[0] -= count
        if left[0] < 0:
            raise LimitExceededError(f"it consists of more than {left[1]} values")


# --- the simple shapes -------------------------------------------------------------------------


class AnyShape(Shape):
    """No annotation: the closed set of plain values."""

    plain = True

    def accepts(self, value: Any) -> bool:
        return True

    def write(self, value: Any) -> Any:
        return value

    def read(self, raw: Any, _: Any = None) -> Any:
        return finish(raw)

    def check(self, value: Any) -> Any:
        return value


class PlainShape(Shape):
    """A builtin container of unannotated items, e.g. ``dict`` or ``dict[str, Any]``."""

    plain = True

    def __init__(self, type_: Any, origin: type) -> None:
        super().__init__(type_)
        self.origin = origin
        names: Mapping[Any, object] = {
            dict: dict,
            list: list,
            tuple: tuple,
            set: "$set",
            frozenset: "$frozenset",
        }
        self.wire = frozenset({names[origin]})

    def accepts(self, value: Any) -> bool:
        return type(value) is self.origin

    def write(self, value: Any) -> Any:
        if type(value) is not self.origin:
            raise mismatch(value, self.type)
        return value

    def read(self, raw: Any, _: Any = None) -> Any:
        if type(raw) is As:
            raw = self.unlabelled(raw)
        return self.check(finish(raw))

    def check(self, value: Any) -> Any:
        if type(value) is self.origin:
            return value
        if type(value) is list and self.origin is not dict:
            return guarded(self.origin, value, f"building {self.label}")
        return self.unlabelled(value)


FROM_JSON: Mapping[Any, Callable[[Any], Any]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    UUID: UUID,
    Decimal: Decimal,
}
"""What people write by hand in JSON, for types that JSON does not know."""


class ExactShape(Shape):
    """A builtin that stands for itself, and no subclass of it."""

    plain = True

    def __init__(self, type_: type) -> None:
        super().__init__(type_)
        self.wire = frozenset({type_})

    def write(self, value: Any) -> Any:
        if type(value) is not self.type:
            raise mismatch(value, self.type)
        return value

    def read(self, raw: Any, _: Any = None) -> Any:
        if type(raw) is self.type:
            return raw
        reader = FROM_JSON.get(self.type)
        if reader is not None and type(raw) is str:
            value = guarded(reader, raw, f"reading {self.label}")
            if type(value) is Decimal and not value.is_finite():
                raise Refusal("NaN and infinity are not stored")
            return value
        return self.read(self.unlabelled(raw))


class FloatShape(ExactShape):
    """A float, or an int where a float is asked for; each comes back as what it was."""

    def __init__(self) -> None:
        super().__init__(float)
        self.wire = frozenset({float, int})

    def accepts(self, value: Any) -> bool:
        return type(value) is float or type(value) is int

    def write(self, value: Any) -> Any:
        return value if type(value) is int else super().write(value)

    def read(self, raw: Any, _: Any = None) -> Any:
        return raw if type(raw) is int else super().read(raw)


class EnumShape(Shape):
    """An enum by the values of its members."""

    def __init__(self, type_: type[enum.Enum]) -> None:
        super().__init__(type_)
        kinds: set[object] = {type(member._value_) for member in type_.__members__.values()}
        if kinds & {set, frozenset}:
            kinds |= {"$set", "$frozenset"}
        self.wire = frozenset(kinds | ({int} if issubclass(type_, enum.Flag) else set()))

    def write(self, value: Any) -> Any:
        if type(value) is not self.type:
            raise mismatch(value, self.type)
        return value._value_

    def read(self, raw: Any, _: Any = None) -> Any:
        if type(raw) is As and raw.label == self.label:
            raw = raw.value
        member = guarded(self.type, finish(raw), f"reading {self.label}")
        if type(member) is not self.type:
            raise Refusal(f"{describe(raw)} is no value of {self.label}")
        return member


class LiteralShape(Shape):
    """One of a few constants, told apart by type and value (``True`` is not ``1``)."""

    def __init__(self, type_: Any, constants: tuple[Any, ...]) -> None:
        super().__init__(type_)
        self.constants = [
            (each, each._value_ if isinstance(each, enum.Enum) else each) for each in constants
        ]
        written = {(type(raw), raw) for _, raw in self.constants}
        if len(written) < len(self.constants):
            raise Refusal(f"{self.label} has constants that are written alike", "use one of them")
        self.wire = frozenset(type(raw) for _, raw in self.constants)

    def accepts(self, value: Any) -> bool:
        return any(type(value) is type(each) and value == each for each, _ in self.constants)

    def write(self, value: Any) -> Any:
        for each, raw in self.constants:
            if type(value) is type(each) and value == each:
                return raw
        raise mismatch(value, self.type)

    def read(self, raw: Any, _: Any = None) -> Any:
        for each, known in self.constants:
            if type(raw) is type(known) and raw == known:
                return each
        if type(raw) is As:
            return self.read(self.unlabelled(raw))
        raise Refusal(f"none of the constants {self.label}")


class ForeignShape(Shape):
    """A type whose hooks are cattrs' own or the user's."""

    def __init__(
        self, type_: Any, write: Callable[[Any], Any], read: Callable[[Any, Any], Any]
    ) -> None:
        super().__init__(type_)
        self._write = write
        self._read = read

    def accepts(self, value: Any) -> bool:
        if isinstance(self.type, type):
            return issubclass(type(value), self.type)
        return True

    def write(self, value: Any) -> Any:
        if not self.accepts(value):
            raise mismatch(value, self.type)
        return guarded(self._write, value, f"the hook for {self.label}")

    def read(self, raw: Any, _: Any = None) -> Any:
        if type(raw) is As and raw.label == self.label:
            raw = raw.value
        return guarded(
            lambda argument: self._read(argument, self.type),
            finish(raw),
            f"the hook for {self.label}",
        )
