"""Decisions: what the functions that shape a run come to, ready to be recorded.

``select``, ``items``, ``until`` and their kin are the user's code, run at most once a run. Each
function here calls one of them and gives what is recorded of it; whatever goes wrong, in the
user's code or in encoding what it gave, comes back as a ``Failure``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import islice
from typing import Any

from ..codec.types import ANY
from ..errors import EncodingError, LimitExceededError
from ..kernel.failure import Failure
from ..kernel.policy import Duration, duration_ms
from ..kernel.step import ChildSpec
from ..kernel.value import NULL, Payload
from .callables import Function, call_pure
from .context import StepContext
from .loose import codec_of
from .names import signal_name_problem
from .nodes import RUN_INPUT, ChildNode, LoopNode, MapNode, RouteNode, SignalNode, SleepNode
from .registry import Definition, input_digest
from .scope import Place, RunScope

STOP = Payload(b"[]")
"""A loop's verdict: it is over. Otherwise a list with the next value alone in it, or ``SAME``."""
SAME = NULL
"""A loop's verdict: go on with the same value."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def result_of(place: Place, returns: Function, type_: Any) -> Payload | Failure:
    """The run's result, by the function given to ``returns``."""

    def result() -> Payload:
        return _encoded(place, _call(place, returns), type_, "the run's result (from returns)")

    return place.run.attempt(result)


def items_of(place: Place, node: MapNode, list_type: Any) -> Payload | Failure:
    """The list a map fans out over."""

    def items() -> Payload:
        found = _call(place, node.items)
        if isinstance(found, str | bytes | bytearray | Mapping) or not hasattr(found, "__iter__"):
            raise TypeError(
                f"the items of step {node.name!r} must be a list, not {type(found).__name__}"
            )
        fan_out = place.run.run.limits.fan_out
        listed = list(islice(iter(found), fan_out + 1))
        if len(listed) > fan_out:
            raise LimitExceededError(
                f"step {node.name!r} fans out over more than {fan_out} items (Limits.fan_out); "
                f"map over batches of them"
            )
        try:
            return _encoded(place, listed, list_type, f"the list of items of step {node.name!r}")
        except EncodingError as error:
            if list_type is not ANY:
                raise
            raise EncodingError(
                f"{error}. To say what an item is, annotate what items= gives (-> list[Item]) or "
                f"the handler's second parameter (item: Item)"
            ) from None

    return place.run.attempt(items)


def key_of(place: Place, node: RouteNode) -> Payload | Failure:
    """The key a route chose; it has a branch, or is to be skipped."""

    def decision() -> Payload:
        key = _call(place, node.select)
        if isinstance(key, Enum):
            key = key.value
        if not isinstance(key, str):
            raise TypeError(
                f"select of step {node.name!r} must give a route key (a string), "
                f"not {key!r:.200} ({type(key).__name__})"
            )
        if node.branch(key) is None:
            known = ", ".join(repr(name) for name, _ in node.branches)
            raise LookupError(
                f"step {node.name!r} has no branch for the key {key!r:.200}; it has {known}. "
                f"Add one, or say otherwise=handler or otherwise=SKIP"
            )
        return _encoded(place, str(key), str, f"the route key of step {node.name!r}")

    return place.run.attempt(decision)


def first_value_of(place: Place, node: LoopNode) -> Payload | Failure:
    """The value a loop begins with."""

    def value() -> Payload:
        given = _call(place, node.initial) if callable(node.initial) else node.initial
        return _encoded(place, given, node.initial_type, f"the first value of step {node.name!r}")

    return place.run.attempt(value)


def verdict_of(
    scope: RunScope, node: LoopNode, n: int, next_type: Any, payload: Payload
) -> Payload | Failure:
    """Whether a loop is over after its ``n``-th iteration (from 1), or what comes next."""

    def verdict() -> Payload | Failure:
        result = scope.codec.decode(payload, node.work.result_type)
        if node.until is not None:
            told = (result, n)[: node.until_takes]
            if call_pure(node.until, *told):
                return STOP
        if n >= node.max_iterations:
            return STOP if node.on_exhausted == "return" else _exhausted(node)
        if node.feedback is None:
            return SAME
        return scope.codec.encode(
            [call_pure(node.feedback, result)],
            next_type,
            limit=scope.run.limits.result,
            what=f"the next value of step {node.name!r} (from feedback)",
        )

    return scope.attempt(verdict)


def due_ms_of(place: Place, node: SleepNode, now_ms: int) -> int | Failure:
    """When a sleep that begins now is over."""

    def due_ms() -> int:
        wanted: int | Duration | datetime
        if isinstance(node.duration, int):
            return now_ms + node.duration
        wanted = _call(place, node.duration) if callable(node.duration) else node.duration
        return moment_ms(wanted, now_ms, step=node.name)

    return place.run.attempt(due_ms)


def moment_ms(wanted: Duration | datetime, now_ms: int, *, step: str) -> int:
    """A duration from now, or an aware moment, in ms since 1970."""
    if not isinstance(wanted, datetime):
        return now_ms + duration_ms(wanted, what=f"the duration of step {step!r}")
    if wanted.utcoffset() is None:
        raise ValueError(
            f"step {step!r} was given a naive datetime, {wanted}; "
            f"give it a timezone, e.g. tzinfo=UTC"
        )
    return -((EPOCH - wanted) // MILLISECOND)


def signal_of(place: Place, node: SignalNode) -> str | Failure:
    """The name of the signal to wait for."""

    def signal() -> str:
        name = _call(place, node.signal) if callable(node.signal) else node.signal
        problem = signal_name_problem(name, place.run.run.limits.name)
        if problem is not None:
            raise ValueError(f"the name of the signal of step {node.name!r} {problem}")
        return str(name)

    return place.run.attempt(signal)


def refusal_of(scope: RunScope, node: SignalNode, payload: Payload) -> Failure | None:
    """Why this payload is none that the step waits for."""
    end = scope.attempt(lambda: scope.codec.decode(payload, node.type))
    return end if isinstance(end, Failure) else None


def child_of(place: Place, node: ChildNode, child: Definition) -> ChildSpec | Failure:
    """What a child run is started with."""
    scope = place.run

    def spec() -> ChildSpec:
        if node.input is RUN_INPUT:
            given = scope.read_input()
        else:
            given = _call(place, node.input) if callable(node.input) else node.input
        return spec_of(scope, child, given, step=node.name)

    return scope.attempt(spec)


def spec_of(scope: RunScope, child: Definition, given: object, *, step: str) -> ChildSpec:
    """A run of ``child`` with this input. Raises ``EncodingError``, ``LimitExceededError``."""
    payload = codec_of(child, scope.codec).encode(
        given,
        child.input_type,
        limit=scope.run.limits.input,
        what=f"the input of child workflow {child.name!r} (step {step!r})",
    )
    return ChildSpec(
        workflow=child.name,
        version=child.version,
        fingerprint=child.fingerprint,
        input=payload,
        digest=input_digest(scope.codec, child.name, payload),
    )


def _call(place: Place, function: Function) -> Any:
    return call_pure(function, StepContext(place))


def _encoded(place: Place, value: object, type_: Any, what: str) -> Payload:
    scope = place.run
    return scope.codec.encode(value, type_, limit=scope.run.limits.result, what=what)


def _exhausted(node: LoopNode) -> Failure:
    return Failure(
        type="LoopExhausted",
        message=f"step {node.name!r} was not done after {node.max_iterations} iterations "
        f"(max_iterations)",
    )
