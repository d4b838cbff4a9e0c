"""The fingerprint covers kinds, names, entries and child names, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durable_core.kernel.policy import Retry
from durable_core.workflow import SKIP, Branch, StepContext, Workflow

W = Workflow[Any, Any]


def one(ctx: StepContext[Any, Any]) -> int:
    return 1


def other(ctx: StepContext[Any, Any]) -> int:
    return 2


def base() -> W:
    return (
        Workflow("w")
        .step("a", one)
        .parallel("b", {"x": one, "y": one})
        .route("c", one, {"k": one, "l": one})
        .child("d", "invoicing")
        .sleep("e", 1)
    )


SAME: list[Callable[[], W]] = [
    base,
    lambda: Workflow("w", version="2", input=int).step("a", other, retry=Retry(max_attempts=1))
    .parallel("b", {"y": Branch(other, compensate=one), "x": other}, max_concurrency=1)
    .route("c", other, {"l": one, "k": one}, otherwise=SKIP)
    .child("d", Workflow("invoicing", version="9").step("z", one))
    .sleep("e", 99)
    .returns(one),
]  # fmt: skip

DIFFERENT: list[Callable[[], W]] = [
    lambda: base().step("z", one),
    lambda: Workflow("w").step("a", one),
    lambda: Workflow("w").step("b", one),
    lambda: Workflow("w").map("a", lambda ctx: [1], one),
    lambda: Workflow("w").loop("a", one),
    lambda: Workflow("w").wait_for_signal("a"),
    lambda: Workflow("w").sleep("a", 1),
    lambda: Workflow("w").child("a", "x"),
    lambda: Workflow("w").child("a", "y"),
    lambda: Workflow("w").parallel("a", {"x": one}),
    lambda: Workflow("w").parallel("a", {"x": one, "y": one}),
    lambda: Workflow("w").route("a", one, {"x": one}),
    lambda: Workflow("w").route("a", one, {"x": one}, otherwise=one),
    lambda: Workflow("w").step("a", one).step("b", one),
    lambda: Workflow("w").step("b", one).step("a", one),
    lambda: Workflow("w").step("ab", one),
]


@pytest.mark.parametrize("build", SAME)
def test_policies_code_version_and_order_of_entries_do_not_count(build: Callable[[], W]) -> None:
    assert build().fingerprint == base().fingerprint


def test_whatever_changes_the_units_counts() -> None:
    prints = [build().fingerprint for build in [base, *DIFFERENT]]
    assert len(set(prints)) == len(prints)


def test_it_is_stored_so_it_never_changes() -> None:
    assert Workflow("w").fingerprint == "7ebb3c7c2a87b1a2f8a7ed729ecb040d"
    assert base().fingerprint == "08b1e6ccc01b0d34023a7bca4727aca7"
