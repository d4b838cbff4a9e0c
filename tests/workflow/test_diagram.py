"""The graph of a definition, and its Mermaid text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_core.workflow import SKIP, Branch, StepContext, Workflow
from durable_core.workflow.diagram import END, START, Graph, Link, Part

Context = StepContext[Any, Any]


def handle(ctx: Context) -> int:
    return 1


def undo(ctx: Context) -> None: ...


def graph(workflow: Workflow[Any, Any]) -> Graph:
    return workflow.graph()


def links(workflow: Workflow[Any, Any]) -> list[tuple[str, str, str | None]]:
    return [(link.source, link.target, link.label) for link in graph(workflow).links]


def part(workflow: Workflow[Any, Any], id_: str) -> Part:
    (found,) = [part for part in graph(workflow).parts if part.id == id_]
    return found


EMPTY = Workflow("w", version="3")
CHILD = Workflow("invoicing").step("a", handle, compensate=undo)


def test_a_workflow_without_steps_is_a_start_and_an_end() -> None:
    assert graph(EMPTY) == Graph(
        "w",
        "3",
        (Part(START, "start", "w"), Part(END, "end", "done")),
        (Link(START, END),),
    )


def test_steps_follow_each_other() -> None:
    workflow = EMPTY.step("a", handle, compensate=undo).step("b", handle, transactional=True)
    assert links(workflow) == [(START, "a", None), ("a", "b", None), ("b", END, None)]
    assert part(workflow, "a") == Part("a", "step", "a", ("handle",), compensable=True)
    assert part(workflow, "b").facts == ("handle", "in the store's transaction")


def test_a_parallel_forks_and_joins() -> None:
    workflow = EMPTY.parallel(
        "p", {"x": handle, "y": Branch(handle, compensate=undo)}, max_concurrency=2
    )
    assert links(workflow) == [
        (START, "p", None),
        ("p", "p/x", None),
        ("p", "p/y", None),
        ("p/x", "p#join", None),
        ("p/y", "p#join", None),
        ("p#join", END, None),
    ]
    assert part(workflow, "p").facts == ("at most 2 at once",)
    assert [part(workflow, f"p/{entry}").compensable for entry in "xy"] == [False, True]


def test_a_map_says_how_many() -> None:
    workflow = EMPTY.map("m", lambda c: [1], handle, max_concurrency=5, min_success=0)
    assert part(workflow, "m") == Part(
        "m", "map", "m", ("handle", "for each item", "at most 5 at once", "0 must succeed")
    )


def test_a_route_has_a_link_for_each_key() -> None:
    route = EMPTY.route("r", lambda c: "x", {"x": handle, "y": handle}, otherwise=handle)
    assert links(route) == [
        (START, "r", None),
        ("r", "r/x", "x"),
        ("r", "r/y", "y"),
        ("r", "r/otherwise", "otherwise"),
        ("r/x", END, None),
        ("r/y", END, None),
        ("r/otherwise", END, None),
    ]


def test_a_skipped_route_goes_past_its_branches() -> None:
    route = EMPTY.route("r", lambda c: "x", {"x": handle}, otherwise=SKIP)
    assert ("r", END, "otherwise") in links(route)


def test_a_loop_comes_back_to_itself() -> None:
    loop = EMPTY.loop("l", handle, until=lambda r: True, max_iterations=9, on_exhausted="fail")
    assert ("l", "l", "again") in links(loop)
    assert part(loop, "l").facts == ("handle", "at most 9 times, else it fails")


@pytest.mark.parametrize(
    ("duration", "fact"),
    [
        (timedelta(days=1, hours=2), "1 d 2 h"),
        (0, "0 ms"),
        (90.5, "1 min 30 s 500 ms"),
        (datetime(2030, 1, 1, tzinfo=UTC), "until 2030-01-01T00:00:00+00:00"),
        (lambda c: 1, "computed"),
    ],
)
def test_a_sleep_says_how_long(duration: Any, fact: str) -> None:
    assert part(EMPTY.sleep("z", duration), "z") == Part("z", "sleep", "z", (fact,))


def test_a_signal_says_its_name_and_its_time() -> None:
    assert part(EMPTY.wait_for_signal("s"), "s").facts == ("signal s",)
    waits = EMPTY.wait_for_signal("s", "risk.ok", timeout=60)
    assert part(waits, "s").facts == ("signal risk.ok", "fails after 1 min")
    waits = EMPTY.wait_for_signal("s", lambda c: "x", timeout=60, on_timeout="continue")
    assert part(waits, "s").facts == ("signal a computed name", "goes on after 1 min")


def test_a_child_is_compensable_when_it_or_its_parent_can_undo() -> None:
    inner = Workflow("outer").child("c", CHILD)
    assert part(EMPTY.child("c", CHILD), "c") == Part(
        "c", "child", "c", ("workflow invoicing",), compensable=True
    )
    assert part(EMPTY.child("c", inner), "c").compensable
    assert not part(EMPTY.child("c", "other"), "c").compensable
    assert part(EMPTY.child("c", "other", compensate=undo), "c").compensable


def test_mermaid_text_of_every_kind() -> None:
    workflow = (
        Workflow("checkout")
        .step("reserve", handle, compensate=undo)
        .parallel("check", {"price": handle, "fraud": handle})
        .map("pick", lambda c: [1], handle)
        .route("pay", lambda c: "x", {"wire": handle, "card": handle}, otherwise=SKIP)
        .loop("track", handle, max_iterations=50)
        .wait_for_signal("approval", "risk.approved")
        .sleep("settle", timedelta(hours=24))
        .child("invoice", CHILD)
    )
    assert (
        workflow.to_mermaid()
        == r"""flowchart TD
    n0(["checkout"])
    n1["step: reserve<br/>handle<br/>undone on rollback"]
    n2[/"parallel: check"\]
    n3["price<br/>handle"]
    n4["fraud<br/>handle"]
    n5[\"check: all done"/]
    n6[["map: pick<br/>handle<br/>for each item"]]
    n7{"route: pay"}
    n8["wire<br/>handle"]
    n9["card<br/>handle"]
    n10["loop: track<br/>handle<br/>at most 50 times"]
    n11>"signal: approval<br/>signal risk.approved"]
    n12("sleep: settle<br/>1 d")
    n13[["child: invoice<br/>workflow invoicing<br/>undone on rollback"]]
    n14(["done"])
    n0 --> n1
    n1 --> n2
    n2 --> n3
    n2 --> n4
    n3 --> n5
    n4 --> n5
    n5 --> n6
    n6 --> n7
    n7 -->|"wire"| n8
    n7 -->|"card"| n9
    n8 --> n10
    n9 --> n10
    n7 -->|"otherwise"| n10
    n10 -->|"again"| n10
    n10 --> n11
    n11 --> n12
    n12 --> n13
    n13 --> n14
    classDef compensable stroke-dasharray: 5 5
    class n1,n13 compensable
"""
    )


def test_mermaid_is_the_same_each_time() -> None:
    assert CHILD.to_mermaid() == CHILD.to_mermaid()


@pytest.mark.parametrize("name", ['a"]; click n0 "x', "<script>", "end", "a`b|c", "é ∆", "a&b;"])
def test_names_cannot_break_out_of_their_label(name: str) -> None:
    text = EMPTY.route("r", lambda c: "x", {name: lambda ctx: 1}).to_mermaid()
    labels = re.findall(r'"([^"]*)"', text)
    assert text.count('"') == 2 * len(labels)
    rest = re.sub(r'"[^"]*"', "", text)
    assert "click" not in rest and "script" not in rest
    assert all(char not in label for label in labels for char in "|`[]{}")
    assert not any("<" in label.replace("<br/>", "") for label in labels)


def test_drawing_calls_nothing() -> None:
    def never(ctx: Context) -> Any:
        raise AssertionError("a drawing called a handler")

    workflow = EMPTY.step("a", never, compensate=never).map("m", never, never).sleep("z", never)
    assert workflow.to_mermaid().startswith("flowchart TD\n")
