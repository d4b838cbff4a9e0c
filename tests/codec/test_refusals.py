"""What cannot be stored faithfully is refused, saying where it is and how to mend it."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
from collections.abc import Iterator
from typing import Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codec.samples import Box, Color, Item, Level, Money, Node, Point, Sku, Span, Status

from durable_core.codec import JsonCodec, ZlibLayer
from durable_core.errors import EncodingError, LimitExceededError

CODEC = JsonCodec()


class Text(str):
    __slots__ = ()


class Evil:
    """Every method of it raises."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __str__(self) -> str:
        raise RuntimeError("str")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        raise RuntimeError("hash")

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("getattribute")


class Liar:
    """Says that it is a dict."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return dict


class EvilMeta(type):
    def __hash__(cls) -> int:
        raise RuntimeError("hash of a class")

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("eq of a class")


class OddClass(metaclass=EvilMeta):
    pass


class NoOffset(dt.tzinfo):
    def utcoffset(self, _: dt.datetime | None) -> dt.timedelta | None:
        return None

    def dst(self, _: dt.datetime | None) -> dt.timedelta | None:
        return None

    def tzname(self, _: dt.datetime | None) -> str | None:
        return None


def cycle() -> Any:
    inner: dict[str, Any] = {}
    inner["again"] = [inner]
    return {"a": inner}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def numbers() -> Iterator[int]:
    yield 1


REFUSED: list[tuple[Any, str]] = [
    ({"items": [{}, {"price": float("nan")}]}, r"\$\.items\[1\]\.price: NaN"),
    ([float("inf")], r"\$\[0\]: NaN and infinity"),
    ({"a": decimal.Decimal("NaN")}, r"\$\.a: NaN"),
    (decimal.Decimal("-Infinity"), "infinity"),
    ({"a b": "\ud800"}, r'\$\["a b"\]: text with a lone surrogate'),
    ({"\udfff": 1}, "lone surrogate"),
    ({"a": {1: "b"}}, r"\$\.a: a dict key of type int.*str keys"),
    ({1: "a", "1": "b"}, "dict key of type int"),
    ({None: 1}, "dict key of type NoneType"),
    ({("a",): 1}, "dict key of type tuple"),
    (10**4300, "4300 digits"),
    ([-(10**5000)], r"\$\[0\]: an int of more than 4300 digits"),
    (cycle(), "contains itself"),
    (nested(65), "deeper than 64"),
    (nested(100_000), "deeper than 64"),
    ([object()], r"\$\[0\]: object .*annotate"),
    (Point(1, 2), "Point .*annotate"),
    ({"a": (Color.RED,)}, r"\$\.a\[0\]: Color is an enum.*annotate"),
    (Status.PAID, "Status is an enum"),
    (Level.LOW, "Level is an enum"),
    (Text("a"), r"Text is a subclass of str.*str\(...\)"),
    ({Text("a"): 1}, "dict key of type Text"),
    (collections.OrderedDict(a=1), "subclass of dict"),
    (collections.Counter("a"), "subclass of dict"),
    (Span(dt.date(2026, 1, 1)), "subclass of tuple"),
    (collections.deque([1]), "deque is not a type"),
    (bytearray(b"a"), r"bytes\(...\)"),
    (array.array("i"), "array"),
    (1j, "complex"),
    (range(3), "range"),
    (numbers(), "generator can be read only once; return a list"),
    (iter([]), "can be read only once"),
    (len, "is code"),
    (int, "is code"),
    (dt, "is code"),
    (ValueError("a"), "ValueError is an exception; raise it"),
    (dt.datetime(2026, 1, 1, tzinfo=NoOffset()), "time zone"),
    (Evil(), "Evil"),
    ({"a": [Evil()]}, r"\$\.a\[0\]: Evil"),
    (Liar(), "Liar"),
    (OddClass(), ""),
]


@pytest.mark.parametrize(("value", "told"), REFUSED, ids=[told[:40] for _, told in REFUSED])
def test_an_unannotated_value_is_refused(value: Any, told: str) -> None:
    with pytest.raises(EncodingError, match=rf"(?s)^the result of 'a' cannot be stored: .*{told}"):
        CODEC.encode(value, what="the result of 'a'")


def test_a_missing_await_is_noticed() -> None:
    async def charge() -> None: ...

    coroutine = charge()
    with pytest.raises(EncodingError, match="`await` is missing"):
        CODEC.encode(coroutine)
    coroutine.close()


class Sub(Node):
    pass


class Plain:
    pass


@dataclasses.dataclass
class Needs:
    start: dataclasses.InitVar[int]
    x: int = 0


class Entry(TypedDict):
    id: int


class Odd(enum.Enum):
    THING = object()


EUR = Money(decimal.Decimal(1))
MISMATCHED: list[tuple[Any, Any, str]] = [
    ({"x": 1, "y": 2}, Point, r"\$: the annotation says Point, the value is of type dict"),
    (Sub(1), Node, "says Node, the value is of type Sub"),
    (Node(1, Node(2, Node("3"))), Node, r"\$\.left\.left\.value: the annotation says int"),  # type: ignore[arg-type]
    ([Item(Sku("a"), EUR), Item(Sku("b"), Money(1.5))], list[Item], r"\$\[1\]\.price\.amount"),  # type: ignore[arg-type]
    (Item(Sku("a"), Money(decimal.Decimal("NaN"))), Item, r"\$\.price\.amount: NaN"),
    (Box("a"), Box[int], r"\$\.item: the annotation says int"),
    ([1, "a"], list[int], r"\$\[1\]"),
    ({"a": [1, None]}, dict[str, list[int]], r"\$\.a\[1\]"),
    ({1: 2}, dict[str, int], "says str, the value is of type int"),
    ({1: 2}, dict[str, Any], r"annotate it, e.g. as dict\[int, str\]"),
    ("paid", Status, "says Status"),
    (1, Level, "says Level"),
    (True, int, "says int, the value is of type bool"),
    (1, bool, "says bool"),
    (5, None, "says NoneType"),
    ([], dict, "says dict"),
    ([], tuple, "says tuple"),
    ((1, 2), tuple[int, int, int], "has 3 items"),
    (numbers(), list[int], "says list"),
    ("a", int | None, r"says int \| None|says Optional"),
    ({}, Entry, r"\$\.id: the key is missing"),
    (Needs(1), Needs, "needs start"),
    (Plain(), Plain, "annotated Plain cannot be stored"),
    (ValueError(), ValueError, "annotated ValueError cannot be stored"),
    (Text("a"), Text, "annotated Text cannot be stored"),
    (len, type(len), "cannot be stored"),
    (Odd.THING, Odd, "object is not a type"),
    (Evil(), Point, "the value is of type Evil"),
    (Evil(), int | Point, "the value is of type Evil"),
    ({1: Evil()}, dict[int, Point], "Evil"),
]


@pytest.mark.parametrize(
    ("value", "type_", "told"), MISMATCHED, ids=[told[:40] for _, _, told in MISMATCHED]
)
def test_a_value_that_is_not_what_it_was_announced_as_is_refused(
    value: Any, type_: Any, told: str
) -> None:
    with pytest.raises(EncodingError, match=rf"(?s)cannot be stored: .*{told}"):
        CODEC.encode(value, type_)


def test_a_typed_cycle_is_refused() -> None:
    node = Node(1)
    node.left = node
    with pytest.raises(EncodingError, match="contains itself"):
        CODEC.encode(node, Node)


def test_a_users_hook_that_raises_is_a_refusal_but_an_interrupt_is_not() -> None:
    @dataclasses.dataclass
    class Broken:
        x: int

        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("broken property")

    with pytest.raises(EncodingError, match=r"\$\[0\]\.x: .*broken property") as caught:
        CODEC.encode([Broken(1)], list[Broken])
    assert isinstance(caught.value.__cause__, RuntimeError)

    class Interrupt(NoOffset):
        def utcoffset(self, _: dt.datetime | None) -> dt.timedelta | None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CODEC.encode(dt.datetime(2026, 1, 1, tzinfo=Interrupt()))


def test_a_model_that_does_not_come_back_equal_is_refused() -> None:
    class Lossy:
        model_fields: Any = {}  # noqa: RUF012

        def __init__(self, x: int) -> None:
            self.x = x

        def model_dump(self, **_: Any) -> dict[str, Any]:
            return {"x": self.x}

        @classmethod
        def model_validate(cls, _: Any) -> Lossy:
            return cls(0)

    assert CODEC.encode(Lossy(0), Lossy).data == b'{"x":0}'
    with pytest.raises(EncodingError, match="does not come back equal"):
        CODEC.encode(Lossy(1), Lossy)


# --- limits ------------------------------------------------------------------------------------


@given(st.integers(2, 300), st.sampled_from([-1, 0, 1]))
def test_the_limit_counts_encoded_bytes(size: int, more: int) -> None:
    for value in ("a" * (size - 2), "é" * ((size - 2) // 2) + "a" * (size % 2)):
        assert len(CODEC.encode(value).data) == size
        if more >= 0:
            CODEC.encode(value, limit=size + more)
        else:
            with pytest.raises(LimitExceededError, match=f"{size} bytes encoded.*{size + more}"):
                CODEC.encode(value, limit=size + more)


def test_a_value_far_over_the_limit_is_refused() -> None:
    for value in ("a" * 10_000_000, [1] * 2_000_000, [(1,)] * 200_000):
        with pytest.raises(LimitExceededError, match="is too large"):
            CODEC.encode(value, limit=100_000)


def test_a_small_value_that_unfolds_without_end_is_refused() -> None:
    value: Any = [1]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(LimitExceededError, match="more than 10000 values"):
        CODEC.encode(value, limit=10_000)


def test_a_small_typed_value_that_unfolds_without_end_is_refused() -> None:
    node = Node(1)
    for _ in range(60):
        node = Node(1, node, node)
    with pytest.raises(LimitExceededError, match="more than 10000 values"):
        CODEC.encode(node, Node, limit=10_000)


def test_depth_is_counted_in_containers() -> None:
    CODEC.encode(nested(64))
    JsonCodec(max_depth=2).encode([[1, (2,)][0:1]])
    with pytest.raises(EncodingError, match="deeper than 2"):
        JsonCodec(max_depth=2).encode([[[1]]])
    with pytest.raises(EncodingError, match="deeper than 2"):
        JsonCodec(max_depth=2).encode(({"a": ()},))


def test_layers_count_what_is_stored() -> None:
    codec = CODEC | ZlibLayer()
    assert len(codec.encode("a" * 10_000, limit=200).data) < 200
    with pytest.raises(LimitExceededError):
        codec.encode("a" * 10_000, limit=20)
