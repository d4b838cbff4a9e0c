"""Types: what mypy makes of definitions and contexts; it checks this file like any other."""

from __future__ import annotations

from typing import Any, assert_type

import attrs

from durable_core.workflow import SKIP, Branch, StepContext, Suspend, Undo, Workflow


@attrs.frozen
class Cart:
    items: list[str]


@attrs.frozen
class Shop:
    name: str


@attrs.frozen
class Receipt:
    total: int


async def reserve(ctx: StepContext[Shop, Cart]) -> Receipt:
    assert_type(ctx.input, Cart)
    assert_type(ctx.deps, Shop)
    return Receipt(len(ctx.input.items))


def approve(ctx: StepContext[Shop, Cart]) -> Receipt | Suspend:
    return Suspend({"asked": True})


async def agree(ctx: StepContext[Shop, Cart]) -> Receipt | Suspend:
    return Receipt(1)


def read(ctx: StepContext[Shop, Cart]) -> int:
    assert_type(ctx.result(reserve), Receipt)
    assert_type(ctx.result(approve), Receipt)
    assert_type(ctx.result(agree), Receipt)
    assert_type(ctx.result("reserve", Receipt), Receipt)
    assert_type(ctx.result("pick", list[int]), list[int])
    return 1


async def release(ctx: StepContext[Shop, object]) -> None:
    """Of no matter which input: a context is covariant."""


def pick(ctx: StepContext[Shop, Cart], item: str) -> str:
    return item


def test_a_workflow_knows_its_input_and_its_result() -> None:
    untyped = Workflow("w")
    assert_type(untyped, Workflow[Any, dict[str, Any]])
    typed = Workflow("w", input=Cart)
    assert_type(typed, Workflow[Cart, dict[str, Any]])
    built = (
        typed.step("reserve", reserve, compensate=release)
        .parallel("both", {"a": approve, "b": Branch(reserve, compensate=Undo(release))})
        .map("pick", lambda ctx: ctx.input.items, pick)
        .route("r", lambda ctx: "x", {"x": read, "y": Branch(read)}, otherwise=SKIP)
        .loop("l", read, until=lambda result, n: n > result)
        .child("c", "other", input=lambda ctx: 1)
    )
    assert_type(built, Workflow[Cart, dict[str, Any]])
    assert_type(built.returns(lambda ctx: ctx.result(reserve)), Workflow[Cart, Receipt])
    assert_type(built.returns(lambda ctx: ctx.input), Workflow[Cart, Cart])


def test_a_type_form_is_an_input_too() -> None:
    workflow = Workflow("w", input=int | None)
    assert workflow.input_type == int | None


def test_a_handler_of_another_input_is_found_by_the_type_checker() -> None:
    Workflow("w", input=Receipt).step("a", reserve)  # type: ignore[arg-type]
    Workflow("w", input=Receipt).step("a", release)
