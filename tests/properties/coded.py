"""Coded: random bodies of code, as data that is awaited.

A ``Term`` is something to await: a step, a sleep, a wait, a child run, or several of them at once,
nested as deep as they come. A ``Script`` is a body: lines that await terms, catch what they raise,
draw numbers and dates, register undos, start children and await them later; at last it returns,
raises, or begins anew. What a script returns says all that it saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import attrs
from hypothesis import strategies as st

from durable_core import (
    TIMED_OUT,
    Retry,
    StepFailed,
    Undo,
    Workflow,
    WorkflowContext,
    current_step,
    workflow,
)
from durable_core.kernel import journal as j
from durable_core.kernel.failure import Failure
from durable_core.kernel.transition import Held, advance
from durable_core.testing.generated import Refused
from durable_core.workflow.steps import Step, step_of

Ctx = WorkflowContext[Any]
Flow = Workflow[Any, Any]
QUICK = Retry(max_attempts=3, initial=1.0, jitter=0.5)
SIGNALS = ("go", "stop")


# --- steps ---------------------------------------------------------------------------------------


def _undo(ctx: Any) -> None:
    repr(ctx.value)


def _undo_stubborn(ctx: Any) -> None:
    if ctx.attempt == 1:
        raise Refused("not yet")


@attrs.frozen
class Work:
    """A step: it takes ``seconds``, and raises in its first ``failing`` attempts."""

    name: str = "a"
    seconds: float = 0.0
    failing: int = 0
    undo: bool = False
    timeout: int | None = None
    stubborn: bool = False
    """It ends well though it is cancelled, and late."""

    def step(self) -> Step[Any, Any]:
        """As it is called by a body."""

        async def call(*given: Any) -> Any:
            try:
                await asyncio.sleep(self.seconds)
            except asyncio.CancelledError:
                if not self.stubborn:
                    raise
                await asyncio.sleep(1)
            if current_step().attempt <= self.failing:
                raise Refused(f"attempt {current_step().attempt}")
            return [self.name, *given]

        undo = Undo(_undo_stubborn if self.failing else _undo, retry=QUICK) if self.undo else None
        return step_of(call, name=self.name, retry=QUICK, timeout=self.timeout, compensate=undo)


def unregister(what: str) -> None:
    """What ``ctx.compensate`` registers."""


# --- terms ---------------------------------------------------------------------------------------


@attrs.frozen
class Term:
    """Something to await, by its kind: ``parts`` of a group, or what else the kind needs."""

    kind: Literal["step", "sleep", "wait", "child", "all", "settle", "first"]
    what: Any = None
    parts: tuple[Term, ...] = ()
    limit: int | None = None

    def ask(self, ctx: Ctx, given: Any) -> Any:
        """Ask for it; what comes of that is to be awaited."""
        match self.kind:
            case "step":
                return ctx.step(self.what.step(), given)
            case "sleep":
                return ctx.sleep(self.what)
            case "wait":
                signal, timeout = self.what
                return ctx.wait_for_signal(signal, timeout=timeout)
            case "child":
                return ctx.child(f"child-{self.what}", 0)
            case "first":
                return ctx.first(*(part.ask(ctx, given) for part in self.parts))
            case "all" | "settle" as kind:
                parts = [part.ask(ctx, given) for part in self.parts]
                return getattr(ctx, kind)(*parts, max_concurrency=self.limit)

    @property
    def races(self) -> bool:
        """Whether what comes first decides."""
        return self.kind == "first" or any(part.races for part in self.parts)

    @property
    def waits(self) -> bool:
        """Whether it waits for a signal: of two at once either may have it."""
        return self.kind == "wait" or any(part.waits for part in self.parts)


def seen(value: Any) -> Any:
    """What a script tells of a value."""
    match value:
        case Failure():
            return f"{value.type}: {value.message}"
        case list() | tuple():
            return [seen(one) for one in value]
        case _ if value is TIMED_OUT:
            return "timed out"
        case _:
            return value


# --- scripts -------------------------------------------------------------------------------------

Line = tuple[str, Any]
"""What a line does, and with what."""


@attrs.frozen
class Script:
    """A body. ``end``: how it ends; ``rounds``: how often it begins anew before."""

    lines: tuple[Line, ...]
    end: Literal["return", "raise"] = "return"
    rounds: int = 0

    async def run(self, ctx: Ctx, number: int) -> Any:
        """The body itself."""
        told: list[Any] = [number]
        handles: list[Any] = []
        for kind, what in self.lines:
            match kind:
                case "await":
                    told.append(seen(await what.ask(ctx, len(told))))
                case "try":
                    try:
                        told.append(seen(await what.ask(ctx, len(told))))
                    except StepFailed as error:
                        told.append(f"caught {seen(error.failure)}")
                    finally:
                        told.append("tried")
                case "draw":
                    drawn = [ctx.random(), str(ctx.uuid()), str(ctx.now()), ctx.patched("new")]
                    told.append(len(drawn))
                    await ctx.step(what.step(), *drawn)  # it must be the same when replayed
                case "compensate":
                    ctx.compensate(unregister, what)
                case "start":
                    handles.append(await ctx.start_child(f"child-{what}", 0))
                case _ if handles:
                    joined = [handle.result() for handle in handles]
                    handles.clear()
                    told.append(seen(await ctx.settle(*joined)))
                case _:
                    pass
        while handles and number < self.rounds:
            told.append(await self._joined(handles.pop()))
        if number < self.rounds:
            ctx.continue_as_new(number + 1)
        if self.end == "raise":
            raise Refused("at last")
        return told

    async def _joined(self, handle: Any) -> Any:
        try:
            return await handle
        except StepFailed:
            return "failed"

    @property
    def races(self) -> bool:
        """Whether what becomes of it depends on what comes first, by right: also whether a child
        that nobody awaits ends before it is cancelled."""
        terms = [what for kind, what in self.lines if kind in ("await", "try")]
        kinds = [kind for kind, _ in self.lines]
        left = "start" in kinds and "join" not in kinds[kinds[::-1].index("start") * -1 - 1 :]
        return left or any(term.races or (term.parts and term.waits) for term in terms)

    def workflow(self, name: str = "main") -> Flow:
        """As a workflow."""

        async def body(ctx: Ctx, number: int) -> Any:
            assert set(SIGNALS) == {"go", "stop"}  # it names what it may wait for
            return await self.run(ctx, number)

        return workflow(name=name)(body)


CHILDREN: Sequence[Flow] = (
    Script((("await", Term("step", Work("c", undo=True))),)).workflow("child-0"),
    Script((("await", Term("step", Work("c", seconds=45.0))),)).workflow("child-1"),
    Script((("await", Term("step", Work("c", failing=9))),)).workflow("child-2"),
)

works = st.builds(
    Work,
    st.sampled_from("abc"),
    seconds=st.sampled_from((0.0, 0.0, 1.0, 45.0)),
    failing=st.sampled_from((0, 0, 0, 0, 1, 9)),
    undo=st.booleans(),
    timeout=st.sampled_from((None, None, 120)),
    stubborn=st.booleans(),
)
singles = st.one_of(
    st.builds(Term, st.just("step"), works),
    st.builds(Term, st.just("step"), works),
    st.builds(Term, st.just("sleep"), st.sampled_from((0, 1, 90))),
    st.builds(
        Term,
        st.just("wait"),
        st.tuples(st.sampled_from(SIGNALS), st.sampled_from((1, 60, 86_400))),
    ),
    st.builds(Term, st.just("child"), st.integers(0, 2)),
)
terms = st.recursive(
    singles,
    lambda inner: st.builds(
        Term,
        st.sampled_from(("all", "settle", "first")),
        parts=st.lists(inner, min_size=1, max_size=3).map(tuple),
        limit=st.none() | st.integers(1, 2),
    ),
    max_leaves=5,
)
lines = st.one_of(
    st.tuples(st.just("await"), terms),
    st.tuples(st.just("try"), terms),
    st.tuples(st.just("draw"), st.just(Work("d"))),
    st.tuples(st.just("compensate"), st.sampled_from(("x", "y"))),
    st.tuples(st.just("start"), st.integers(0, 2)),
    st.tuples(st.just("join"), st.none()),
)
scripts = st.builds(
    Script,
    st.lists(lines, min_size=1, max_size=5).map(tuple),
    end=st.sampled_from(("return", "return", "raise")),
    rounds=st.sampled_from((0, 0, 0, 1, 2)),
)

_late = st.builds(
    Term,
    st.just("step"),
    st.builds(Work, st.just("late"), seconds=st.just(45.0), undo=st.booleans(),
              stubborn=st.just(True)),
)  # fmt: skip
_at_once = st.one_of(
    st.tuples(st.just("compensate"), st.just("x")),
    st.tuples(st.just("draw"), st.just(Work("d"))),
    st.tuples(st.just("start"), st.just(0)),
)
stoppable = st.builds(
    lambda before, late, after: Script(
        (("await", Term("step", Work("a"))), *before, late, *after), end="raise"
    ),
    st.lists(_at_once, max_size=1),
    st.tuples(st.sampled_from(("await", "try")), _late | st.builds(
        lambda late, other: Term("all", parts=(late, other)), _late, terms)),
    st.lists(_at_once, min_size=1, max_size=2),
)  # fmt: skip
"""Bodies that are told of something late, and would then record something at once."""


# --- warm and cold -------------------------------------------------------------------------------


@contextmanager
def cold_beside_warm(monkeypatch: Any) -> Iterator[list[int]]:
    """Every transition of a warm cursor, with no attempt out, is compared with that of a cold one
    over the same journal. Gives a list that counts them."""
    counted = [0]
    warm_advance = Held.advance

    def beside(self: Held, events: Any, now_ms: int) -> Any:
        if self._in_flight or self._frontier is None or self.run.deaths:
            return warm_advance(self, events, now_ms)
        journal, program = self.journal, self._program
        lying = [one for queue in self._signals.values() for one in queue]
        lying.sort(key=lambda message: message.seq)
        warm = warm_advance(self, events, now_ms)
        with monkeypatch.context() as plain:
            plain.setattr(Held, "advance", warm_advance)
            cold = advance(self.run, program, journal, [*lying, *events], now_ms)
        counted[0] += 1
        assert told(cold) == told(warm), (told(cold), told(warm))
        return warm

    with monkeypatch.context() as patched:
        patched.setattr(Held, "advance", beside)
        yield counted


def told(transition: Any) -> Any:
    """What two transitions have to have in common."""
    keys = [(one.key, one.number, one.value, one.data) for one in transition.attempts]
    plain = attrs.evolve(transition, attempts=())
    return [plain, sorted(map(repr, keys))]


BEGINS = (j.TimerStarted, j.SignalAwaited, j.ChildStarted, j.ValueRecorded, j.UndoRegistered)
STOPS = (j.CancelRequested, j.DeadlinePassed, j.RollbackStarted)


def begun_after_the_stop(entries: Sequence[j.Entry]) -> list[j.Entry]:
    """What a body asked for though it was stopped."""
    stopped = False
    found: list[j.Entry] = []
    for entry in entries:
        if isinstance(entry, j.RunRetried | j.RunContinued):
            stopped = False
        stopped = stopped or isinstance(entry, STOPS)
        if stopped and isinstance(entry, BEGINS):
            found.append(entry)
    return found
