"""Conduct: what handlers do that works while nothing goes wrong, and at no other time.

Stands around each call of a handler. A handler that changes the values it was handed, gives a
value that is another one when it is read again, or leaves a task behind, has broken a rule of
``semantics.md``; that is written down, and the simulation goes on. ``quiet_trouble`` looks at
what went wrong by itself in a simulation where nothing was made to.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import attrs

from ..codec.types import ANY
from ..errors import DurableError, EncodingError, LimitExceededError
from ..kernel.journal import RunFailed, UnitFailed
from ..workflow.invocation import Invocation
from ..workflow.loose import LooseCodec
from ..workflow.registry import Definition
from ..workflow.results import read
from ..workflow.suspend import Suspend
from .alike import alike, fields_of, holds, shown
from .findings import findings
from .given import NOTHING, Given, arguments, copied
from .processes import BEGUN, current_process
from .references import BODY
from .replaying import replayed_otherwise
from .surroundings import draw_anew, unheard
from .witness import WORKFLOW, Violation

_LOOP_OF_ITS_OWN = re.compile(
    r"cannot be called from a running event loop|event loop is already running|"
    r"[Cc]annot run the event loop while another loop is running"
)


class OwnLoopError(DurableError):
    """A handler wants to run an event loop, and is called on one."""


@attrs.define
class Conduct:
    """``write_down`` keeps what was found; ``seed`` is the plan's."""

    seed: int
    write_down: Callable[[Violation], None]
    keeps: bool = attrs.field(default=False, kw_only=True)
    bodies: dict[Any, None] = attrs.field(factory=dict)
    buried: bool = False
    driven: int = 0
    """How often a body went on."""
    asked: dict[str, Any] = attrs.field(factory=dict)
    """By idempotency key what bodies gave their steps, if it ``keeps`` that."""

    async def watch(
        self, label: str, nth: int, process: str, call: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Make the call, and look at what it has done."""
        (invocation,) = call.args  # type: ignore[attr-defined]  # the engine's own partial
        draw_anew(self.seed, process, label, nth)
        given = Given.to(invocation)
        if self.keeps and given is not None:
            self.asked.setdefault(invocation.context.idempotency_key, arguments(invocation))
        begun: list[Any] = []
        token = BEGUN.set(begun)
        try:
            value = await call()
        except RuntimeError as error:
            if _LOOP_OF_ITS_OWN.search(str(error)):
                _close_coroutines(error)
                raise OwnLoopError(
                    f"the handler of {label} runs an event loop of its own ({error}); a "
                    "simulation calls every handler on its own loop: make it an async def, and "
                    "await what it runs"
                ) from None
            raise
        finally:
            BEGUN.reset(token)
        left = [task for task in begun if not task.done()]
        if left:
            name = getattr(left[0].get_coro(), "__qualname__", "a coroutine")
            self._say(
                label,
                f"its handler has ended, and a task it began ({name}) goes on: nobody waits for "
                "it, and a crash loses it; await it, or make it a step",
            )
        changed = _changed(invocation, value) if given is None else given.changed(value)
        for sentence in (*changed, *_not_the_same(invocation, value)):
            self._say(label, sentence)
        return value

    def drive(self, body: Any, deps: Any, call: Callable[[], Any]) -> Any:
        """Let a body go on to its next await, and look at what it has done to ``deps``."""
        if self.buried:
            return call()
        self.bodies[body] = None
        self.driven += 1
        draw_anew(self.seed, current_process().name, BODY, self.driven)
        before = _content(deps)
        kept = NOTHING if before is NOTHING else copied(before)
        try:
            return call()
        finally:
            if kept is not NOTHING and not alike(kept, _content(deps)):
                self._say(
                    "",
                    f"its body changes ctx.deps (from {shown(kept)} to {shown(_content(deps))}), "
                    "outside of any step: nothing records that, and it is done again each time "
                    "the body is replayed, and when it is dropped; do it in a step",
                )

    def bury(self) -> None:
        """Let the bodies of dead processes end, so that nobody hears of them again."""
        self.buried = True
        bodies, self.bodies = self.bodies, {}
        with unheard():
            for body in bodies:
                body.close()

    def _say(self, label: str, sentence: str) -> None:
        self.write_down(Violation(WORKFLOW, sentence, label))


def _changed(invocation: Invocation, value: Any) -> Iterator[str]:
    """Values it was handed that are not as they were, and that it does not give back."""
    context: Any = invocation.context
    place = context._place
    handed: list[tuple[str, Any, Callable[[], Any]]] = []
    if _changeable(context._input):
        handed.append(("ctx.input", context._input, place.run.read_input))
    results = context._results
    for name, result in () if results is None else results._read.items():
        reference = results.reference(name)
        if reference is not None and _changeable(result):
            handed.append((f"ctx.results[{name!r}]", result, _reader(reference, place.run.codec)))
    for second in invocation.more:
        if _changeable(second):
            handed.append(("the value it was called with", second, _second(place, context)))
    for what, seen, fresh in handed:
        before = fresh()
        if not alike(seen, before) and not holds(value, seen):
            yield (
                f"its handler changed {what} (from {shown(before)} to {shown(seen)}): that is "
                "its own copy, and the change is lost; return what the next step needs"
            )


def _content(deps: Any) -> Any:
    """What can be changed in the world outside."""
    return deps if _changeable(deps) else getattr(deps, "__dict__", NOTHING)


def _reader(reference: Any, codec: Any) -> Callable[[], Any]:
    return lambda: read(reference, codec)


def _second(place: Any, context: Any) -> Callable[[], Any]:
    return lambda: place._second(context)


def _changeable(value: Any) -> bool:
    return isinstance(value, list | dict | set | bytearray) or fields_of(value) is not None


def _not_the_same(invocation: Invocation, value: Any) -> Iterator[str]:
    """A result that cannot be stored, or that is another one when it is read again."""
    if not invocation.keeps_result or isinstance(value, Suspend | str | int | type(None)):
        return
    place: Any = invocation.context._place
    codec, type_ = place.run.codec, invocation.result_type
    try:
        payload = codec.encode(value, type_, what=f"the result of {invocation.context.unit}")
        again = codec.decode(payload, type_)
    except (EncodingError, LimitExceededError) as error:
        yield f"its handler gives what cannot be stored: {error}"
        return
    labelled = type_ is ANY and isinstance(codec, LooseCodec) and not place.work.says_all
    if not labelled and not alike(value, again):
        yield (
            f"its handler gives {shown(value)}, which comes back as {shown(again)} when it is "
            "read from the store; annotate what it returns, or return plain values"
        )


def _close_coroutines(error: BaseException) -> None:
    """What the handler wanted to run never will: that needs no warning of its own."""
    trace = error.__traceback__
    while trace is not None:
        for value in list(trace.tb_frame.f_locals.values()):
            if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == "CORO_CREATED":
                value.close()
        trace = trace.tb_next


# --- what goes wrong by itself --------------------------------------------------------------------


def quiet_trouble(workflow: Definition, sim: Any) -> Iterator[Violation]:
    """Mistakes that are plain to see in the definition, steps that never have time enough, and
    bodies that are not the same when they are replayed."""
    yield from replayed_otherwise(sim)
    yield from _refused(sim)
    for finding in findings(workflow):
        if finding.severity == "error":
            yield Violation(WORKFLOW, f"{finding.what}; {finding.mend}", finding.step)
    for run_id in sim.runs:
        for entry in sim.entries(run_id):
            if isinstance(entry, UnitFailed) and entry.attempt and _timed_out(entry):
                yield Violation(
                    WORKFLOW,
                    f"its timeout is shorter than its handler takes, also when nothing goes "
                    f"wrong ({entry.failure.message}); give it more time",
                    str(entry.unit),
                )


def _refused(sim: Any) -> Iterator[Violation]:
    """Bodies that do what no body may."""
    for run_id in sim.runs:
        for entry in sim.entries(run_id):
            if isinstance(entry, RunFailed) and entry.failure.type == "NondeterminismError":
                yield Violation(WORKFLOW, f"its run fails by itself: {entry.failure.message}")


def outside_differs(sim: Any, base: Any, snapshot: Callable[[Any], Any]) -> Iterator[Violation]:
    """The world outside is as the quiet simulation left it: what was done twice shows."""
    expected, found = snapshot(base.deps), snapshot(sim.deps)
    if not alike(expected, found):
        units = [unit for fault in sim.plan.faults if (unit := getattr(fault, "unit", None))]
        yield Violation(
            WORKFLOW,
            "the world outside (deps) is left in another state than without the mishap: is an "
            "effect done twice, or without ctx.idempotency_key?",
            units[-1] if units else "",
            expected=shown(expected),
            found=shown(found),
        )


def _timed_out(entry: UnitFailed) -> bool:
    return entry.failure.type == "TimeoutError" and "took longer than" in entry.failure.message
