"""Generated workflows: the handlers that drawn workflows are made of, and their text.

A handler here is plain data that can be called: it is deterministic, asks nothing of the world
but ``asyncio.sleep``, and its ``repr`` is Python that makes it again. ``Generated`` is a workflow
whose ``repr`` is the calls that build it, so that a counterexample can be read and pasted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import attrs

from ..kernel.failure import Failure
from ..kernel.policy import DEFAULT_RETRY, DEFAULT_UNDO_RETRY, Retry
from ..workflow.definition import Workflow
from ..workflow.nodes import (
    RUN_INPUT,
    SKIP,
    Branch,
    ChildNode,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    SignalNode,
    SleepNode,
    StepNode,
    Undo,
    UndoWork,
    Work,
)
from ..workflow.suspend import Suspend
from .plan import said


class Refused(Exception):
    """What generated handlers raise."""


class Printed:
    """Prints as the Python that makes it."""

    def __repr__(self) -> str:
        return said(self)


# --- handlers ------------------------------------------------------------------------------------


@attrs.frozen(repr=False)
class Gives(Printed):
    """A plain handler. It raises in its first ``failing`` attempts, suspends once if it
    ``suspends``, and then gives ``value`` with what it read."""

    value: Any = None
    failing: int = attrs.field(default=0, kw_only=True)
    suspends: bool = attrs.field(default=False, kw_only=True)

    def __call__(self, ctx: Any) -> Any:
        return _given(self, ctx)


@attrs.frozen(repr=False)
class Awaits(Printed):
    """The same as an async handler, which takes ``seconds``."""

    value: Any = None
    seconds: float = attrs.field(default=0.0, kw_only=True)
    failing: int = attrs.field(default=0, kw_only=True)
    suspends: bool = attrs.field(default=False, kw_only=True)

    async def __call__(self, ctx: Any) -> Any:
        await asyncio.sleep(self.seconds)
        return _given(self, ctx)


def _given(handler: Gives | Awaits, ctx: Any) -> Any:
    if ctx.attempt <= handler.failing:
        raise Refused(f"attempt {ctx.attempt} of {ctx.unit}")
    if handler.suspends and ctx.resumption is None:
        return Suspend({"unit": ctx.unit, "value": handler.value})
    return {
        "unit": ctx.unit,
        "value": handler.value,
        "read": {name: _brief(value) for name, value in ctx.results.items()},
    }


def _brief(value: Any) -> Any:
    """Enough of an earlier result to notice that it changed, and nothing of what it read."""
    match value:
        case {"unit": unit, "value": given}:
            return [unit, given]
        case dict():
            return {name: _brief(part) for name, part in value.items()}
        case list():
            return [_brief(part) for part in value]
        case Failure():
            return f"{value.type}: {value.message}"
        case _:
            return value


@attrs.frozen(repr=False)
class Undoes(Printed):
    """A compensator. It looks at what it undoes, raises in its first ``failing`` attempts, and
    suspends once if it ``suspends``."""

    failing: int = 0
    suspends: bool = False

    def __call__(self, ctx: Any) -> Any:
        repr(ctx.value)
        if ctx.attempt <= self.failing:
            raise Refused(f"attempt {ctx.attempt} to undo {ctx.unit}")
        if self.suspends and ctx.resumption is None:
            return Suspend(ctx.unit)
        return None


# --- functions that shape a run ------------------------------------------------------------------


@attrs.frozen(repr=False)
class Items(Printed):
    """The items of a map: ``count`` numbers."""

    count: int

    def __call__(self, ctx: Any) -> list[int]:
        return list(range(self.count))


@attrs.frozen(repr=False)
class Picks(Printed):
    """The key of a route: one of ``keys``, by how much is known already."""

    keys: tuple[str, ...]

    def __call__(self, ctx: Any) -> str:
        return self.keys[len(ctx.results) % len(self.keys)]


@attrs.frozen(repr=False)
class After(Printed):
    """The end of a loop: after ``count`` iterations."""

    count: int

    def __call__(self, result: Any, n: int) -> bool:
        return n >= self.count


@attrs.frozen(repr=False)
class Unit(Printed):
    """The next value of a loop: the unit that was done last."""

    def __call__(self, result: Any) -> Any:
        return result["unit"]


@attrs.frozen(repr=False)
class Seconds(Printed):
    """How long to sleep: ``each`` for every result there is, and once more."""

    each: float

    def __call__(self, ctx: Any) -> float:
        return self.each * (len(ctx.results) + 1)


@attrs.frozen(repr=False)
class Sums(Printed):
    """The result of a run: what it read, by name, and its input."""

    def __call__(self, ctx: Any) -> Any:
        return {"input": ctx.input, "results": _brief(dict(ctx.results))}


# --- workflows -----------------------------------------------------------------------------------


class Generated(Workflow[Any, Any]):
    """A workflow that prints as the Python that builds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return as_python(self)

    def returns(self, fn: Callable[[Any], Any]) -> Generated:
        """As ever, and what comes of it prints so too."""
        plain = super().returns(fn)
        again = Generated.__new__(Generated)
        plain._fill(again, plain.nodes, plain.returned)
        return again


def as_python(workflow: Workflow[Any, Any]) -> str:
    """The calls that build this workflow; its functions by their own ``repr``."""
    version = "" if workflow.version == "1" else f", version={workflow.version!r}"
    parts = [f"Workflow({workflow.name!r}{version})", *map(_call, workflow.nodes)]
    if workflow.returned is not None:
        parts.append(f".returns({workflow.returned!r})")
    return "".join(parts)


def _call(node: Node) -> str:
    method = "wait_for_signal" if isinstance(node, SignalNode) else node.kind
    return f".{method}({', '.join([repr(node.name), *_arguments(node)])})"


def _arguments(node: Node) -> Iterator[str]:
    match node:
        case StepNode():
            yield from _work(node.work)
            yield from _named(transactional=(node.transactional, False))
        case ParallelNode():
            yield _branches(node.entries)
            yield from _named(max_concurrency=(node.max_concurrency, None))
        case MapNode():
            yield repr(node.items)
            yield from _work(node.work)
            yield from _named(
                max_concurrency=(node.max_concurrency, None), min_success=(node.min_success, None)
            )
        case RouteNode():
            yield repr(node.select)
            yield _branches(node.branches)
            if node.otherwise is SKIP:
                yield "otherwise=SKIP"
            elif isinstance(node.otherwise, Work):
                yield f"otherwise={_branch(node.otherwise)}"
        case LoopNode():
            yield from _loop(node)
        case SleepNode():
            yield repr(node.duration / 1000 if isinstance(node.duration, int) else node.duration)
        case SignalNode():
            yield repr(node.signal)
            yield from _named(timeout=(_seconds(node.timeout_ms), None))
            if node.may_time_out:
                yield "on_timeout='continue'"
        case ChildNode():
            yield repr(node.workflow)
            yield from _named(input=(node.input, RUN_INPUT))
            yield from _undo(node.undo)


def _loop(node: LoopNode) -> Iterator[str]:
    yield from _work(node.work)
    yield from _named(
        initial=(node.initial, RUN_INPUT),
        until=(node.until, None),
        feedback=(node.feedback, None),
        max_iterations=(node.max_iterations, 1000),
        collect=(node.collect, False),
        on_exhausted=(node.on_exhausted, "return"),
    )


def _work(work: Work) -> Iterator[str]:
    yield repr(work.handler)
    yield from _undo(work.undo)
    yield from _policies(work.retry, DEFAULT_RETRY, work.timeout_ms)


def _undo(undo: UndoWork | None) -> Iterator[str]:
    if undo is not None:
        policies = _policies(undo.retry, DEFAULT_UNDO_RETRY, undo.timeout_ms)
        parts = [repr(undo.handler), *policies]
        yield f"compensate=Undo({', '.join(parts)})" if len(parts) > 1 else f"compensate={parts[0]}"


def _policies(retry: Retry, default: Retry, timeout_ms: int | None) -> Iterator[str]:
    if retry != default:
        yield f"retry={_retry(retry)}"
    yield from _named(timeout=(_seconds(timeout_ms), None))


def _retry(retry: Retry) -> str:
    parts = []
    for field in attrs.fields(Retry):
        value = getattr(retry, field.name)
        if value != getattr(DEFAULT_RETRY, field.name):
            shown = value.total_seconds() if isinstance(value, timedelta) else value
            parts.append(f"{field.name}={shown!r}")
    return f"Retry({', '.join(parts)})"


def _branches(entries: tuple[tuple[str, Work], ...]) -> str:
    return f"{{{', '.join(f'{name!r}: {_branch(work)}' for name, work in entries)}}}"


def _branch(work: Work) -> str:
    parts = list(_work(work))
    return f"Branch({', '.join(parts)})" if len(parts) > 1 else parts[0]


def _named(**arguments: tuple[Any, Any]) -> Iterator[str]:
    for name, (value, default) in arguments.items():
        if value is not default and value != default:
            yield f"{name}={value!r}"


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


__all__ = [
    "SKIP",
    "After",
    "Awaits",
    "Branch",
    "Generated",
    "Gives",
    "Items",
    "Picks",
    "Refused",
    "Retry",
    "Seconds",
    "Sums",
    "Undo",
    "Undoes",
    "Unit",
    "Workflow",
    "as_python",
]
