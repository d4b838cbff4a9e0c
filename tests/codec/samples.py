"""Types as users write them, for the tests of the codec."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from typing import Any, Generic, Literal, NamedTuple, NewType, Required, TypedDict, TypeVar

import attrs

T = TypeVar("T")
Sku = NewType("Sku", str)


class Color(enum.Enum):
    RED = "red"
    MIXED = (1, 2)


class Status(enum.StrEnum):
    OPEN = "open"
    PAID = "paid"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Rights(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


@attrs.frozen
class Money:
    amount: decimal.Decimal
    currency: Literal["EUR", "USD"] = "EUR"


@attrs.frozen
class Item:
    sku: Sku
    price: Money
    count: int = 1


@attrs.define
class Order:
    id: uuid.UUID
    items: list[Item]
    status: Status
    placed: dt.datetime
    tags: frozenset[str] = frozenset()
    by_day: dict[dt.date, Level] = attrs.field(factory=dict)
    note: str | None = None
    _internal: int = 0


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int


@dataclasses.dataclass
class Twin:
    """Has the very fields of ``Point``."""

    x: int
    y: int


@dataclasses.dataclass
class Wide:
    x: int
    y: int
    z: int


@dataclasses.dataclass
class Sum:
    parts: list[int]
    total: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.total = sum(self.parts)


@dataclasses.dataclass
class Node:
    value: int
    left: Node | None = None
    right: Node | None = None


@dataclasses.dataclass
class Box(Generic[T]):
    item: T
    more: list[T] = dataclasses.field(default_factory=list)


@attrs.define
class Boxes(Box[Point]):
    label: str = ""


class Span(NamedTuple):
    first: dt.date
    last: dt.date | None = None


class Row(TypedDict, total=False):
    id: Required[int]
    name: str


class Model:
    """Looks like a pydantic model."""

    model_fields: Any = {}  # noqa: RUF012

    def __init__(self, when: dt.date) -> None:
        self.when = when

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.when == self.when

    def __hash__(self) -> int:
        return hash(self.when)

    def __repr__(self) -> str:
        return f"Model({self.when})"

    def model_dump(self, *, mode: str = "python", **_: Any) -> dict[str, Any]:
        return {"when": self.when.isoformat() if mode == "json" else self.when}

    @classmethod
    def model_validate(cls, plain: dict[str, Any]) -> Model:
        when = plain["when"]
        return cls(dt.date.fromisoformat(when) if isinstance(when, str) else when)


class Struct:
    """Looks like a msgspec.Struct."""

    __struct_fields__ = ("name", "points")
    name: str
    points: list[Point]

    def __init__(self, name: str, points: list[Point]) -> None:
        self.name = name
        self.points = points

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Struct) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]


for _cls in (Money, Item, Order, Boxes):
    attrs.resolve_types(_cls)  # for Hypothesis; the codec does it by itself
