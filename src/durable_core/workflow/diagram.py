"""Diagram: a definition as a graph, plain data, and that graph as a Mermaid flowchart.

``graph_of`` says which parts a workflow has and which follows which; nothing runs. Every drawing,
Mermaid here or another elsewhere, is made of that graph alone.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import datetime
from typing import Literal, assert_never, cast

import attrs

from .callables import describe
from .nodes import (
    SKIP,
    ChildNode,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    SignalNode,
    SleepNode,
    StepNode,
    Work,
)
from .outline import Asked

Kind = Literal[
    "start", "step", "fork", "entry", "join", "map", "route", "branch", "loop", "sleep", "signal",
    "child", "end",
]  # fmt: skip


@attrs.frozen(slots=True)
class Part:
    """One box. ``id`` is the unit's path, with a word after ``#`` where a step has several parts.

    ``facts``: what is said of it in few words, e.g. ``at most 5 at once``.
    """

    id: str
    kind: Kind
    name: str
    facts: tuple[str, ...] = ()
    compensable: bool = False


@attrs.frozen(slots=True)
class Link:
    """What may come after what; ``label`` is a route's key, or why a loop goes round."""

    source: str
    target: str
    label: str | None = None


@attrs.frozen(slots=True)
class Graph:
    """The parts of a workflow in order of declaration, and the links between them."""

    name: str
    version: str
    parts: tuple[Part, ...]
    links: tuple[Link, ...]


START = "#start"
END = "#end"


def graph_of(name: str, version: str, nodes: Iterable[Node]) -> Graph:
    """The graph of a declared workflow."""
    sketch = _Sketch()
    sketch.follow(Part(START, "start", name))
    for node in nodes:
        _draw(sketch, node)
    sketch.follow(Part(END, "end", "done"))
    return Graph(name, version, tuple(sketch.parts), tuple(sketch.links))


def graph_of_body(
    name: str, version: str, outline: Iterable[Asked], compensable: Container[str]
) -> Graph:
    """The graph of a body of code: what it asks for, one after another as in the code."""
    sketch = _Sketch()
    sketch.follow(Part(START, "start", name))
    seen: dict[str, int] = {}
    for asked in outline:
        count = seen[asked.name] = seen.get(asked.name, 0) + 1
        part_id = asked.name if count == 1 else f"{asked.name}#{count}"
        kind = cast(Kind, asked.kind)
        sketch.follow(
            Part(part_id, kind, asked.name, asked.facts, compensable=asked.name in compensable)
        )
    sketch.follow(Part(END, "end", "done"))
    return Graph(name, version, tuple(sketch.parts), tuple(sketch.links))


class _Sketch:
    """A graph that grows; ``open`` are the ends that whatever comes next is linked to."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.links: list[Link] = []
        self.open: list[tuple[str, str | None]] = []

    def follow(self, part: Part) -> None:
        """The next part, after everything that is open."""
        self.parts.append(part)
        self.links += [Link(source, part.id, label) for source, label in self.open]
        self.open = [(part.id, None)]

    def spread(self, parts: Iterable[tuple[Part, str | None]]) -> None:
        """Parts side by side, each after what was open, all open at the end."""
        before, after = self.open, []
        for part, label in parts:
            self.open = [(source, label) for source, _ in before]
            self.follow(part)
            after += self.open
        self.open = after


def _draw(sketch: _Sketch, node: Node) -> None:
    name = node.name
    facts: tuple[str, ...]
    match node:
        case StepNode():
            facts = ("in the store's transaction",) if node.transactional else ()
            sketch.follow(_part(name, "step", name, node.work, facts))
        case ParallelNode():
            sketch.follow(Part(name, "fork", name, _at_once(node.max_concurrency)))
            sketch.spread(
                (_part(f"{name}/{entry}", "entry", entry, work), None)
                for entry, work in node.entries
            )
            sketch.follow(Part(f"{name}#join", "join", name))
        case MapNode():
            facts = ("for each item", *_at_once(node.max_concurrency))
            if node.min_success is not None:
                facts += (f"{node.min_success} must succeed",)
            sketch.follow(_part(name, "map", name, node.work, facts))
        case RouteNode():
            _route(sketch, node)
        case LoopNode():
            sketch.follow(_part(name, "loop", name, node.work, _rounds(node)))
            sketch.links.append(Link(name, name, "again"))
        case SleepNode():
            sketch.follow(Part(name, "sleep", name, (_duration(node.duration),)))
        case SignalNode():
            sketch.follow(Part(name, "signal", name, _awaited(node)))
        case ChildNode():
            facts = (f"workflow {node.workflow_name}",)
            sketch.follow(Part(name, "child", name, facts, compensable=_undone(node)))
        case _:
            assert_never(node)


def _route(sketch: _Sketch, node: RouteNode) -> None:
    sketch.follow(Part(node.name, "route", node.name))
    sketch.spread(
        (_part(f"{node.name}/{key}", "branch", key, work), key) for key, work in node.all_branches
    )
    if node.otherwise is SKIP:
        sketch.open.append((node.name, node.OTHERWISE))


def _part(id_: str, kind: Kind, name: str, work: Work, facts: tuple[str, ...] = ()) -> Part:
    return Part(id_, kind, name, (describe(work.handler), *facts), work.undo is not None)


def _undone(node: ChildNode) -> bool:
    """Whether rolling back its parent undoes a completed child, as far as it is known here."""
    return node.undo is not None or _compensable(node.workflow)


def _compensable(workflow: object) -> bool:
    if getattr(workflow, "compensable", False):
        return True
    return any(_compensable(link.workflow) for link in getattr(workflow, "children", ()))


def _at_once(limit: int | None) -> tuple[str, ...]:
    return () if limit is None else (f"at most {limit} at once",)


def _rounds(node: LoopNode) -> tuple[str, ...]:
    rounds = f"at most {node.max_iterations} times"
    return (rounds if node.on_exhausted == "return" else f"{rounds}, else it fails",)


def _duration(duration: object) -> str:
    """In words that do not depend on where they are read."""
    if isinstance(duration, int):
        return _time(duration)
    return f"until {duration.isoformat()}" if isinstance(duration, datetime) else "computed"


def _awaited(node: SignalNode) -> tuple[str, ...]:
    signal = node.signal if isinstance(node.signal, str) else "a computed name"
    if node.timeout_ms is None:
        return (f"signal {signal}",)
    then = "goes on" if node.may_time_out else "fails"
    return (f"signal {signal}", f"{then} after {_time(node.timeout_ms)}")


def _time(ms: int) -> str:
    """A duration in the largest units that are whole: ``1 d 2 h``, ``90 ms``."""
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count} {unit}")
    if ms or not parts:
        parts.append(f"{ms} ms")
    return " ".join(parts)


# --- Mermaid -----------------------------------------------------------------------------------

_SHAPES: dict[Kind, tuple[str, str]] = {
    "start": ("([", "])"),
    "step": ("[", "]"),
    "fork": ("[/", "\\]"),
    "entry": ("[", "]"),
    "join": ("[\\", "/]"),
    "map": ("[[", "]]"),
    "route": ("{", "}"),
    "branch": ("[", "]"),
    "loop": ("[", "]"),
    "sleep": ("(", ")"),
    "signal": (">", "]"),
    "child": ("[[", "]]"),
    "end": ("([", "])"),
}
_COMPENSABLE = "classDef compensable stroke-dasharray: 5 5"
_UNDONE = "undone on rollback"


def to_mermaid(graph: Graph) -> str:
    """A Mermaid flowchart: the same text for the same graph, ending in a newline.

    Names stand in it as text only, whatever characters they hold. Parts that a rollback undoes
    say so, and have a dashed border.
    """
    ids = {part.id: f"n{number}" for number, part in enumerate(graph.parts)}
    lines = ["flowchart TD"]
    for part in graph.parts:
        before, after = _SHAPES[part.kind]
        lines.append(f'    {ids[part.id]}{before}"{_label(part)}"{after}')
    for link in graph.links:
        label = "" if link.label is None else f'|"{_text(link.label)}"|'
        lines.append(f"    {ids[link.source]} -->{label} {ids[link.target]}")
    undone = [ids[part.id] for part in graph.parts if part.compensable]
    if undone:
        lines += [f"    {_COMPENSABLE}", f"    class {','.join(undone)} compensable"]
    return "\n".join(lines) + "\n"


def _label(part: Part) -> str:
    """Its name, what it is, and what is said of it, a line each."""
    if part.kind in ("start", "end", "join"):
        return _text(part.name if part.kind != "join" else f"{part.name}: all done")
    kind = {"fork": "parallel", "entry": "", "branch": ""}.get(part.kind, part.kind)
    said = [part.name, *part.facts, *([_UNDONE] if part.compensable else [])]
    first, *rest = map(_text, said)
    return "<br/>".join([f"{kind}: {first}" if kind else first, *rest])


def _text(text: str) -> str:
    """Text that Mermaid shows as it is: everything but plain characters as a number."""
    return "".join(
        char if char.isalnum() or char in " ._-:,/'" else f"#{ord(char)};" for char in text
    )
