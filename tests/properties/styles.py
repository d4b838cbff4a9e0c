"""Styles: one random plan of work, written as a declared workflow and as a body of code.

A ``Piece`` is one step of a plan in both styles. The units of a body have keys where those of a
declared workflow have paths: ``key_of`` gives the one for the other. Backoffs have no jitter: that
is derived from the unit's name, and would differ by right.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import attrs
from hypothesis import strategies as st

from durable_core import (
    TIMED_OUT,
    Retry,
    StepContext,
    Undo,
    Workflow,
    WorkflowContext,
    current_step,
    workflow,
)
from durable_core.kernel.failure import Failure
from durable_core.testing import Faults, Simulation, faults, simulate
from durable_core.testing.generated import Refused
from durable_core.testing.names import UnknownUnitError
from durable_core.workflow.nodes import Branch
from durable_core.workflow.steps import Step, step_of

Results = dict[str, Any]
SIGNALS = ("go", "stop")
RECORDED = frozenset({"route_decided", "items_recorded", "value_recorded"})
"""What a declared workflow records of its decisions; a body decides by itself."""


class World:
    """The world outside: how often each unit's work was done."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()


def key_of(path: str) -> str:
    """The key in a body of the unit with this path: ``s1.left`` for ``s1/left``, and ``s2-0`` for
    the entry ``s2/s2-0``."""
    undo = "undo " if path.startswith("undo ") else ""
    step, _, rest = path.removeprefix("undo ").partition("/")
    return undo + (rest if rest.startswith(f"{step}-") else f"{step}.{rest}" if rest else step)


# --- the work ------------------------------------------------------------------------------------


@attrs.frozen
class Job:
    """What the handlers of one step do: they take ``seconds``, raise in their first ``failing``
    attempts, and are called with policies. ``undo``: None, or how often that raises."""

    value: int = 0
    seconds: float = 0.0
    failing: int = 0
    plain: bool = False
    undo: int | None = None
    attempts: int = 3
    timeout: int | None = None

    @property
    def policies(self) -> dict[str, Any]:
        """For a declared step and for one of a body."""
        retry = Retry(max_attempts=self.attempts, initial=timedelta(milliseconds=700), jitter=0.0)
        undo = None
        if self.undo is not None:
            undo = Undo(self._undone, retry=Retry(max_attempts=2, initial=1.0, jitter=0.0))
        return {"retry": retry, "timeout": self.timeout, "compensate": undo}

    def declared(self) -> Callable[..., Any]:
        """A handler of a declared workflow."""

        async def call(ctx: StepContext[World, Any]) -> Any:
            await asyncio.sleep(self.seconds)
            return self._give(ctx)

        def call_plainly(ctx: StepContext[World, Any]) -> Any:
            return self._give(ctx)

        return call_plainly if self.plain else call

    def declared_with(self) -> Callable[..., Any]:
        """One of a map or a loop, which takes a value too."""

        async def call(ctx: StepContext[World, Any], value: Any) -> Any:
            await asyncio.sleep(self.seconds)
            return self._give(ctx, value)

        def call_plainly(ctx: StepContext[World, Any], value: Any) -> Any:
            return self._give(ctx, value)

        return call_plainly if self.plain else call

    def step(self, key: str) -> Step[Any, Any]:
        """The step of a body."""

        async def call(*given: Any) -> Any:
            await asyncio.sleep(self.seconds)
            return self._give(current_step(), *given)

        def call_plainly(*given: Any) -> Any:
            return self._give(current_step(), *given)

        return step_of(call_plainly if self.plain else call, name=key, **self.policies)

    def transacted(self, key: str) -> Step[Any, Any]:
        """The same, to be called with a connection first."""

        async def call(conn: Any) -> Any:
            await asyncio.sleep(self.seconds)
            return self._give(current_step())

        def call_plainly(conn: Any) -> Any:
            return self._give(current_step())

        return step_of(call_plainly if self.plain else call, name=key, **self.policies)

    def _give(self, ctx: StepContext[World, Any], *given: Any) -> Any:
        key = key_of(str(ctx.unit))
        ctx.deps.done[key] += 1
        if ctx.attempt <= self.failing:
            raise Refused(f"attempt {ctx.attempt} of {key}")
        return [key, self.value, *given]

    def _undone(self, ctx: StepContext[World, Any]) -> None:
        key = key_of(str(ctx.unit))
        assert ctx.value[0] == key
        ctx.deps.done[f"undo {key}"] += 1
        assert self.undo is not None
        if ctx.attempt <= self.undo:
            raise Refused(f"attempt {ctx.attempt} to undo {key}")


# --- pieces --------------------------------------------------------------------------------------


Flow = Workflow[Any, Any]
Asked = Callable[[WorkflowContext[Any], str, Results], Any]


@attrs.frozen
class Piece:
    """One step: how it is added to a declared workflow, and awaited in a body."""

    declare: Callable[[Flow, str], Flow] = attrs.field(repr=False)
    ask: Asked = attrs.field(repr=False)
    says: str = ""
    signal: str | None = None
    child: tuple[Piece, ...] | None = None


def one(job: Job, transactional: bool) -> Piece:
    """A step."""

    def declare(flow: Flow, name: str) -> Flow:
        return flow.step(name, job.declared(), transactional=transactional, **job.policies)

    async def ask(ctx: Any, name: str, results: Results) -> Any:
        if transactional:
            return await ctx.transact(job.transacted(name))
        return await ctx.step(job.step(name))

    return Piece(declare, ask, f"step({job}, {transactional})")


def parallel(jobs: Sequence[Job], limit: int | None) -> Piece:
    """Several at once."""

    def declare(flow: Flow, name: str) -> Flow:
        entries = {
            f"{name}-{number}": Branch(job.declared(), **job.policies)
            for number, job in enumerate(jobs)
        }
        return flow.parallel(name, entries, max_concurrency=limit)

    async def ask(ctx: Any, name: str, results: Results) -> Any:
        keys = [f"{name}-{number}" for number in range(len(jobs))]
        steps = [ctx.step(job.step(key)) for key, job in zip(keys, jobs, strict=True)]
        return dict(zip(keys, await ctx.all(*steps, max_concurrency=limit), strict=True))

    return Piece(declare, ask, f"parallel({jobs}, {limit})")


def mapped(job: Job, count: int, limit: int | None, tolerant: bool) -> Piece:
    """One step for each of a list."""

    def declare(flow: Flow, name: str) -> Flow:
        return flow.map(
            name,
            lambda ctx: list(range(count)),
            job.declared_with(),
            max_concurrency=limit,
            min_success=0 if tolerant else None,
            **job.policies,
        )

    async def ask(ctx: Any, name: str, results: Results) -> Any:
        steps = [ctx.step(job.step(f"{name}.{item}"), item) for item in range(count)]
        together = ctx.settle if tolerant else ctx.all
        return await together(*steps, max_concurrency=limit)

    return Piece(declare, ask, f"map({job}, {count}, {limit}, {tolerant})")


def routed(jobs: Sequence[Job]) -> Piece:
    """One of several steps, by how much is known."""
    keys = ("left", "right")[: len(jobs)]

    def declare(flow: Flow, name: str) -> Flow:
        branches = {
            key: Branch(job.declared(), **job.policies) for key, job in zip(keys, jobs, strict=True)
        }
        return flow.route(name, lambda ctx: keys[int(name[1:]) % len(keys)], branches)

    async def ask(ctx: Any, name: str, results: Results) -> Any:
        number = int(name[1:]) % len(keys)
        return await ctx.step(jobs[number].step(f"{name}.{keys[number]}"))

    return Piece(declare, ask, f"route({jobs})")


def looped(job: Job, count: int, collect: bool) -> Piece:
    """A loop that is fed what it gave."""

    def declare(flow: Flow, name: str) -> Flow:
        return flow.loop(
            name,
            job.declared_with(),
            until=lambda result, n: n >= count,
            feedback=lambda result: result[:2],
            max_iterations=9,
            collect=collect,
            **job.policies,
        )

    async def ask(ctx: Any, name: str, results: Results) -> Any:
        found, value = [], results["input"]
        for number in range(count):
            found.append(await ctx.step(job.step(f"{name}.{number}"), value))
            value = found[-1][:2]
        return found if collect else found[-1]

    return Piece(declare, ask, f"loop({job}, {count}, {collect})")


def slept(seconds: float) -> Piece:
    """A sleep."""

    async def ask(ctx: Any, name: str, results: Results) -> None:
        await ctx.sleep(seconds, key=name)

    return Piece(lambda flow, name: flow.sleep(name, seconds), ask, f"sleep({seconds})")


def awaited(signal: str, timeout: int) -> Piece:
    """A wait for a signal."""

    def declare(flow: Flow, name: str) -> Flow:
        return flow.wait_for_signal(name, signal, timeout=timeout, on_timeout="continue")

    async def ask(ctx: Any, name: str, results: Results) -> Any:
        found = await ctx.wait_for_signal(signal, timeout=timeout, key=name)
        return None if found is TIMED_OUT else found

    return Piece(declare, ask, f"wait({signal!r}, {timeout})", signal=signal)


def childed(pieces: Sequence[Piece]) -> Piece:
    """A child run."""

    def declare(flow: Flow, name: str) -> Flow:
        return flow.child(name, declared(f"{flow.name}-{name}", pieces))

    async def ask(ctx: Any, name: str, results: Results) -> Any:
        return await ctx.child(coded(f"{ctx.workflow}-{name}", pieces), results["input"], key=name)

    return Piece(declare, ask, f"child({pieces})", child=tuple(pieces))


# --- both styles ---------------------------------------------------------------------------------


@attrs.frozen(repr=False)
class Returns:
    """The result of a declared workflow: what its steps gave."""

    names: tuple[str, ...]

    def __call__(self, ctx: StepContext[Any, Any]) -> Any:
        return {name: plain(ctx.results.get(name)) for name in self.names}


def plain(value: Any) -> Any:
    """A value with its failures told."""
    match value:
        case Failure():
            return f"{value.type}: {_keyed(value.message)}"
        case list():
            return [plain(one) for one in value]
        case _:
            return value


def declared(name: str, pieces: Sequence[Piece]) -> Flow:
    """The plan as a declared workflow."""
    flow: Flow = Workflow(name)
    for number, piece in enumerate(pieces):
        flow = piece.declare(flow, f"s{number}")
    return flow.returns(Returns(tuple(f"s{number}" for number in range(len(pieces)))))


def coded(name: str, pieces: Sequence[Piece]) -> Flow:
    """The plan as a body that interprets it."""

    async def body(ctx: WorkflowContext[Any], given: Any) -> Any:
        results: Results = {"input": given}
        for number, piece in enumerate(pieces):
            results[f"s{number}"] = await piece.ask(ctx, f"s{number}", results)
        return {key: plain(value) for key, value in results.items() if key != "input"}

    return workflow(name=name)(body)


def children_of(pieces: Sequence[Piece]) -> list[Flow]:
    """The bodies that the body of this plan starts: it makes them up, so they must be listed."""
    return [
        coded(f"main-s{number}", piece.child)
        for number, piece in enumerate(pieces)
        if piece.child is not None
    ]


# --- plans ---------------------------------------------------------------------------------------

jobs = st.builds(
    Job,
    value=st.integers(0, 9),
    seconds=st.sampled_from((0.0, 0.0, 0.0, 1.0, 45.0)),
    failing=st.sampled_from((0, 0, 0, 0, 0, 1, 2, 9)),
    plain=st.booleans(),
    undo=st.sampled_from((None, 0, 0, 0, 1, 9)),
    attempts=st.sampled_from((3, 1)),
    timeout=st.sampled_from((None, None, 120, 30)),
)
UNDOABLE = one(Job(undo=0), transactional=False)
"""Whether any step of it can be undone is not known of a body; so in both styles one can."""
few = st.none() | st.integers(1, 2)


@cache
def pieces(depth: int = 2, *, decides: bool = True) -> st.SearchStrategy[list[Piece]]:
    """A plan of work; ``depth`` bounds how deep children lie in children. ``decides`` False leaves
    out the steps where a declared workflow commits a decision that a body does not need: they cost
    it another call of the store, so that the nth call is not the same one."""
    kinds: list[st.SearchStrategy[Piece]] = [
        st.builds(one, jobs, st.just(False)),
        st.builds(one, jobs, st.booleans()),
        st.builds(parallel, st.lists(jobs, min_size=1, max_size=3), few),
        st.builds(looped, jobs, st.integers(1, 3), st.booleans()),
        st.builds(slept, st.sampled_from((1, 0, 90, 0.5))),
        st.builds(awaited, st.sampled_from(SIGNALS), st.sampled_from((60, 1, 86_400))),
    ]
    if decides:
        kinds += [
            st.builds(mapped, jobs, st.integers(0, 3), few, st.booleans()),
            st.builds(routed, st.lists(jobs, min_size=1, max_size=2)),
        ]
    if depth > 1:
        kinds.append(
            pieces(depth - 1, decides=decides).map(lambda inner: childed([UNDOABLE, *inner]))
        )
    return st.lists(st.one_of(kinds), min_size=1, max_size=5 if depth > 1 else 2)


def plans(work: Sequence[Piece], **how: Any) -> st.SearchStrategy[Faults]:
    """Plans of faults for the declared style."""
    return faults(declared("main", work), signals=sent_to(work), **how)


def at_units(plan: Faults) -> Faults:
    """What of a plan strikes at units, not at calls of the store; and no freeze for just a lease:
    who is first then hangs on when it was renewed last, by another commit or not."""
    kept = [
        fault
        for fault in plan.faults
        if getattr(fault, "unit", None) and getattr(fault, "leases", None) != 1.0
    ]
    return Faults(*kept, workers=plan.workers, seed=plan.seed)


def translated(plan: Faults) -> Faults:
    """The same plan for the body."""
    moved: list[Any] = list(plan.faults)
    for number, fault in enumerate(moved):
        if getattr(fault, "unit", None):
            moved[number] = attrs.evolve(fault, unit=key_of(fault.unit))
    return _with(plan, moved)


def _with(plan: Faults, faults: Sequence[Any]) -> Faults:
    return plan.replace(faults=tuple(faults))


def story(sim: Simulation) -> list[Any]:
    """What came of a simulation, whatever the style: of each run its end, and its journal; then
    what was done to the world."""
    told: list[Any] = []
    for run_id, place in sim.places.items():
        record = sim.world.stored[run_id].record()
        told.append((key_of(place), record.status))
        for entry in sim.history(run_id):
            if entry.kind in RECORDED:
                continue
            payload = getattr(entry, "payload", None)
            failure = getattr(entry, "failure", None)
            told.append(
                (
                    entry.kind,
                    key_of(str(entry.unit)),
                    None if payload is None else payload.data,
                    None if failure is None else (failure.type, _keyed(failure.message)),
                    getattr(entry, "attempt", None),
                    entry.at_ms,
                    tuple(map(key_of, getattr(entry, "not_compensated", ()))),
                )
            )
    told.append(sorted(sim.deps.done.items()))
    return told


def _keyed(message: str) -> str:
    return re.sub(r"s\d+/[\w-]+", lambda found: key_of(found[0]), message)


def sent_to(work: Sequence[Piece]) -> dict[str, str]:
    """The signals that a run of it waits for itself."""
    return {name: f"{name}!" for name in SIGNALS if name in {piece.signal for piece in work}}


def in_both(work: Sequence[Piece], plan: Faults) -> tuple[Simulation, Simulation]:
    """The plan of work under the plan of faults: declared, and as a body."""
    how: dict[str, Any] = {"deps": World, "signals": sent_to(work)}
    body, children = coded("main", work), children_of(work)
    while True:
        try:
            there = simulate(body, "in", translated(plan), children=children, **how)
        except UnknownUnitError as error:  # a body says what units it has by coming to them
            plan = _with(plan, [one for one in plan.faults if not _is_named(one, str(error))])
        else:
            return simulate(declared("main", work), "in", plan, **how), there


def _is_named(fault: Any, said: str) -> bool:
    unit = getattr(fault, "unit", None)
    return unit is not None and f"unit {key_of(unit)!r}" in said
