"""An old definition against a new one: what continues, what is parked, what would go wrong."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from durable_core import SKIP, Branch, DurableError, Workflow
from durable_core.workflow.upgrade import compare, positions, reads

Ctx = Any


@attrs.frozen
class Receipt:
    number: int


def work(ctx: Ctx) -> int:
    return 1


def work_as_text(ctx: Ctx) -> str:
    return "1"


def receipt(ctx: Ctx) -> Receipt:
    return Receipt(1)


def untyped(ctx: Ctx):  # type: ignore[no-untyped-def]  # the point of it
    return 1


def release(ctx: Ctx) -> None: ...


def refund(ctx: Ctx) -> None: ...


def keys(ctx: Ctx) -> str:
    return "a"


def items(ctx: Ctx) -> list[int]:
    return [1, 2]


def texts(ctx: Ctx) -> list[str]:
    return ["1"]


def flow() -> Workflow[Any, Any]:
    return Workflow("flow")


ab = flow().step("a", work).step("b", work)


def verdicts(old: Workflow[Any, Any], new: Workflow[Any, Any]) -> list[str]:
    """For each position, in order: the first letter of its verdict."""
    return [row.verdict[0] for row in compare(old, new).rows]


def test_positions_are_before_and_in_each_step_and_after_the_last() -> None:
    assert list(map(str, positions(ab))) == [
        "before a",
        "in a",
        "before b",
        "in b",
        "after the last step",
    ]


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (ab, "ccccc"),
        (ab.step("c", work), "ccccc"),
        (flow().step("a", work), "cccpp"),
        (flow().step("b", work), "cpppp"),
        (flow().step("new", work).step("a", work).step("b", work), "cpppp"),
        (flow().step("a", work).step("new", work).step("b", work), "cccpp"),
        (flow().step("b", work).step("a", work), "cpppc"),
        (flow().sleep("a", 1).step("b", work), "cpppp"),
        (flow().step("a", work_as_text).step("b", work), "ccwww"),
        (flow().step("a", work, compensate=release).step("b", work), "ccwww"),
        (flow().step("a", work, timeout=5).step("b", work), "ccccc"),
    ],
    ids=["same", "longer", "shorter", "first gone", "new first", "new between", "swapped",
         "other kind", "other type", "other undo", "policies"],
)  # fmt: skip
def test_steps(new: Workflow[Any, Any], expected: str) -> None:
    assert "".join(verdicts(ab, new)) == expected, str(compare(ab, new))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # parallel: before, in, after
        ({"x": work}, {"x": work, "y": work}, "ccc"),
        ({"x": work, "y": work}, {"x": work}, "cpp"),
        ({"x": work}, {"x": work_as_text}, "cww"),
        ({"x": Branch(work, compensate=release)}, {"x": work}, "cww"),
    ],
)
def test_parallels(old: Any, new: Any, expected: str) -> None:
    assert "".join(verdicts(flow().parallel("p", old), flow().parallel("p", new))) == expected


def test_a_new_entry_of_an_ended_parallel_hides_what_came_after_it() -> None:
    old = flow().parallel("p", {"x": work}).step("a", work)
    new = flow().parallel("p", {"x": work, "y": work}).step("a", work)
    assert "".join(verdicts(old, new)) == "cccpp"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (flow().route("r", keys, {"a": work, "b": work}), flow().route("r", keys, {"a": work}),
         "cpp"),
        (flow().route("r", keys, {"a": work}), flow().route("r", keys, {"a": work, "b": work}),
         "ccc"),
        (flow().route("r", keys, {"a": work}, otherwise=work),
         flow().route("r", keys, {"a": work, "b": work}, otherwise=work), "cpp"),
        (flow().route("r", keys, {"a": work}, otherwise=SKIP),
         flow().route("r", keys, {"a": work}), "cpp"),
        (flow().route("r", keys, {"a": work}), flow().route("r", keys, {"a": work_as_text}),
         "ccw"),
        (flow().map("m", items, work), flow().map("m", items, work, min_success=1), "ccc"),
        (flow().map("m", items, work, min_success=0), flow().map("m", items, work), "ccp"),
        (flow().map("m", items, work), flow().map("m", texts, work), "cww"),
        (flow().map("m", items, work), flow().map("m", items, work_as_text), "cww"),
        (flow().loop("l", work, max_iterations=2), flow().loop("l", work, max_iterations=3),
         "ccc"),
        (flow().loop("l", work), flow().loop("l", work, initial=1), "cpp"),
        (flow().loop("l", work, initial=1), flow().loop("l", work), "cpp"),
        (flow().sleep("s", 1), flow().sleep("s", 100), "ccc"),
        (flow().wait_for_signal("w", "go"), flow().wait_for_signal("w", "stop"), "cwc"),
        (flow().wait_for_signal("w", type=int), flow().wait_for_signal("w", type=str), "cww"),
        (flow().wait_for_signal("w"), flow().wait_for_signal("w", timeout=5), "ccc"),
        (flow().child("c", "one"), flow().child("c", "two"), "cww"),
        (flow().child("c", "one", compensate=release), flow().child("c", "one"), "cww"),
    ],
)  # fmt: skip
def test_other_kinds(old: Workflow[Any, Any], new: Workflow[Any, Any], expected: str) -> None:
    assert "".join(verdicts(old, new)) == expected, str(compare(old, new))


def test_another_input_type_is_wrong_everywhere() -> None:
    old, new = Workflow("flow", input=int), Workflow("flow", input=str)
    assert {row.verdict for row in compare(old, new).rows} == {"wrong"}


def test_compensators_that_came_went_or_changed() -> None:
    bare = flow().step("a", work)
    one, two = (flow().step("a", work, compensate=undo) for undo in (release, refund))
    for old, new, said in [
        (one, bare, "'a' was to be undone by release, and would not be undone"),
        (bare, one, "'a' was not to be undone, and would be by release"),
        (one, two, "'a' was to be undone by release, and would be by refund"),
    ]:
        assert said in str(compare(old, new))


def test_children_are_compared_too() -> None:
    def parent(*steps: str) -> Workflow[Any, Any]:
        child: Workflow[Any, Any] = Workflow("child")
        for step in steps:
            child = child.step(step, work)
        return flow().child("c", child)

    upgrade = compare(parent("x"), parent("y", "x"))
    assert {row.workflow for row in upgrade.parked} == {"child"}
    gone = compare(parent("x"), flow().child("c", "child"))
    assert "no step starts it any more" in str(gone)


def test_runs_of_another_version_are_executed_by_their_own() -> None:
    upgrade = compare(ab, Workflow("flow", version="2"))
    assert upgrade.safe
    assert "which has to stay registered" in str(upgrade)


def test_its_text_can_be_read() -> None:
    new = flow().step("a", work_as_text).step("c", work).step("b", work)
    upgrade = compare(ab, new)
    assert not upgrade.safe and len(upgrade.parked) == 2 and len(upgrade.wrong) == 1
    assert str(upgrade).splitlines() == [
        "not safe: of 5 positions 2 would be parked and 1 would go wrong; deploy the new "
        "definition with another version, beside the old one",
        "  continues  flow, before a",
        "  continues  flow, in a",
        "  wrong      flow, before b: the value of 'a' was stored as int and would be read as str",
        "  parks      flow, in b: step 'b' was moved: it is recorded, but the new step 'c' comes "
        "first",
        "  parks      flow, after the last step: step 'b' was moved: it is recorded, but the new "
        "step 'c' comes first",
    ]
    assert str(compare(ab, ab)).startswith("safe: all 5 positions continue")


def test_two_workflows_are_not_two_versions() -> None:
    with pytest.raises(DurableError, match="are two workflows"):
        compare(ab, Workflow("other"))


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (int, int, True),
        (int, str, False),
        (int, int | None, True),
        (int | None, int, False),
        (int, int | str, True),
        (Receipt, Receipt | None, True),
        (Receipt, Receipt | int | str, False),
        (Receipt, Any, False),
        (int, Any, True),
        (Any, int, False),
        (Any, Any, True),
        (list[int], list[int | None], True),
        (list[int], list[str], False),
        (None, None, True),
        (Receipt, attrs.make_class("Receipt", {"number": attrs.field(type=int)}), True),
        (Receipt, attrs.make_class("Receipt", {"number": attrs.field(type=str)}), False),
    ],
)
def test_what_is_stored_as_one_type_and_read_as_another(old: Any, new: Any, same: bool) -> None:
    assert reads(old, new) is same
