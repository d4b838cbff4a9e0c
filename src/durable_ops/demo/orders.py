"""Orders: the shipped file of a day in a coffee shop, and what must become of each order.

Money is whole cents. Nothing in the file says how an order ends; ``expected_end`` derives it
from the same facts the handlers look at, so that the closing check has a second opinion.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any, Literal

import attrs

WIRE_ABOVE = 1_000_000
"""Cents; dearer orders are paid by wire transfer, not by card."""

REVIEW_ABOVE = 300_000
"""Cents; dearer orders need somebody's approval."""

SIGNS_MAX = 1
"""More signs of fraud than this, and an order is rejected."""

UNSERVED = frozenset({"Polar Parcels"})
"""Carriers that take no parcels at present."""

End = Literal["completed", "failed"]


@attrs.frozen(slots=True)
class Customer:
    """Who ordered."""

    name: str
    email: str
    company: str | None
    known_since: str


@attrs.frozen(slots=True)
class Address:
    """Where the parcel goes."""

    street: str
    postcode: str
    city: str
    country: str


@attrs.frozen(slots=True)
class Item:
    """One line of an order; ``price`` is cents apiece, ``grams`` the weight of one."""

    sku: str
    title: str
    quantity: int
    price: int
    grams: int

    @property
    def total(self) -> int:
        """Cents of the line."""
        return self.quantity * self.price


@attrs.frozen(slots=True)
class Review:
    """What a colleague will say about a dear order; ``early``: before the workflow asks."""

    approved: bool
    by: str
    early: bool


@attrs.frozen(slots=True)
class Order:
    """One order as it stands in the file; the input of a run."""

    id: str
    placed_at: str
    customer: Customer
    address: Address
    items: list[Item]
    carrier: str
    gift_note: str | None
    signs_of_fraud: list[str]
    review: Review | None
    delivery: str

    @property
    def total(self) -> int:
        """Cents of all items."""
        return sum(item.total for item in self.items)

    @property
    def needs_review(self) -> bool:
        """Whether somebody must approve it."""
        return self.total > REVIEW_ABOVE


def expected_end(order: Order) -> End:
    """How the run of this order must end."""
    doubtful = len(order.signs_of_fraud) > SIGNS_MAX
    denied = order.needs_review and (order.review is None or not order.review.approved)
    undeliverable = order.carrier in UNSERVED or order.delivery != "accepted"
    return "failed" if doubtful or denied or undeliverable else "completed"


def load_orders(count: int | None = None) -> list[Order]:
    """The first ``count`` orders (all by default); beyond the file it begins again.

    Orders of a later round have the round in their id: ``A1001-2``.
    """
    text = resources.files(__package__).joinpath("orders.jsonl").read_text(encoding="utf-8")
    shipped = [read_order(json.loads(line)) for line in text.splitlines()]
    if count is None:
        return shipped
    orders = []
    for index in range(count):
        turn, place = divmod(index, len(shipped))
        order = shipped[place]
        orders.append(attrs.evolve(order, id=f"{order.id}-{turn + 1}") if turn else order)
    return orders


def read_order(record: dict[str, Any]) -> Order:
    """An order from its line in the file."""
    return Order(
        **{
            **record,
            "customer": Customer(**record["customer"]),
            "address": Address(**record["address"]),
            "items": [Item(**item) for item in record["items"]],
            "review": None if record["review"] is None else Review(**record["review"]),
        }
    )
