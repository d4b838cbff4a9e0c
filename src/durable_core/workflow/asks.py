"""Asks: what a body wants, as steps for the kernel; one function a kind.

Each claims the unit, makes the ask and says how its outcome is read. What is wrong with an
argument that only this unit needs is a failure of the unit, at its await.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from ..codec.types import ANY
from ..errors import LimitExceededError, NondeterminismError
from ..kernel.failure import Failure
from ..kernel.ids import UnitKey, derived_id
from ..kernel.policy import DEFAULT_UNDO_RETRY, Duration, duration_ms
from ..kernel.step import Ask, Call, Child, ChildSpec, Timer, Undo, Wait
from ..kernel.value import Payload
from .checks import Spot
from .coroutine import Body
from .decisions import moment_ms, spec_of
from .names import check_name, signal_name_problem
from .nodes import UndoWork
from .pending import Pending, Read, read_by, read_nothing, read_signal_by
from .registry import is_definition
from .step_scope import StepScope
from .steps import Compensate, Step, step_of

Args = tuple[Any, ...]


def pending(body: Body, unit: UnitKey, ask: Ask, read: Read) -> Pending[Any]:
    """It is asked for, and is to be awaited."""
    return body.add(Pending(body, str(unit), ask, read))


def reading(body: Body, unit: UnitKey, type_: Any) -> Read:
    """The result of a unit, read as this type."""
    codec = body.plan.codec
    return read_by(partial(codec.decode, type_=type_, what=f"the result of {str(unit)!r}"))


def call(
    body: Body, function: Any, args: Args, kwargs: Mapping[str, Any], *, transactional: bool = False
) -> Pending[Any]:
    """A function called as a unit; a transactional one gets the store's connection first."""
    step = step_of(function)
    work, key = step.work, step.key or step.name
    unit = body.claim(key)
    scope = StepScope(body.scope, str(unit), unit, work, args, kwargs, with_conn=transactional)
    ask = Call(
        unit=unit,
        handler=work.handler,
        scope=scope,
        retry=work.retry,
        timeout_ms=work.timeout_ms,
        undo=None if work.undo is None else _undo(work.undo, scope),
        transactional=transactional,
        name=step.name if key != step.name else None,
    )
    return pending(body, unit, ask, reading(body, unit, work.result_type))


def register_undo(body: Body, function: Any, args: Args, kwargs: Mapping[str, Any]) -> None:
    """A function that a rollback calls with these arguments."""
    step = step_of(function)
    unit = body.claim(step.key or step.name)
    retry = step.work.retry if isinstance(function, Step) else DEFAULT_UNDO_RETRY
    work = UndoWork(handler=step.work.handler, retry=retry, timeout_ms=step.work.timeout_ms)
    scope = StepScope(
        body.scope, str(unit), unit, None, args, kwargs, undo=work, undo_takes_args=True
    )
    body.recording(lambda: body.recorder.undo(unit, _undo(work, scope)))


def timer(body: Body, wanted: Duration | datetime, key: str) -> Pending[None]:
    """A sleep of this length, or until this moment."""
    unit = body.claim(_key(body, key))

    def due(now_ms: int) -> int | Failure:
        return body.scope.attempt(lambda: moment_ms(wanted, now_ms, step=str(unit)))

    return pending(body, unit, Timer(unit=unit, due=due), read_nothing)


def wait(
    body: Body, name: str, type_: Any, timeout: Duration | None, key: str | None
) -> Pending[Any]:
    """A signal of this name."""
    scope = body.scope
    unit = body.claim(_key(body, key or _key_of_signal(name)))

    def signal() -> str:
        problem = signal_name_problem(name, scope.run.limits.name)
        if problem is not None:
            raise ValueError(f"the name of the signal of {str(unit)!r} {problem}")
        duration_ms(0 if timeout is None else timeout, what=f"the timeout of {str(unit)!r}")
        return name

    def refusal(payload: Payload) -> Failure | None:
        end = scope.attempt(lambda: scope.codec.decode(payload, type_))
        return end if isinstance(end, Failure) else None

    limit = scope.attempt(lambda: None if timeout is None else duration_ms(timeout, what="timeout"))
    ask = Wait(
        unit=unit,
        signal=lambda: scope.attempt(signal),
        timeout_ms=None if isinstance(limit, Failure) else limit,
        may_time_out=True,
        accept=None if type_ is ANY else refusal,
        name=name if isinstance(name, str) else None,
    )
    decode = partial(scope.codec.decode, type_=type_, what=f"the signal of {str(unit)!r}")
    return pending(body, unit, ask, read_signal_by(decode))


def child(
    body: Body,
    what: str,
    workflow: Any,
    given: object,
    key: str | None,
    compensate: Compensate,
    *,
    detached: bool,
) -> tuple[Child, Read]:
    """A child run, and how its result is read."""
    if not isinstance(workflow, str) and not is_definition(workflow):
        raise TypeError(
            f"ctx.{what} takes a workflow or the name of one, not {type(workflow).__name__}"
        )
    name = workflow if isinstance(workflow, str) else workflow.name
    unit = body.claim(_key(body, key or name))
    registry, scope = body.plan.services.registry, body.scope
    found = scope.attempt(
        lambda: (
            registry.latest(name)
            if isinstance(workflow, str)
            else registry.get(name, workflow.version)
        )
    )
    result_type: Any = ANY if isinstance(found, Failure) else found.result_type

    def begin() -> ChildSpec | Failure:
        if isinstance(found, Failure):
            return found
        return scope.attempt(lambda: spec_of(scope, found, given, step=str(unit)))

    undo = None
    work = Spot(f"child {str(unit)!r}").undo(compensate)
    if work is not None:
        own = StepScope(scope, str(unit), unit, None, undo=work, result_type=result_type)
        undo = _undo(work, own)
    elif not isinstance(found, Failure) and registry.compensable(found):
        undo = Undo(child=True)
    ask = Child(unit=unit, begin=begin, undo=undo, detached=detached, name=name)
    return ask, reading(body, unit, result_type)


def check_parts(body: Body, what: str, parts: Sequence[Any]) -> None:
    """What a combinator may be given: pendings of this body, each once, not awaited yet."""
    run = body.run
    if len(parts) > run.limits.fan_out:
        raise LimitExceededError(
            f"ctx.{what} was given {len(parts)} things to wait for, more than Limits.fan_out "
            f"({run.limits.fan_out}); take them in batches"
        )
    seen: set[int] = set()
    for one in parts:
        if not isinstance(one, Pending):
            close = getattr(one, "close", None)
            if close is not None:
                close()
            raise NondeterminismError(
                f"ctx.{what} takes what ctx.step(...), ctx.sleep(...) and the like give, not "
                f"{type(one).__name__}; for a function write ctx.{what}(ctx.step(function, ...), "
                f"...), and of a list ctx.{what}(*them)",
                run_id=run.run_id,
            )
        is_spent = one.asked or one.outcome is not None
        if one.owner is not body or id(one) in seen or is_spent:
            raise NondeterminismError(
                f"ctx.{what} was given {one!r}, which is of another run, stands there twice, or "
                "was awaited or handed on before; ask for it anew",
                run_id=run.run_id,
            )
        seen.add(id(one))


class Draws:
    """Random values derived of a seed, which is recorded when it is first needed: so a fork, which
    has another id, draws what its original drew."""

    __slots__ = ("_body", "_count", "_seed")

    def __init__(self, body: Body) -> None:
        self._body = body
        self._count = 0
        self._seed: str | None = None

    def next(self) -> bytes:
        """16 bytes."""
        body = self._body
        if body.dropped:
            return bytes(16)
        if self._seed is None:
            run, recorder, codec = body.run, body.recorder, body.plan.codec
            seed = derived_id("seed", run.run_id, run.created_at_ms, recorder.generation)
            recorded = body.recording(
                lambda: recorder.value(UnitKey(("$seed",)), lambda now_ms: codec.encode(seed, str))
            )
            self._seed = str(codec.decode(recorded, str))
        self._count += 1
        text = f"{self._seed}:{self._count}"
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _key(body: Body, key: str) -> str:
    return check_name(key, what="key", where=f"workflow {body.run.workflow!r}")


def _key_of_signal(name: object) -> str:
    key = str(name).replace("/", ".").replace("#", ".").lstrip("$")
    return key if key.strip() and not key.startswith("__") else "signal"


def _undo(work: UndoWork, scope: StepScope) -> Undo:
    return Undo(handler=work.handler, scope=scope, retry=work.retry, timeout_ms=work.timeout_ms)
