"""Upgrade: an old definition against a new one; what would become of the runs under way. Pure.

A run stands *before* a step (everything up to there has ended, the step has left nothing yet),
*in* a step (it has entries, and no end), or *after* the last one (it can still be undone). Under
the new definition it

- *continues*: replay asks for all that is recorded, and what is recorded still means the same;
- *parks*: replay does not fit, so the run is held (``definition_changed``) and nothing is run;
- would go *wrong*: replay fits, but what is recorded would be taken for something else;
- is *unknown*: a body of code can only be judged by the journals of its runs.

Rules: only what is recorded can clash; what is still to come may change at will. Whatever
cannot be told from the definitions alone (which branch was taken) is judged by its worst case.
Policies (retry, timeout, max_concurrency, those of an ``Undo`` too) may change at will: they are
no part of what is recorded. A backoff that has begun ends when it was to; all that comes after it,
attempts and undoing, goes by the new policy. Of a handler or a compensator only the name is
compared: what its code does now cannot be told.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Iterator
from typing import Any, Literal, Union, get_args, get_origin

import attrs

from ..errors import DurableError
from .callables import describe
from .coded import CodedWorkflow
from .definition import Workflow
from .loose import is_untyped
from .nodes import (
    RUN_INPUT,
    ChildNode,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    SignalNode,
    UndoWork,
    Work,
    works_of,
)

Verdict = Literal["continues", "parks", "wrong", "unknown"]


@attrs.frozen(slots=True)
class Position:
    """Where a run stands: the steps that have ended, in order, and the one that has begun."""

    done: tuple[str, ...]
    begun: str | None = None
    name: str = ""

    def __str__(self) -> str:
        return self.name


@attrs.frozen(slots=True)
class Row:
    """One position of one workflow (or one run), the verdict, and why."""

    workflow: str
    position: str
    verdict: Verdict
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        why = f": {'; '.join(self.reasons)}" if self.reasons else ""
        return f"{self.verdict:<9}  {self.workflow}, {self.position}{why}"


@attrs.frozen(slots=True)
class Upgrade:
    """What a new definition means for the runs of an old one."""

    rows: tuple[Row, ...]

    @property
    def safe(self) -> bool:
        """Whether every run continues, wherever it stands."""
        return all(row.verdict == "continues" for row in self.rows)

    @property
    def parked(self) -> tuple[Row, ...]:
        """Where runs would be held."""
        return tuple(row for row in self.rows if row.verdict == "parks")

    @property
    def wrong(self) -> tuple[Row, ...]:
        """Where runs would go on and do something else than was meant."""
        return tuple(row for row in self.rows if row.verdict == "wrong")

    def __str__(self) -> str:
        if self.safe:
            head = f"safe: all {len(self.rows)} positions continue"
        else:
            unknown = sum(row.verdict == "unknown" for row in self.rows)
            cannot = f" ({unknown} cannot be judged)" if unknown else ""
            head = (
                f"not safe: of {len(self.rows)} positions {len(self.parked)} would be parked "
                f"and {len(self.wrong)} would go wrong{cannot}; deploy the new definition with "
                "another version, beside the old one"
            )
        return "\n".join([head, *(f"  {row}" for row in self.rows)])


AnyWorkflow = Workflow[Any, Any]


def compare(old: AnyWorkflow, new: AnyWorkflow) -> Upgrade:
    """Every position of the old definition, and of its children's, under the new ones.

    Raises ``DurableError`` when they are not the same workflow.
    """
    if old.name != new.name:
        raise DurableError(
            f"{old.name!r} and {new.name!r} are two workflows; give the old and the new "
            "definition of one"
        )
    return Upgrade(tuple(_rows(old, new, set())))


def _rows(old: AnyWorkflow, new: AnyWorkflow, seen: set[str]) -> Iterator[Row]:
    if old.name in seen:
        return
    seen.add(old.name)
    if old.version == new.version and (is_code(old) or is_code(new)):
        yield _row_of_code(old, new)
    elif old.version == new.version:
        for position in positions(old):
            verdict, reasons = judge(old, new, position)
            yield Row(old.name, str(position), verdict, reasons)
    else:
        yield Row(
            old.name,
            "anywhere",
            "continues",
            (f"by version {old.version!r}, which has to stay registered beside {new.version!r}",),
        )
    today = _children(new)
    for name, child in _children(old).items():
        if name in today:
            yield from _rows(child, today[name], seen)
        else:
            why = f"no step starts it any more; list {name!r} in Engine(...) until they have ended"
            yield Row(name, "anywhere", "parks", (why,))


def is_code(workflow: AnyWorkflow) -> bool:
    """Whether its body is code, which only a replay can judge."""
    return isinstance(workflow, CodedWorkflow)


def _row_of_code(old: AnyWorkflow, new: AnyWorkflow) -> Row:
    if is_code(old) != is_code(new):
        why = "one of the two is a body of code, and the other is declared"
        return Row(old.name, "anywhere", "parks", (why,))
    if old == new:
        return Row(old.name, "anywhere", "continues", ("nothing has changed",))
    why = (
        "a body of code can only be judged by its runs: give runs=[...], as engine.export(run_id) "
        "or simulate(...) gives them"
    )
    return Row(old.name, "anywhere", "unknown", (why,))


def _children(workflow: AnyWorkflow) -> dict[str, AnyWorkflow]:
    links = [link.workflow for link in workflow.children]
    return {link.name: link for link in links if isinstance(link, Workflow)}


def positions(workflow: AnyWorkflow) -> Iterator[Position]:
    """Where its runs can stand, in order."""
    done: tuple[str, ...] = ()
    for node in workflow.nodes:
        yield Position(done, None, f"before {node.name}")
        yield Position(done, node.name, f"in {node.name}")
        done += (node.name,)
    yield Position(done, None, "after the last step")


def judge(
    old: AnyWorkflow, new: AnyWorkflow, position: Position
) -> tuple[Verdict, tuple[str, ...]]:
    """What the new definition does with a run that stands there, and why."""
    clash = tuple(_clashes(old, new, position))
    if clash:
        return "parks", clash
    changes = tuple(changed_meanings(old, new, position.done, position.begun))
    return ("wrong", changes) if changes else ("continues", ())


# --- would replay fit? -------------------------------------------------------------------------


def _clashes(old: AnyWorkflow, new: AnyWorkflow, position: Position) -> Iterator[str]:
    """Walk the new steps as replay does: over what has ended, up to the first that has not."""
    before = {node.name: node for node in old.nodes}
    recorded = dict.fromkeys(position.done)
    if position.begun is not None:
        recorded[position.begun] = None
    for node in new.nodes:
        if node.name not in recorded:
            yield from _unasked(recorded, new, f"the new step {node.name!r} comes first")
            return
        del recorded[node.name]
        yield from _differences(before[node.name], node, begun=node.name == position.begun)
        if node.name == position.begun:
            yield from _unasked(recorded, new, f"step {node.name!r} now comes first")
            return
        entry = _new_entry(before[node.name], node)
        if entry is not None:
            yield from _unasked(recorded, new, f"the new entry {entry!r} comes first")
            return
    yield from _unasked(recorded, new, "")


def _unasked(recorded: Collection[str], new: AnyWorkflow, why: str) -> Iterator[str]:
    names = {node.name for node in new.nodes}
    for name in recorded:
        if name in names:
            yield f"step {name!r} was moved: it is recorded, but {why}"
        else:
            yield f"step {name!r} is gone, but it is recorded"


def _differences(old: Node, new: Node, *, begun: bool) -> Iterator[str]:
    """Why a recorded step would not be asked for as what it was."""
    if old.kind != new.kind:
        yield f"step {old.name!r} was a {old.kind} and is a {new.kind}"
        return
    if isinstance(old, ParallelNode):
        today = [name for name, _ in works_of(new)]
        for name, _ in old.entries:
            if name not in today:
                yield f"entry {name!r} of parallel {old.name!r} is gone, but it may be recorded"
    elif isinstance(old, RouteNode):
        assert isinstance(new, RouteNode)
        yield from _branches(old, new)
    elif isinstance(old, LoopNode):
        assert isinstance(new, LoopNode)
        if (old.initial is RUN_INPUT) != (new.initial is RUN_INPUT):
            which = "no longer has" if new.initial is RUN_INPUT else "now has"
            yield f"loop {old.name!r} {which} an initial value of its own, which is recorded"
    elif isinstance(old, MapNode):
        assert isinstance(new, MapNode)
        if not begun and _successes(new) > _successes(old):
            yield f"map {old.name!r} needs more items to succeed than were enough (min_success)"


def _new_entry(old: Node, new: Node) -> str | None:
    """An entry of a parallel that had ended without it."""
    if not isinstance(new, ParallelNode) or not isinstance(old, ParallelNode):
        return None
    known = {name for name, _ in old.entries}
    return next((name for name, _ in new.entries if name not in known), None)


def _branches(old: RouteNode, new: RouteNode) -> Iterator[str]:
    had_rest, has_rest = old.otherwise is not None, new.otherwise is not None
    before, today = dict(old.branches), dict(new.branches)
    for key in before:
        if key not in today:
            yield f"route {old.name!r} no longer has the branch {key!r}, which may be recorded"
    if had_rest:
        for key in today:
            if key not in before:
                yield f"route {old.name!r} has a branch {key!r} now, which was the rest's before"
        if not has_rest or isinstance(old.otherwise, Work) != isinstance(new.otherwise, Work):
            yield f"route {old.name!r} treats keys without a branch otherwise"


def _successes(node: MapNode) -> float:
    """How many items must succeed: all of them, if it does not say."""
    return float("inf") if node.min_success is None else node.min_success


# --- would it mean the same? -------------------------------------------------------------------


def changed_meanings(
    old: AnyWorkflow, new: AnyWorkflow, done: Collection[str], begun: str | None
) -> Iterator[str]:
    """What replay does not notice: recorded values that would be read as something else, and
    what is to be undone or received otherwise."""
    if not reads(old.input_type, new.input_type):
        yield f"the input was stored as {_shown(old.input_type)}, not {_shown(new.input_type)}"
    today = {node.name: node for node in new.nodes}
    for node in old.nodes:
        if node.name in today and (node.name in done or node.name == begun):
            yield from _meaning(node, today[node.name], begun=node.name == begun)


def _meaning(old: Node, new: Node, *, begun: bool) -> Iterator[str]:
    alone = begun and old.kind in ("step", "route")  # its value is still to come
    today = dict(works_of(new))
    for entry, work in works_of(old):
        other = today.get(entry)
        if other is not None:
            unit = old.name if entry is None else f"{old.name}/{entry}"
            if not alone:
                yield from _retyped(f"the value of {unit!r}", work.result_type, other.result_type)
                yield from _undone(unit, work.undo, other.undo)
    match old, new:
        case MapNode(), MapNode():
            yield from _retyped(f"an item of {old.name!r}", old.item_type, new.item_type)
        case LoopNode(), LoopNode():
            yield from _retyped(f"the value {old.name!r} goes on with", old.value_type,
                                new.value_type)  # fmt: skip
        case SignalNode(), SignalNode():
            yield from _signal(old, new, begun=begun)
        case ChildNode(), ChildNode():
            yield from _child(old, new)
        case _:
            return


def _retyped(what: str, old: Any, new: Any) -> Iterator[str]:
    if not reads(old, new):
        yield f"{what} was stored as {_shown(old)} and would be read as {_shown(new)}"


def _undone(unit: str, old: UndoWork | None, new: UndoWork | None) -> Iterator[str]:
    match old, new:
        case None, None:
            return
        case UndoWork(), None:
            yield f"{unit!r} was to be undone by {_named(old)}, and would not be undone"
        case None, UndoWork():
            yield f"{unit!r} was not to be undone, and would be by {_named(new)}"
        case UndoWork(), UndoWork():
            if _named(old) != _named(new):
                yield f"{unit!r} was to be undone by {_named(old)}, and would be by {_named(new)}"


def _signal(old: SignalNode, new: SignalNode, *, begun: bool) -> Iterator[str]:
    if begun and _signal_name(old) != _signal_name(new):
        yield (
            f"step {old.name!r} goes on waiting for the signal {_signal_name(old)!r}, but "
            f"{_signal_name(new)!r} is what will be sent"
        )
    if not reads(old.type, new.type):
        which = "is awaited" if begun else "was received"
        yield (
            f"the signal of {old.name!r} {which} as {_shown(old.type)}, not as {_shown(new.type)}"
        )


def _signal_name(node: SignalNode) -> str:
    return node.signal if isinstance(node.signal, str) else describe(node.signal)


def _child(old: ChildNode, new: ChildNode) -> Iterator[str]:
    if old.workflow_name != new.workflow_name:
        yield (
            f"the child run of {old.name!r} is one of {old.workflow_name!r}, not of "
            f"{new.workflow_name!r}"
        )
    else:
        yield from _retyped(f"the result of {old.name!r}", old.result_type, new.result_type)
    yield from _undone(old.name, old.undo, new.undo)


# --- types ---------------------------------------------------------------------------------------

_PLAIN = (str, bool, int, float, type(None))


def reads(old: Any, new: Any) -> bool:
    """Whether what was stored as ``old`` is read as the same value by ``new``."""
    if old is None or new is None:
        old, new = (type(None) if one is None else one for one in (old, new))
    if old == new or (is_untyped(old) and is_untyped(new)):
        return True
    if is_untyped(new):
        return old in _PLAIN
    if _is_union(new):
        before = get_args(old) if _is_union(old) else (old,)
        added = [one for one in get_args(new) if one not in before]
        return all(one in get_args(new) for one in before) and all(
            one in _PLAIN for one in (*added, *(before if len(added) > 1 else ()))
        )
    if get_origin(old) is list and get_origin(new) is list:
        return reads(get_args(old)[0], get_args(new)[0])
    return _same_class(old, new)


def _is_union(type_: Any) -> bool:
    return get_origin(type_) in (Union, types.UnionType)


def _same_class(old: Any, new: Any) -> bool:
    """One class in two versions of a module: the same name and the same annotated fields."""
    if not (isinstance(old, type) and isinstance(new, type)):
        return False
    if old.__qualname__ != new.__qualname__ or old in _PLAIN or new in _PLAIN:
        return False
    return _fields(old) == _fields(new) != {}


def _fields(cls: type) -> dict[str, str]:
    try:
        hints = typing.get_type_hints(cls)
    except Exception:  # annotations are user code
        hints = dict(getattr(cls, "__annotations__", {}))
    return {name: _shown(hint) for name, hint in hints.items()}


def _shown(type_: Any) -> str:
    if is_untyped(type_):
        return "a plain value"
    return type_.__qualname__ if isinstance(type_, type) else str(type_)


def _named(undo: UndoWork) -> str:
    return describe(undo.handler)
