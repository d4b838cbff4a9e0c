"""The tag walk: builtins as JSON and back, strictly, with nothing lost and nothing imported.

JSON's own types stand for themselves. A closed set of builtins is written as an object with one
key, its tag: ``{"$datetime": "2026-01-31T12:00:00+01:00"}``. Keys of the user's that begin with
``$`` get another ``$`` in front, so that a look-alike stays data.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import AsyncGeneratorType, CoroutineType, GeneratorType, MappingProxyType, NoneType
from typing import Any, Literal

import attrs

from ..kernel.failure import Failure, failure_from_plain, failure_to_plain
from .refusal import Refused, index_step, key_step, type_name

SCALARS = frozenset({NoneType, bool, int, float, str})

MAX_DIGITS = 4_300
_HUGE = 10**MAX_DIGITS

dumps = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode
"""Compact JSON; the caller has bounded the depth."""

dumps_sorted = json.JSONEncoder(
    ensure_ascii=False,
    allow_nan=False,
    check_circular=False,
    separators=(",", ":"),
    sort_keys=True,
).encode


class Of:
    """A value of one member of a union that its JSON alone would not tell apart."""

    __slots__ = ("label", "value")

    def __init__(self, label: str, value: Any) -> None:
        self.label = label
        self.value = value


class Pairs:
    """A mapping whose keys are not texts."""

    __slots__ = ("items",)

    def __init__(self, items: list[tuple[Any, Any]]) -> None:
        self.items = items


class Bag:
    """A set whose items have been shaped, and may not be hashable any more."""

    __slots__ = ("items", "kind")

    def __init__(self, kind: Literal["set", "frozenset"], items: list[Any]) -> None:
        self.kind = kind
        self.items = items


# --- writing ---------------------------------------------------------------------------------


def is_plain(value: Any, depth: int) -> bool:
    """Whether ``value`` may go to the JSON encoder as it is; False when in doubt."""
    kind = type(value)
    if kind is dict:
        if depth <= 0:
            return False
        for key, item in value.items():
            if type(key) is not str or key[:1] == "$":
                return False
            if type(item) not in SCALARS and not is_plain(item, depth - 1):
                return False
        return True
    if kind is list:
        if depth <= 0:
            return False
        for item in value:
            if type(item) not in SCALARS and not is_plain(item, depth - 1):
                return False
        return True
    return kind in SCALARS


def tag(value: Any, depth: int) -> Any:
    """``value`` as JSON's own types. Raises ``Refused`` for what would not come back the same."""
    return _tag(value, depth, set())


def _tag(value: Any, depth: int, above: set[int]) -> Any:
    kind = type(value)
    writer = _LEAVES.get(kind)
    if writer is not None:
        return writer(value)
    container = _CONTAINERS.get(kind)
    if container is None:
        raise Refused(_why_not(value))
    if id(value) in above:
        raise Refused(f"the {type_name(kind)} contains itself; values must be trees")
    if depth <= 0:
        raise Refused("the value is nested too deep: flatten it, or allow a greater max_depth")
    above.add(id(value))
    tree = container(value, depth - 1, above)
    above.discard(id(value))
    return tree


def _step(value: Any, depth: int, above: set[int], step: str) -> Any:
    try:
        return _tag(value, depth, above)
    except Refused as refused:
        raise refused.at(step) from None


def _tag_list(value: Any, depth: int, above: set[int]) -> Any:
    return [_step(item, depth, above, index_step(i)) for i, item in enumerate(value)]


def _tag_dict(value: dict[Any, Any], depth: int, above: set[int]) -> Any:
    tree = {}
    for key, item in value.items():
        if type(key) is not str:
            raise Refused(
                f"a key is of type {type_name(type(key))}; keys of an unannotated dict must be "
                "str: annotate it, e.g. dict[int, str], or convert the keys"
            ).at(key_step(key))
        try:
            written = _text(key)
        except Refused as refused:
            raise refused.at(key_step(key)) from None
        tree[escape(written)] = _step(item, depth, above, key_step(key))
    return tree


def _tag_set(name: str, items: Any, depth: int, above: set[int]) -> Any:
    trees = [_step(item, depth, above, "{}") for item in items]
    return {name: sorted(trees, key=dumps_sorted)}


def _tag_pairs(value: Pairs, depth: int, above: set[int]) -> Any:
    return {
        "$map": [
            [_step(key, depth, above, key_step(key)), _step(item, depth, above, key_step(key))]
            for key, item in value.items
        ]
    }


def _tag_failure(value: Failure, depth: int, above: set[int]) -> Any:
    return {"$failure": _tag(failure_to_plain(value), depth + 1, above)}


Container = Callable[[Any, int, set[int]], Any]

_CONTAINERS: Mapping[type, Container] = {
    list: _tag_list,
    dict: _tag_dict,
    tuple: lambda value, depth, above: {"$tuple": _tag_list(value, depth, above)},
    set: lambda value, depth, above: _tag_set("$set", value, depth, above),
    frozenset: lambda value, depth, above: _tag_set("$frozenset", value, depth, above),
    Failure: _tag_failure,
    Bag: lambda value, depth, above: _tag_set(f"${value.kind}", value.items, depth, above),
    Pairs: _tag_pairs,
    Of: lambda value, depth, above: {"$of": [value.label, _tag(value.value, depth + 1, above)]},
}


def escape(key: str) -> str:
    """A user's key as it is written."""
    return "$" + key if key[:1] == "$" else key


def _same(value: Any) -> Any:
    return value


def _int(value: int) -> int:
    if value.bit_length() > 4_096 and abs(value) >= _HUGE:
        raise Refused(f"the int has more than {MAX_DIGITS} digits, which no reader would take")
    return value


def _float(value: float) -> float:
    if not math.isfinite(value):
        raise Refused(f"the float {value!r} has no JSON form: use None, or a text")
    return value


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refused(
                "the str holds a lone surrogate, which is no character: decode the bytes it came "
                "from with errors='replace'"
            ) from None
    return value


def _datetime(value: dt.datetime) -> dict[str, str]:
    text = value.isoformat()
    if value.tzinfo is not None:
        if value.utcoffset() is None:
            raise Refused("the datetime has a tzinfo without an offset: use an aware or naive one")
        return {"$datetime": text}
    return {"$datetime": text + "~" if value.fold else text}


def _time(value: dt.time) -> dict[str, str]:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise Refused(
            "the time's zone has no offset without a date: use a fixed offset, or a datetime"
        )
    text = value.isoformat()
    return {"$time": text + "~" if value.fold and value.tzinfo is None else text}


def _timedelta(value: dt.timedelta) -> dict[str, str]:
    """Seconds as a decimal text, exact to the microsecond."""
    total = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    whole, part = divmod(abs(total), 1_000_000)
    sign = "-" if total < 0 else ""
    return {"$timedelta": f"{sign}{whole}" + (f".{part:06}".rstrip("0") if part else "")}


def _decimal(value: decimal.Decimal) -> dict[str, str]:
    if not value.is_finite():
        raise Refused(f"the Decimal {value} is not finite: use None, or a text")
    return {"$decimal": str(value)}


_LEAVES: Mapping[type, Callable[[Any], Any]] = {
    NoneType: _same,
    bool: _same,
    int: _int,
    float: _float,
    str: _text,
    dt.datetime: _datetime,
    dt.date: lambda value: {"$date": value.isoformat()},
    dt.time: _time,
    dt.timedelta: _timedelta,
    decimal.Decimal: _decimal,
    uuid.UUID: lambda value: {"$uuid": str(value)},
    bytes: lambda value: {"$bytes": base64.b64encode(value).decode("ascii")},
}


# --- refusing --------------------------------------------------------------------------------

_LOSSY = (
    dict, list, tuple, set, frozenset, str, int, float, bytes,
    dt.datetime, dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID,
)  # fmt: skip

_CONSUMED = (GeneratorType, CoroutineType, AsyncGeneratorType)


def _why_not(value: Any) -> str:
    """The refusal of a value of no known type; looks at its class only, never at the value."""
    kind = type(value)
    name = type_name(kind)
    annotate = f"annotate where it comes from (e.g. `-> {name}`), or return plain values"
    if issubclass(kind, enum.Enum):
        return f"a member of the enum {name} would lose its type: {annotate}"
    if issubclass(kind, BaseException):
        return f"an exception ({name}) is no value: raise it, or return its text"
    if issubclass(kind, _CONSUMED):
        return f"a {name} can be read only once: return a list, and await coroutines"
    if attrs.has(kind) or dataclasses.is_dataclass(kind) or hasattr(kind, "model_dump"):
        return f"an unannotated {name} would come back as a dict: {annotate}"
    if hasattr(kind, "_fields") and issubclass(kind, tuple):
        return f"an unannotated {name} would come back as a tuple: {annotate}"
    for builtin in _LOSSY:
        if issubclass(kind, builtin):
            return f"a {name} would come back as a plain {builtin.__name__}: convert it, or register a hook"
    if issubclass(kind, (bytearray, memoryview)):
        return f"a {name} is not stored: convert it with bytes()"
    if issubclass(kind, (Iterator, MappingProxyType)) or hasattr(kind, "__next__"):
        return f"a {name} can be read only once or only here: return a list or a dict"
    if issubclass(kind, type) or callable(value):
        return f"a {name} is code, and code is not stored: return data"
    return (
        f"values of type {name} are not stored: {annotate}, or register a hook for it with "
        "JsonCodec(converter)"
    )


# --- reading ---------------------------------------------------------------------------------


def untag(tree: Any, *, keep_of: bool = False) -> Any:
    """The inverse of ``tag``; with ``keep_of`` the labels of unions are kept, as ``Of``."""
    kind = type(tree)
    if kind is list:
        return _untag_list(tree, keep_of)
    if kind is not dict:
        return tree
    value = {}
    for key, item in tree.items():
        if key[:1] == "$":
            if key[1:2] != "$":
                return _read(tree, key, item, keep_of)
            key = key[1:]
        try:
            value[key] = item if type(item) in SCALARS else untag(item, keep_of=keep_of)
        except Refused as refused:
            raise refused.at(key_step(key)) from None
    return value


def _untag_list(tree: Any, keep_of: bool) -> list[Any]:
    if type(tree) is not list:
        raise Refused(f"expected a list, found {type_name(type(tree))}")
    value = []
    try:
        for item in tree:
            value.append(item if type(item) in SCALARS else untag(item, keep_of=keep_of))
    except Refused as refused:
        raise refused.at(index_step(len(value))) from None
    return value


def _read(tree: dict[str, Any], name: str, item: Any, keep_of: bool) -> Any:
    if len(tree) != 1:
        raise Refused(f"an object has the tag {ascii(name)} beside other keys")
    reader = _READERS.get(name)
    if reader is not None:
        if type(item) is not str:
            raise Refused(f"the tag {name} needs a text, found {type_name(type(item))}")
        try:
            return reader(item)
        except (ValueError, ArithmeticError) as error:
            raise Refused(f"the text of the tag {name} cannot be read ({error})") from None
    try:
        collect = _COLLECTIONS[name]
    except KeyError:
        raise Refused(f"the tag {ascii(name)} is unknown: a newer version wrote it?") from None
    return collect(item, keep_of)


def _read_of(item: Any, keep_of: bool) -> Any:
    if type(item) is not list or len(item) != 2 or type(item[0]) is not str:
        raise Refused("the tag $of needs a label and a value")
    value = untag(item[1], keep_of=keep_of)
    return Of(item[0], value) if keep_of else value


def _read_set(item: Any, keep_of: bool, kind: type) -> Any:
    """Items of a typed set may be unhashable before they are shaped: then it is a list."""
    items = _untag_list(item, keep_of)
    try:
        return kind(items)
    except TypeError:
        return items


def _read_map(item: Any, keep_of: bool) -> Any:
    pairs = _untag_list(item, keep_of)
    if any(type(pair) is not list or len(pair) != 2 for pair in pairs):
        raise Refused("the tag $map needs pairs")
    try:
        return dict(pairs)
    except TypeError:
        return pairs


def _read_failure(item: Any, keep_of: bool) -> Any:
    try:
        return failure_from_plain(untag(item))
    except (KeyError, TypeError, AttributeError) as error:
        raise Refused(f"the tag $failure cannot be read ({error})") from None


_COLLECTIONS: Mapping[str, Callable[[Any, bool], Any]] = {
    "$tuple": lambda item, keep_of: tuple(_untag_list(item, keep_of)),
    "$set": lambda item, keep_of: _read_set(item, keep_of, set),
    "$frozenset": lambda item, keep_of: _read_set(item, keep_of, frozenset),
    "$map": _read_map,
    "$of": _read_of,
    "$failure": _read_failure,
}

_SECONDS = re.compile(r"(-?)(\d+)(?:\.(\d{1,6}))?", re.ASCII)


def read_timedelta(text: str) -> dt.timedelta:
    """Seconds as a decimal text. Raises ``ValueError``, ``OverflowError``."""
    match = _SECONDS.fullmatch(text)
    if match is None:
        raise ValueError("expected seconds, e.g. -1.5")
    sign, whole, part = match.groups()
    span = dt.timedelta(seconds=int(whole), microseconds=int((part or "").ljust(6, "0")))
    return -span if sign else span


def read_decimal(text: str) -> decimal.Decimal:
    """A finite decimal number. Raises ``ValueError``, ``ArithmeticError``."""
    value = decimal.Decimal(text)
    if not value.is_finite():
        raise ValueError("not a finite number")
    return value


def read_datetime(text: str) -> dt.datetime:
    """ISO 8601; a ``~`` at the end marks the second of two equal wall-clock times."""
    if text[-1:] == "~":
        return dt.datetime.fromisoformat(text[:-1]).replace(fold=1)
    return dt.datetime.fromisoformat(text)


def read_time(text: str) -> dt.time:
    """ISO 8601; ``~`` as for a datetime."""
    if text[-1:] == "~":
        return dt.time.fromisoformat(text[:-1]).replace(fold=1)
    return dt.time.fromisoformat(text)


def read_bytes(text: str) -> bytes:
    """Base 64. Raises ``ValueError``."""
    return base64.b64decode(text, validate=True)


READERS: Mapping[type, Callable[[str], Any]] = {
    dt.datetime: read_datetime,
    dt.date: dt.date.fromisoformat,
    dt.time: read_time,
    dt.timedelta: read_timedelta,
    decimal.Decimal: read_decimal,
    uuid.UUID: uuid.UUID,
    bytes: read_bytes,
}
"""How the text of each tagged builtin is read."""

_READERS = {f"${kind.__name__.lower()}": reader for kind, reader in READERS.items()}


def canonical_tree(tree: Any) -> Any:
    """``tree`` with the pairs of every ``$map`` in a fixed order."""
    if type(tree) is list:
        return [canonical_tree(item) for item in tree]
    if type(tree) is not dict:
        return tree
    ordered = {key: canonical_tree(item) for key, item in tree.items()}
    if len(ordered) == 1 and type(ordered.get("$map")) is list:
        ordered["$map"].sort(key=dumps_sorted)
    return ordered
