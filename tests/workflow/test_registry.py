"""The registry: versions, children, and sentences for what is not there."""

from __future__ import annotations

from typing import Any

import pytest

from durable_core.errors import DefinitionError, WorkflowNotRegisteredError
from durable_core.workflow import Definition, Registry, StepContext, Workflow


def work(ctx: StepContext[Any, Any]) -> int:
    return 1


def undo(ctx: StepContext[Any, Any]) -> None: ...


a1 = Workflow("a", version="1").step("s", work)
a2 = Workflow("a", version="2").step("s", work)
b = Workflow("b").step("s", work)


def test_workflows_are_found_by_name_and_version() -> None:  # R8, R10
    registry = Registry([a1, b, a2])
    assert registry.get("a", "1") is a1
    assert registry.find("a", "2") is a2
    assert registry.find("a", "3") is None
    assert registry.names == ("a", "b")
    assert len(registry) == 3
    assert set(registry) == {a1, a2, b}


def test_the_latest_is_the_one_listed_last() -> None:
    assert Registry([a1, a2]).latest("a") is a2
    assert Registry([a2, a1]).latest("a") is a1


def test_what_is_missing_is_named_with_all_that_is_known() -> None:  # R11
    registry = Registry([a1, a2, b])
    with pytest.raises(
        WorkflowNotRegisteredError,
        match=r"^workflow 'c' is not registered; list it .*Known are: a \(1, 2\), b \(1\)$",
    ):
        registry.latest("c")
    with pytest.raises(WorkflowNotRegisteredError, match=r"^version '9' of workflow 'a'"):
        registry.get("a", "9")
    with pytest.raises(WorkflowNotRegisteredError, match=r"Known are: none$"):
        Registry([]).latest("c")


def test_one_definition_a_name_and_version() -> None:  # R9
    with pytest.raises(DefinitionError, match=r"'a' is defined twice, differently, with version"):
        Registry([a1, Workflow("a").step("t", work)])


def test_the_same_workflow_may_be_listed_twice() -> None:
    assert len(Registry([a1, a1, Workflow("a").step("s", work)])) == 1


@pytest.mark.parametrize("wrong", [None, "a", Workflow, work, object()])
def test_only_workflows_are_listed(wrong: Any) -> None:
    with pytest.raises(DefinitionError, match=r"is not a workflow; list Workflow objects"):
        Registry([wrong])


def test_children_come_with_their_parents_down_to_the_last() -> None:
    middle = Workflow("middle").child("c", b)
    top = Workflow("top").child("c", middle)
    registry = Registry([top])
    assert registry.names == ("b", "middle", "top")
    assert registry.latest("b") is b


def test_a_child_of_two_parents_is_one_workflow() -> None:
    registry = Registry([Workflow("x").child("c", b), Workflow("y").child("c", b)])
    assert len(registry) == 3


def test_a_child_does_not_become_the_latest_of_what_is_listed() -> None:
    registry = Registry([a2, Workflow("parent").child("c", a1)])
    assert registry.latest("a") is a2
    assert registry.get("a", "1") is a1


def test_a_child_that_differs_from_the_listed_one_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"'a' is defined twice"):
        Registry([a1, Workflow("parent").child("c", Workflow("a").step("t", work))])


def test_a_child_by_name_must_be_there() -> None:
    with pytest.raises(
        DefinitionError,
        match=r"^workflow 'parent', step 'c': there is no workflow 'b' .*list it beside its "
        r"parent, or pass the Workflow itself. Known are: parent \(1\)$",
    ):
        Registry([Workflow("parent").child("c", "b")])


def test_children_by_name_are_resolved_wherever_they_stand() -> None:
    parent = Workflow("parent").child("c", "a").child("itself", "parent")
    registry = Registry([parent, a1, a2])
    assert [registry.child(link) for link in parent.children] == [a2, parent]


def test_a_child_object_keeps_its_version() -> None:
    parent = Workflow("parent").child("c", a1)
    registry = Registry([parent, a2])
    assert registry.child(parent.children[0]) is a1


@pytest.mark.parametrize(
    ("workflow", "compensable"),
    [
        (b, False),
        (Workflow("x").step("s", work, compensate=undo), True),
        (Workflow("x").map("s", lambda ctx: [1], work, compensate=undo), True),
        (Workflow("x").loop("s", work, compensate=undo), True),
        (Workflow("x").child("c", b), False),
        (Workflow("x").child("c", b, compensate=undo), True),
        (Workflow("x").child("c", Workflow("y").step("s", work, compensate=undo)), True),
        (Workflow("x").child("c", "x"), False),
        (Workflow("x").child("c", "x").step("s", work, compensate=undo), True),
    ],
)
def test_what_a_rollback_can_undo(workflow: Definition, compensable: bool) -> None:
    assert Registry([workflow]).compensable(workflow) is compensable
