"""What a user's module looks like that `mypy --strict` must pass without a complaint.

It is never run; `test_typing.py` hands it to mypy as a user would, without our settings.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, assert_type

import attrs

from durable_core.workflow import SKIP, Branch, StepContext, Suspend, Undo, Workflow


@attrs.frozen
class Line:
    sku: str


@attrs.frozen
class Cart:
    items: list[Line]


@attrs.frozen
class Shop:
    name: str


@attrs.frozen
class Receipt:
    total: int


async def reserve(ctx: StepContext) -> Receipt:
    """A context without parameters: everything is ``Any``."""
    assert_type(ctx.input, Any)
    assert_type(ctx.deps, Any)
    return Receipt(1)


def release(ctx: StepContext) -> None:
    assert_type(ctx.value, Any)


def quote(ctx: StepContext[Shop]) -> int:
    """With the deps alone."""
    assert_type(ctx.deps, Shop)
    assert_type(ctx.input, Any)
    return 1


async def score(ctx: StepContext[Shop, Cart]) -> float | Suspend:
    assert_type(ctx.deps, Shop)
    assert_type(ctx.input, Cart)
    assert_type(ctx.result(reserve), Any)  # mypy: Any in an async handler's signature spreads
    assert_type(ctx.result(release), None)
    assert_type(ctx.result(quote), int)
    assert_type(ctx.result("reserve", Receipt), Receipt)
    assert_type(ctx.result("reserve"), Any)
    return 0.5


def pick_item(ctx: StepContext) -> Line:
    assert_type(ctx.index, int)
    return Line("a")


def pick_this(ctx: StepContext, item: Line) -> str:
    return item.sku


def poll(ctx: StepContext, cursor: int) -> int:
    return cursor + 1


def total_of(ctx: StepContext[Any, Cart]) -> Receipt:
    assert_type(ctx.result(score), float)
    return ctx.result("reserve", Receipt)


def items_of(ctx: StepContext[Any, Cart]) -> list[Line]:
    return ctx.input.items


assert_type(Workflow("w"), Workflow[Any, dict[str, Any]])
assert_type(Workflow("w", input=Cart), Workflow[Cart, dict[str, Any]])
assert_type(Workflow("w", input=Cart).step("a", reserve), Workflow[Cart, dict[str, Any]])

checkout = (
    Workflow("checkout", input=Cart, version="1")
    .step("reserve", reserve, compensate=release)
    .parallel("check", {"price": quote, "fraud": Branch(score, compensate=Undo(release))})
    .map("pick", lambda c: c.input.items, pick_item, compensate=release)
    .map("pack", lambda c: [assert_type(c, StepContext[Any, Cart]).input], pick_this)
    .map("ship", items_of, pick_this)
    .route("pay", lambda c: c.input.items[0].sku, {"wire": quote, "card": quote}, otherwise=SKIP)
    .loop("track", poll, initial=0, until=lambda r, n: r > n, feedback=lambda r: r)
    .wait_for_signal("approval", lambda c: c.input.items[0].sku, type=Receipt)
    .sleep("settle", lambda c: timedelta(hours=len(c.input.items)))
    .child("invoice", "invoicing", input=lambda c: c.input.items)
)
assert_type(checkout, Workflow[Cart, dict[str, Any]])
assert_type(checkout.returns(total_of), Workflow[Cart, Receipt])
assert_type(checkout.returns(lambda c: c.result(score)), Workflow[Cart, float])
assert_type(checkout.returns(lambda c: c.result("reserve", Receipt)), Workflow[Cart, Receipt])
assert_type(checkout.returns(lambda c: c.input.items), Workflow[Cart, list[Line]])
