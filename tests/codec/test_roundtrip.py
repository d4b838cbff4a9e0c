"""What is stored comes back equal and of the same types, or is refused when it is stored."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import math
import pathlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import attrs
import cattrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.codec.samples import (
    Box,
    Boxes,
    Color,
    Item,
    Level,
    Model,
    Money,
    Node,
    Order,
    Point,
    Rights,
    Row,
    Sku,
    Span,
    Status,
    Struct,
    Sum,
    Twin,
    Wide,
)

from durable_core.codec import JsonCodec, ZlibLayer, new_converter
from durable_core.errors import EncodingError
from durable_core.kernel.value import NULL, Payload

CODEC = JsonCodec()


def parts(value: Any) -> Any:
    """The value with every type spelled out, so that 1, 1.0 and True differ, and -0.0 and 0.0."""
    kind = type(value)
    if isinstance(value, Mapping):
        return kind, [(parts(key), parts(item)) for key, item in value.items()]
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(parts(item)) for item in value)
    if isinstance(value, list | tuple | collections.deque):
        return kind, [parts(item) for item in value]
    if attrs.has(kind) or hasattr(kind, "__dataclass_fields__") or isinstance(value, Struct):
        slots = {name for base in kind.__mro__ for name in getattr(base, "__slots__", ())}
        names = [*getattr(value, "__dict__", {}), *sorted(slots - {"__weakref__"})]
        return kind, {name: parts(getattr(value, name)) for name in names}
    return kind, repr(value)


def roundtrip(value: Any, type_: Any = Any) -> Any:
    return CODEC.decode(CODEC.encode(value, type_), type_)


# --- plain values ------------------------------------------------------------------------------

texts = st.text(max_size=8) | st.sampled_from(
    ["$", "$$", "$set", "$datetime", "$as", "\0", "\u2028"]
)
hashable = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.binary(max_size=8)
    | st.datetimes()
    | st.datetimes(timezones=st.just(dt.timezone(dt.timedelta(hours=-3, seconds=7))))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.uuids()
)
hashable_trees = st.recursive(
    hashable, lambda inner: st.frozensets(inner, max_size=3) | st.tuples(inner, inner), max_leaves=6
)
plain_values = st.recursive(
    hashable_trees | st.sets(hashable_trees, max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(plain_values)
@example({"$datetime": "2026-01-01"})
@example({"$$datetime": {"$": 1}, "a": -0.0, "b": 1e22, "c": 10**22, "d": True, "e": 1})
@example([10**4299, -(10**4299), 5e-324, 1.7976931348623157e308])
def test_a_plain_value_comes_back_as_it_was(value: Any) -> None:
    assert parts(roundtrip(value)) == parts(value)


@given(plain_values)
def test_a_stored_value_is_stored_the_same_again(value: Any) -> None:
    payload = CODEC.encode(value)
    assert CODEC.encode(CODEC.decode(payload)) == payload


@given(st.dictionaries(texts, plain_values, max_size=5), st.randoms(use_true_random=False))
def test_the_canonical_form_does_not_know_the_order_of_keys(
    value: dict[str, Any], random: Any
) -> None:
    items = list(value.items())
    random.shuffle(items)
    one, other = CODEC.encode(value), CODEC.encode(dict(items))
    assert CODEC.canonical(one) == CODEC.canonical(other)
    assert list(CODEC.decode(other)) == [key for key, _ in items]


@given(st.dictionaries(st.integers(), st.text(max_size=3), max_size=5))
def test_the_canonical_form_does_not_know_the_order_of_pairs(value: dict[int, str]) -> None:
    turned = dict(reversed(value.items()))
    one, other = (CODEC.encode(each, dict[int, str]) for each in (value, turned))
    assert CODEC.canonical(one) == CODEC.canonical(other)


@given(plain_values, plain_values)
def test_different_values_have_different_canonical_forms(one: Any, other: Any) -> None:
    equal = CODEC.canonical(CODEC.encode(one)) == CODEC.canonical(CODEC.encode(other))
    if equal:
        assert one == other


def test_sets_are_written_in_one_order() -> None:
    assert CODEC.encode({3, 20, 100, 1}) == CODEC.encode({100, 1, 3, 20})


def test_a_value_with_everything_looks_like_this() -> None:
    """The stored form is a promise: rows of today are read by the versions of tomorrow."""
    value = {
        "$at": dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC),
        "day": dt.date(2026, 1, 31),
        "hour": dt.time(1, 2, 3),
        "late": dt.datetime(2026, 10, 25, 2, 30, fold=1),
        "span": dt.timedelta(days=-1, microseconds=5),
        "price": decimal.Decimal("1.50"),
        "id": uuid.UUID(int=7),
        "raw": b"\xff\x00",
        "pair": (1, [2.0]),
        "set": {2, 1},
        "frozen": frozenset({"a"}),
        "é": None,
    }
    assert CODEC.encode(value).data.decode() == (
        '{"$$at":{"$datetime":"2026-01-31T12:00:00+00:00"},"day":{"$date":"2026-01-31"},'
        '"hour":{"$time":"01:02:03"},"late":{"$datetime":["2026-10-25T02:30:00",1]},'
        '"span":{"$timedelta":[-1,0,5]},"price":{"$decimal":"1.50"},'
        '"id":{"$uuid":"00000000-0000-0000-0000-000000000007"},"raw":{"$bytes":"/wA="},'
        '"pair":{"$tuple":[1,[2.0]]},"set":{"$set":[1,2]},"frozen":{"$frozenset":["a"]},"é":null}'
    )
    assert CODEC.decode(CODEC.encode(value))["late"].fold == 1


@given(st.datetimes(timezones=st.just(ZoneInfo("Europe/Paris"))))
def test_an_aware_time_keeps_its_clock_and_its_offset(value: dt.datetime) -> None:
    back = roundtrip(value)
    assert back.replace(tzinfo=None) == value.replace(tzinfo=None)
    assert back.utcoffset() == value.utcoffset()


def test_none_is_what_the_kernel_calls_null() -> None:
    assert CODEC.encode(None) == NULL
    assert CODEC.decode(NULL) is None


# --- annotated values --------------------------------------------------------------------------

TYPES: list[Any] = [
    int,
    float,
    bool,
    str,
    bytes,
    None,
    dt.datetime,
    dt.timedelta,
    decimal.Decimal,
    uuid.UUID,
    Color,
    Status,
    Level,
    Rights,
    Money,
    Item,
    Order,
    Point,
    Sum,
    Node,
    Boxes,
    Span,
    Row,
    Sku,
    Annotated[int, "units"],
    int | bool,
    int | float | None,
    str | dt.datetime,
    bytes | str,
    dt.date | dt.datetime,
    Point | None,
    Point | Twin,
    Point | Twin | Wide | None,
    Status | str,
    Level | int,
    Literal[1, True, "a", b"a", None],
    Literal["a"] | Point | list[Point],
    list[int] | list[str],
    list[Point] | dict[str, Point] | Point,
    list[list[int]],
    tuple[int, str],
    tuple[int, ...],
    tuple[()],
    set[Point],
    frozenset[Point],
    set[int | str],
    dict[str, Order],
    dict[int, str],
    dict[Level, int],
    dict[Status, int],
    dict[tuple[int, bool], Point | None],
    dict[int | str, int],
    dict[Point, list[Point | Twin]],
    collections.deque[int],
    collections.OrderedDict[str, int],
    list[dict[str, tuple[Status, ...]]],
]


@settings(max_examples=40)
@given(st.data())
@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_an_annotated_value_comes_back_as_it_was(type_: Any, data: st.DataObject) -> None:
    value = data.draw(st.from_type(type(None) if type_ is None else type_))
    try:
        payload = CODEC.encode(value, type_)
    except EncodingError as error:
        assert "NaN" in str(error)
        return
    back = CODEC.decode(payload, type_)
    assert parts(back) == parts(value)
    assert CODEC.encode(back, type_) == payload
    CODEC.decode(payload)  # readable without the annotation too


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (Model(dt.date(2026, 1, 31)), Model),
        ([Model(dt.date(2026, 1, 31)), Point(1, 2)], list[Model | Point]),
        (Struct("a", [Point(1, 2)]), Struct),
        (pathlib.Path("a/b"), pathlib.Path),
        ([1, (2,)], list[Any]),
        ({"a": {1}}, dict[str, Any]),
        ((1,), Iterable[int]),
        ((1,), Sequence[int]),
        ([1], Sequence[int]),
        ({"a": Point(1, 2)}, Mapping[str, Point]),
        (Box(1, [2]), Box[int]),
        (Box(Box(Point(1, 2))), Box[Box[Point]]),
        ({"a": 1}, object),
    ],
)
def test_other_annotations_work_too(value: Any, type_: Any) -> None:
    assert parts(roundtrip(value, type_)) == parts(value)


@given(st.builds(Order, items=st.just([]), id=st.uuids()))
def test_compression_changes_nothing(order: Order) -> None:
    codec = CODEC | ZlibLayer()
    assert codec.decode(codec.encode(order, Order), Order) == order


# --- reading what others wrote -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "type_", "value"),
    [
        ('"2026-01-31T12:00:00Z"', dt.datetime, dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)),
        ('"2026-01-31"', dt.date | None, dt.date(2026, 1, 31)),
        ('{"amount": "1.50"}', Money, Money(decimal.Decimal("1.50"))),
        ("[1, 2]", tuple[int, ...], (1, 2)),
        ("[1, 2]", set[int], {1, 2}),
        ("[1, 2]", tuple, (1, 2)),
        ('{"x": 1, "y": 2, "old": 3}', Point, Point(1, 2)),
        ('{"x": 1, "y": 2, "z": 3}', Point | Wide, Wide(1, 2, 3)),
        ('{"x": 1, "y": 2}', Point | Wide, Point(1, 2)),
        ('{"$as": ["Point", {"x": 1, "y": 2}]}', Point, Point(1, 2)),
        ('{"$as": ["Renamed", {"x": 1, "y": 2}]}', Point | Wide, Point(1, 2)),
        ('{"$as": ["str", "a"]}', str, "a"),
    ],
)
def test_json_written_by_hand_or_long_ago_is_understood(text: str, type_: Any, value: Any) -> None:
    assert parts(CODEC.decode(Payload(text.encode()), type_)) == parts(value)


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ('{"x": 1, "y": 2}', Point | Twin),
        ('{"$as": ["Twin", {"x": 1, "y": 2}]}', Point),
        ('{"x": 1}', Point),
        ('{"x": 1, "y": "2"}', Point),
        ('{"x": 1, "y": true}', Point),
        ('"paidd"', Status),
        ("true", int),
        ("1", bool),
        ('"1"', int),
        ("[1]", dict),
        ("{}", list),
        ("[1]", tuple[int, int]),
        ('{"$set": [[1]]}', set[int]),
        ('"NaN"', decimal.Decimal),
    ],
)
def test_what_does_not_fit_the_annotation_is_refused_on_reading(text: str, type_: Any) -> None:
    with pytest.raises(EncodingError, match="cannot be read"):
        CODEC.decode(Payload(text.encode()), type_)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf1",
        '"a"'.encode("utf-16"),
        b"NaN",
        b"-Infinity",
        b"1e999",
        b'"\\ud800"',
        b"[" * 100_000,
        b"9" * 5_000,
        b'{"$import": "os.system"}',
        b'{"$set": [1], "a": 2}',
        b'{"$set": 1}',
        b'{"$map": [1]}',
        b'{"$as": ["A"]}',
        b'{"$datetime": "x"}',
        b'{"$datetime": 5}',
        b'{"$decimal": "NaN"}',
        b'{"$decimal": 1}',
        b'{"$bytes": "*"}',
        b'{"$uuid": []}',
        b'{"$timedelta": [1e300, 0, 0]}',
    ],
    ids=lambda data: repr(data[:30]),
)
@pytest.mark.parametrize("type_", [Any, dict, Order])
def test_corrupt_bytes_are_refused(data: bytes, type_: Any) -> None:
    with pytest.raises(EncodingError):
        CODEC.decode(Payload(data), type_)


@given(st.binary(max_size=40) | st.text('{}[]":,$asetmpdu0129.e-', max_size=30).map(str.encode))
def test_any_bytes_give_a_value_or_an_encoding_error(data: bytes) -> None:
    for type_ in (Any, Order, dict[int, Point | Twin]):
        try:
            CODEC.decode(Payload(data), type_)
        except EncodingError:
            continue


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(EncodingError, match="pickle"):
        CODEC.decode(Payload(b"1", "pickle"))


# --- users' hooks ------------------------------------------------------------------------------


class Celsius:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees


def test_a_hook_of_the_users_comes_first() -> None:
    converter = new_converter()
    converter.register_unstructure_hook(Celsius, lambda value: decimal.Decimal(str(value.degrees)))
    converter.register_structure_hook(Celsius, lambda raw, _: Celsius(float(raw)))
    converter.register_unstructure_hook(Status, lambda value: value.name)
    converter.register_structure_hook(Status, lambda raw, _: Status[raw])
    codec = JsonCodec(converter)
    payload = codec.encode([Celsius(1.5)], list[Celsius])
    assert payload.data == b'[{"$decimal":"1.5"}]'
    assert codec.decode(payload, list[Celsius])[0].degrees == 1.5
    assert codec.encode({"a": Status.PAID}, dict[str, Status]).data == b'{"a":"PAID"}'
    assert codec.decode(codec.encode(Status.PAID, Status), Status) is Status.PAID


def test_any_converter_can_be_used() -> None:
    codec = JsonCodec(cattrs.Converter())
    assert codec.decode(codec.encode(Point(1, 2), Point), Point) == Point(1, 2)


def test_a_converter_is_copied() -> None:
    converter = new_converter()
    codec = JsonCodec(converter)
    converter.register_unstructure_hook(Point, lambda _: "changed")
    assert codec.encode(Point(1, 2), Point).data == b'{"x":1,"y":2}'


# --- assembling --------------------------------------------------------------------------------


@given(st.dictionaries(texts, plain_values, max_size=4))
def test_assembled_payloads_are_those_of_the_whole(value: dict[str, Any]) -> None:
    for codec in (CODEC, CODEC | ZlibLayer()):
        each = {key: codec.encode(item) for key, item in value.items()}
        assert codec.assemble_map(each) == codec.encode(value)
        assert codec.assemble_list(list(each.values())) == codec.encode(list(value.values()))


def test_floats_and_ints_of_one_value_stay_apart() -> None:
    back = roundtrip([1, 1.0, True, -0.0, 1e22, 10**22])
    assert [type(each) for each in back] == [int, float, bool, float, float, int]
    assert math.copysign(1, back[3]) == -1
