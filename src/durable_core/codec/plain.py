"""Plain values <-> JSON values: the closed set of builtins, each loss refused, tags for the rest.

JSON's own types stand for themselves. The others become an object with one key that starts with
a single ``$`` (``{"$decimal": "1.50"}``); a user's key that starts with ``$`` gets one more, so
data that looks like a tag stays data. Nothing is ever imported or built by a stored name.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import attrs

from ..errors import LimitExceededError
from .refusal import Refusal, at_index, at_key, type_name, unknown

INT_BOUND = 10**4300
"""Python itself refuses to read longer numbers from text."""
NODES = 10_000_000
"""The most values that one value may consist of when no byte limit says otherwise."""
SIGN = "$"


# --- what annotations add to the closed set (see typed.py) -----------------------------------


@attrs.frozen(slots=True)
class Bag:
    """The items of a set before they are hashable."""

    tag: str
    items: list[Any]


@attrs.frozen(slots=True)
class Pairs:
    """The items of a dict whose keys are not strings."""

    items: list[tuple[Any, Any]]


@attrs.frozen(slots=True)
class As:
    """A member of a union, and which one it is where its looks do not tell."""

    label: str
    value: Any


# --- leaves ------------------------------------------------------------------------------------


def _write_datetime(value: datetime) -> Any:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise Refusal("its time zone gives no offset", "use a time zone with an offset")
    text = value.isoformat()
    return [text, 1] if value.fold else text


def _read_datetime(raw: Any) -> datetime:
    if type(raw) is list:
        text, fold = raw
        return datetime.fromisoformat(text).replace(fold=fold)
    return datetime.fromisoformat(raw)


def _write_time(value: time) -> Any:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise Refusal("its time zone gives no offset without a date", "use a fixed offset")
    text = value.isoformat()
    return [text, 1] if value.fold else text


def _read_time(raw: Any) -> time:
    if type(raw) is list:
        text, fold = raw
        return time.fromisoformat(text).replace(fold=fold)
    return time.fromisoformat(raw)


def _write_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise Refusal("NaN and infinity are not stored", "use None where there is no number")
    return str(value)


def _read_decimal(raw: Any) -> Decimal:
    if type(raw) is not str:
        raise ValueError("not text")
    value = Decimal(raw)
    if not value.is_finite():
        raise ValueError("not finite")
    return value


def _read_timedelta(raw: Any) -> timedelta:
    days, seconds, microseconds = raw
    return timedelta(days, seconds, microseconds)


LEAVES: Mapping[type, tuple[str, Callable[[Any], Any]]] = {
    datetime: ("$datetime", _write_datetime),
    date: ("$date", date.isoformat),
    time: ("$time", _write_time),
    timedelta: ("$timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    Decimal: ("$decimal", _write_decimal),
    UUID: ("$uuid", str),
    bytes: ("$bytes", lambda value: base64.b64encode(value).decode("ascii")),
}
LEAF_READERS: Mapping[str, Callable[[Any], Any]] = {
    "$datetime": _read_datetime,
    "$date": date.fromisoformat,
    "$time": _read_time,
    "$timedelta": _read_timedelta,
    "$decimal": _read_decimal,
    "$uuid": UUID,
    "$bytes": lambda raw: base64.b64decode(raw, validate=True),
}


# --- writing -----------------------------------------------------------------------------------

_WHOLE = frozenset({str, bool, float, type(None)})


def is_json(value: object, depth: int, nodes: int) -> bool:
    """True if the value can go to the JSON encoder as it stands (it may still hold NaN)."""
    kind = type(value)
    if kind is dict or kind is list:
        return _room_left(value, depth, nodes) >= 0
    return kind in _WHOLE or (kind is int and -INT_BOUND < value < INT_BOUND)  # type: ignore[operator]


def _room_left(value: Any, depth: int, nodes: int) -> int:
    """How many nodes may still come, or -1 if this value needs tags or has to be refused."""
    nodes -= len(value)
    if nodes < 0 or depth <= 0:
        return -1
    if type(value) is dict:
        for key in value:
            if type(key) is not str or key[:1] == SIGN:
                return -1
        value = value.values()
    for item in value:
        kind = type(item)
        if kind in _WHOLE:
            continue
        if kind is int:
            if not -INT_BOUND < item < INT_BOUND:
                return -1
        elif kind is dict or kind is list:
            nodes = _room_left(item, depth - 1, nodes)
            if nodes < 0:
                return -1
        else:
            return -1
    return nodes


class Writer:
    """One strict walk from a plain value to a JSON value, naming the place of what it refuses."""

    def __init__(self, depth: int, nodes: int) -> None:
        self._depth = depth
        self._nodes = nodes
        self._nodes_max = nodes
        self._above: list[int] = []

    def write(self, value: Any) -> Any:
        """The JSON value. Raises ``Refusal``, or ``LimitExceededError`` for too many nodes."""
        kind = type(value)
        if kind is str:
            return _text(value)
        if kind is bool or value is None:
            return value
        if kind is int:
            if not -INT_BOUND < value < INT_BOUND:
                raise Refusal("an int of more than 4300 digits", "store it as text or bytes")
            return value
        if kind is float:
            if not math.isfinite(value):
                raise Refusal(
                    "NaN and infinity are not stored", "use None where there is no number"
                )
            return value
        leaf = LEAVES.get(kind)
        if leaf is not None:
            return {leaf[0]: leaf[1](value)}
        if kind is As:
            return {"$as": [value.label, self.write(value.value)]}
        container = _CONTAINERS.get(kind)
        if container is None:
            raise unknown(value)
        if len(self._above) >= self._depth:
            raise self._too_deep(value)
        self._above.append(id(value))
        written = container(self, value)
        self._above.pop()
        return written

    def _too_deep(self, value: Any) -> Refusal:
        if id(value) in self._above:
            return Refusal("the value contains itself", "store ids instead of references")
        return Refusal(f"nested deeper than {self._depth} levels", "flatten it, or store ids")

    def _spend(self, count: int) -> None:
        self._nodes -= count
        if self._nodes < 0:
            raise LimitExceededError(f"it consists of more than {self._nodes_max} values")

    def _items(self, items: Any) -> list[Any]:
        self._spend(len(items))
        written = []
        for index, item in enumerate(items):
            try:
                written.append(self.write(item))
            except Refusal as refusal:
                refusal.within(at_index(index))
                raise
        return written

    def _dict(self, value: dict[Any, Any]) -> dict[str, Any]:
        self._spend(len(value))
        written = {}
        for key, item in value.items():
            if type(key) is not str:
                raise _bad_key(key)
            try:
                written[escaped(_text(key))] = self.write(item)
            except Refusal as refusal:
                refusal.within(at_key(key))
                raise
        return written

    def _tuple(self, value: tuple[Any, ...]) -> Any:
        return {"$tuple": self._items(value)}

    def _set(self, value: Any) -> Any:
        return self._bag(Bag(f"${type(value).__name__}", list(value)))

    def _bag(self, value: Bag) -> Any:
        return {value.tag: sorted(self._items(value.items), key=canonical_text)}

    def _pairs(self, value: Pairs) -> Any:
        self._spend(len(value.items))
        return {"$map": [self._items(pair) for pair in value.items]}


_CONTAINERS: Mapping[type, Callable[[Writer, Any], Any]] = {
    dict: Writer._dict,
    list: Writer._items,
    tuple: Writer._tuple,
    set: Writer._set,
    frozenset: Writer._set,
    Bag: Writer._bag,
    Pairs: Writer._pairs,
}


def escaped(key: str) -> str:
    """A key as it is stored: nobody's own key is taken for a tag."""
    return SIGN + key if key[:1] == SIGN else key


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refusal("text with a lone surrogate", "encode it to bytes") from None
    return value


def _bad_key(key: object) -> Refusal:
    return Refusal(
        f"a dict key of type {type_name(type(key))}; without an annotation keys must be str",
        "use str keys, or annotate it, e.g. as dict[int, str]",
    )


def canonical_text(value: Any) -> str:
    """The JSON value as text that does not depend on the order of keys."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)


# --- reading -----------------------------------------------------------------------------------


def read(value: Any, *, final: bool) -> Any:
    """A JSON value back to a plain one. ``final`` False leaves ``Bag``, ``Pairs`` and ``As``.

    Raises ``Refusal`` for what no writer wrote.
    """
    kind = type(value)
    if kind is list:
        return _read_items(value, final)
    if kind is not dict:
        return value
    if len(value) == 1:
        (key,) = value
        if key[:1] == SIGN and key[1:2] != SIGN:
            return _read_tag(key, value[key], final)
    plain = {}
    for key, item in value.items():
        name = key
        if key[:1] == SIGN:
            if key[1:2] != SIGN:
                raise Refusal(f"the tag {at_key(key)} beside other keys")
            name = key[1:]
        try:
            plain[name] = read(item, final=final)
        except Refusal as refusal:
            refusal.within(at_key(name))
            raise
    return plain


def _read_items(items: list[Any], final: bool) -> list[Any]:
    plain = []
    for index, item in enumerate(items):
        try:
            plain.append(read(item, final=final))
        except Refusal as refusal:
            refusal.within(at_index(index))
            raise
    return plain


def _read_tag(tag: str, raw: Any, final: bool) -> Any:
    leaf = LEAF_READERS.get(tag)
    if leaf is not None:
        try:
            return leaf(raw)
        except Exception as error:
            raise Refusal(f"not a {tag[1:]} ({type_name(type(error))})") from error
    if tag == "$as":
        if type(raw) is not list or len(raw) != 2 or type(raw[0]) is not str:
            raise Refusal("a malformed $as")
        inner = read(raw[1], final=final)
        return inner if final else As(raw[0], inner)
    if tag not in ("$tuple", "$set", "$frozenset", "$map"):
        raise Refusal(f"unknown tag {at_key(tag)}", "was it written by a newer version?")
    if type(raw) is not list:
        raise Refusal(f"a malformed {tag}")
    items = _read_items(raw, final)
    if tag == "$tuple":
        return tuple(items)
    if tag == "$map":
        if not all(type(pair) is list and len(pair) == 2 for pair in items):
            raise Refusal("a malformed $map")
        pairs = Pairs([(key, item) for key, item in items])
        return finish(pairs) if final else pairs
    bag = Bag(tag, items)
    return finish(bag) if final else bag


def finish(value: Any) -> Any:
    """Resolve what ``read(final=False)`` left open.

    Items that cannot be hashed without their type (a set of objects with fields) stay a list.
    """
    kind = type(value)
    if kind is list:
        return [finish(item) for item in value]
    if kind is dict:
        return {key: finish(item) for key, item in value.items()}
    if kind is tuple:
        return tuple([finish(item) for item in value])
    if kind is As:
        return finish(value.value)
    if kind is Bag:
        items = [finish(item) for item in value.items]
        try:
            return frozenset(items) if value.tag == "$frozenset" else set(items)
        except TypeError:
            return items
    if kind is Pairs:
        pairs = [(finish(key), finish(item)) for key, item in value.items]
        try:
            return dict(pairs)
        except TypeError:
            return pairs
    return value
