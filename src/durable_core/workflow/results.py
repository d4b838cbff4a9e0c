"""Results: what the steps of a run came to, read from payloads whenever somebody looks.

A program keeps one ``Book``: the payloads of the steps that are done, in order, never a decoded
value. ``Results`` is the read-only mapping a handler sees: the first so many steps of the book,
decoded by their types, a fresh copy for each handler. The same references give the *shape* of
a run's result, so that the result is a view over the journal and nothing is stored twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, assert_never

import attrs

from ..codec.payload import Codec
from ..codec.types import ANY
from ..errors import EncodingError
from ..kernel import journal as j
from ..kernel.failure import Failure, failure_to_plain
from ..kernel.ids import UnitKey
from ..kernel.value import NULL, Payload
from .loose import decode

TypeOf = Callable[[UnitKey], Any]
"""The type of the value of a unit, as a definition knows it."""

# --- references ------------------------------------------------------------------------------


@attrs.define(slots=True)
class UnitValue:
    """The value of one unit."""

    unit: UnitKey
    payload: Payload
    type: Any = ANY


@attrs.frozen(slots=True)
class ListValue:
    """The values of the units ``unit/0``, ``unit/1``, ...; a tolerated failure keeps its place."""

    unit: UnitKey
    items: tuple[Payload | Failure, ...]
    type: Any = ANY


@attrs.frozen(slots=True)
class MapValue:
    """The values of the entries of a parallel."""

    entries: Mapping[str, UnitValue]


@attrs.frozen(slots=True)
class NoValue:
    """``None``, of which the journal has no unit: a skipped route, a wait that timed out."""


Value = UnitValue | ListValue | MapValue | NoValue


def read(value: Value, codec: Codec) -> Any:
    """The decoded value, a fresh copy each time."""
    match value:
        case UnitValue():
            return codec.decode(value.payload, value.type, what=_what(value.unit))
        case ListValue():
            what = _what(value.unit)
            return [
                item if isinstance(item, Failure) else codec.decode(item, value.type, what=what)
                for item in value.items
            ]
        case MapValue():
            return {entry: read(inner, codec) for entry, inner in value.entries.items()}
        case NoValue():
            return None
        case _:
            assert_never(value)


def assembled(value: Value, codec: Codec) -> Payload:
    """The value as one payload; a tolerated failure becomes a plain dict of its parts."""
    match value:
        case UnitValue():
            return value.payload
        case ListValue():
            return codec.assemble_list(
                [
                    codec.encode(failure_to_plain(item)) if isinstance(item, Failure) else item
                    for item in value.items
                ],
            )
        case MapValue():
            return codec.assemble_map(
                {entry: inner.payload for entry, inner in value.entries.items()}
            )
        case NoValue():
            return NULL
        case _:
            assert_never(value)


def shape_of(value: Value) -> dict[str, Any]:
    """The JSON-like reference that ``view`` reads; see ``kernel.outcome.Ending.shape``."""
    match value:
        case UnitValue():
            return {"unit": str(value.unit)}
        case ListValue():
            return {"list": str(value.unit), "n": len(value.items)}
        case MapValue():
            return {"map": {entry: str(inner.unit) for entry, inner in value.entries.items()}}
        case NoValue():
            return {"null": True}
        case _:
            assert_never(value)


def _what(unit: UnitKey) -> str:
    return f"the result of {str(unit)!r}"


# --- what a program keeps --------------------------------------------------------------------


class Book:
    """The references of a run's finished steps, in order. It only grows."""

    __slots__ = ("_found", "_names")

    def __init__(self) -> None:
        self._names: list[str] = []
        self._found: dict[str, tuple[int, Value]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, value: Value) -> None:
        """The next step is done. The entries of a parallel can be found by their own names."""
        position = len(self._names)
        self._names.append(name)
        self._found[name] = (position, value)
        if isinstance(value, MapValue):
            for entry, inner in value.entries.items():
                self._found[entry] = (position, inner)

    def find(self, name: str, steps: int) -> Value | None:
        """The reference of a step or entry among the first ``steps`` steps."""
        position, value = self._found.get(name, (steps, None))
        return value if position < steps else None

    def names(self, steps: int) -> list[str]:
        """The names of the first ``steps`` steps."""
        return self._names[:steps]

    def shape(self) -> dict[str, Any]:
        """The result of the whole run, as a shape."""
        return {name: shape_of(self._found[name][1]) for name in self._names}

    def assemble(self, codec: Codec) -> Payload:
        """The result of the whole run as one payload, for a parent run."""
        return codec.assemble_map(
            {name: assembled(self._found[name][1], codec) for name in self._names}
        )


NO_BOOK: Final = Book()
"""Of every run that has no step done; nobody adds to it."""


# --- what a handler sees -----------------------------------------------------------------------


class Results(Mapping[str, Any]):
    """The results of the steps before this one, by name; read-only, decoded when looked at.

    ``results[entry]`` reads an entry of a parallel too, but iterating gives the steps alone, as
    in the run's result. What is read is the reader's own copy: changing it changes nothing else.
    """

    __slots__ = ("_book", "_codec", "_own", "_read", "_steps")

    def __init__(
        self, book: Book, steps: int, codec: Codec, own: tuple[str, Value] | None = None
    ) -> None:
        """``own``: a compensator finds its unit's own result, under this name, as well."""
        self._book = book
        self._steps = steps
        self._codec = codec
        self._own = own
        self._read: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name in self._read:
            return self._read[name]
        value = self.reference(name)
        if value is None:
            raise KeyError(self._missing(name))
        self._read[name] = read(value, self._codec)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._book.names(self._steps)
        if self._own is not None:
            yield self._own[0]

    def __len__(self) -> int:
        return self._steps + (self._own is not None)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.reference(name) is not None

    def __repr__(self) -> str:
        return f"<results of {', '.join(self) or 'no step yet'}>"

    def reference(self, name: str) -> Value | None:
        """Where the result of this name lies, or None."""
        if self._own is not None and name == self._own[0]:
            return self._own[1]
        return self._book.find(name, self._steps)

    def _missing(self, name: str) -> str:
        known = ", ".join(self) or "none yet"
        return f"there is no result of a step {name!r} here; results there are: {known}"


# --- a run's result from its journal -------------------------------------------------------------

_VALUES = (j.UnitCompleted, j.SignalConsumed, j.ChildCompleted, j.RouteDecided, j.ValueRecorded)
_FAILURES = (j.UnitFailed, j.ChildFailed)
_ENDS = (*_VALUES, *_FAILURES)


def view(
    shape: Mapping[str, Any],
    entries: Iterable[j.Entry],
    codec: Codec,
    type_of: TypeOf | None = None,
) -> dict[str, Any]:
    """The result that ``shape`` describes, from a journal; plain values without ``type_of``.

    Raises ``EncodingError`` when the journal lacks what the shape names.
    """
    ends = {str(entry.unit): entry for entry in entries if isinstance(entry, _ENDS)}

    def value_of(path: str) -> Any:
        end = ends.get(path)
        if end is None:
            raise EncodingError(f"the run's result names unit {path!r}, but its journal has none")
        if isinstance(end, _FAILURES):
            return end.failure
        type_ = ANY if type_of is None else type_of(end.unit)
        return decode(codec, end.payload, type_, what=f"the result of {path!r}")

    def result_of(reference: Mapping[str, Any]) -> Any:
        match reference:
            case {"unit": str(path)}:
                return value_of(path)
            case {"list": str(path), "n": int(count)}:
                return [value_of(f"{path}/{index}") for index in range(count)]
            case {"map": Mapping() as paths}:
                return {entry: value_of(path) for entry, path in paths.items()}
            case {"null": True}:
                return None
            case _:
                raise EncodingError(f"the run's result holds an unknown reference: {reference!r}")

    return {name: result_of(reference) for name, reference in shape.items()}


def result_of_run(
    entries: Iterable[j.Entry],
    codec: Codec,
    *,
    result_type: Any = ANY,
    type_of: TypeOf | None = None,
) -> Any:
    """The result of a completed run, from its whole journal; ``None`` if it has not completed."""
    found = list(entries)
    for entry in reversed(found):
        if isinstance(entry, j.RunCompleted):
            if entry.shape is not None:
                return view(entry.shape, found, codec, type_of)
            return decode(codec, entry.payload or NULL, result_type, what="the run's result")
    return None
