"""Simulate: one life of a run on virtual time, under a plan of faults.

Synchronous to call, deterministic, without a database: the real engine over a store in memory.
A simulation of a few steps takes some milliseconds, so it can be asked for by the thousand.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs

from ..engine.engine import Engine
from ..errors import DurableError, RunFinishedError, RunNotFoundError
from ..kernel.limits import Limits
from ..workflow.registry import Definition, Registry
from .names import Names
from .plan import Faults, SignalAt
from .simulation import RUN_ID, Simulation
from .world import SimulationLimitError, World

QUIET = Faults()
NOT_GIVEN: Any = object()
WAITING_TURNS = 40
"""So many turns of the loop it takes until a run that begins with a wait has come to it."""


@attrs.frozen(slots=True)
class Signal:
    """A signal the simulation sends: before the run begins to work, unless ``early`` is False;
    then only a ``SignalAt`` of the plan sends it."""

    name: str
    payload: Any = None
    early: bool = attrs.field(default=True, kw_only=True)


def simulate(
    workflow: Definition,
    input: Any = None,
    plan: Faults = QUIET,
    *,
    deps: Callable[[], Any] | None = None,
    signals: Mapping[str, Any] | Sequence[Signal] = (),
    resume: Any = NOT_GIVEN,
    workers: int | None = None,
    children: Sequence[Definition] = (),
    conn: Callable[[], Any] | None = None,
    limits: Limits | None = None,
    start_ms: int | None = None,
    forget: Callable[[], None] | None = None,
) -> Simulation:
    """Run the workflow once, to the end or until nothing can happen any more.

    ``deps`` makes the object the handlers find as ``ctx.deps``: the world outside, shared by all
    workers, which survives their deaths. ``signals``: names and payloads. ``resume``: data (or a
    function of the snapshot) for handlers that suspend. ``workers`` overrides the plan's.
    ``conn`` makes what transactional handlers find as ``ctx.conn``. ``start_ms``: the virtual
    date, in ms since 1970. ``forget`` is called when a process begins: to lose what handlers keep
    in variables.

    Raises ``DurableError`` for a plan that names a step there is none of and for a signal the
    workflow never waits for; ``SimulationLimitError`` for a workflow that does not end.
    """
    if not isinstance(plan, Faults):
        raise DurableError(f"plan must be a Faults(...), not {type(plan).__name__}")
    if workers is not None:
        plan = plan.replace(workers=workers)
    if deps is not None and not callable(deps):
        raise DurableError(
            f"deps must make the handlers' deps (a class or a function), not be one: give "
            f"lambda: {type(deps).__name__}(...)"
        )
    sent = _signals(signals)
    early = [(key, signal) for key, signal in sent if signal.early and not _are_late(plan)]
    workflows = (workflow, *children)
    registry = Registry(workflows)
    units = [(fault, unit) for fault in plan.faults if (unit := getattr(fault, "unit", None))]
    names = Names(registry, workflow.name, units, [signal.name for _, signal in sent])
    names.before()

    def live(plan: Faults) -> Simulation:
        world = World(
            workflows,
            plan,
            deps=None if deps is None else deps(),
            begin=lambda engine: _begin(
                engine, workflow, input, early, WAITING_TURNS * plan.embedded
            ),
            send=lambda engine, reverse: _send(engine, sent[::-1] if reverse else sent),
            operate=lambda engine, what: _operate(engine, what, workflow, input),
            resume=None if resume is NOT_GIVEN else lambda engine: _resume(engine, resume),
            conn=conn,
            limits=limits,
            start_ms=start_ms,
            forget=forget,
        )
        try:
            world.run()
        except SimulationLimitError as limit:
            limit.simulation = Simulation(world, registry)
            raise
        return Simulation(world, registry)

    sim = live(plan)
    names.after(sim, lambda: live(QUIET))
    return sim


Sent = Sequence[tuple[str, Signal]]
"""Signals, each with the key by which one that is sent again is known."""


def _signals(given: Mapping[str, Any] | Sequence[Signal]) -> Sent:
    signals: Sequence[Any] = (
        [Signal(name, payload) for name, payload in given.items()]
        if isinstance(given, Mapping)
        else given
    )
    for signal in signals:
        if not isinstance(signal, Signal):
            raise DurableError(
                "signals must be a mapping of names to payloads, or a list of Signal(name, "
                f"payload), not of {type(signal).__name__}"
            )
    return [(f"{signal.name}-{number}", signal) for number, signal in enumerate(signals)]


def _are_late(plan: Faults) -> bool:
    return any(isinstance(fault, SignalAt) and fault.late for fault in plan.faults)


async def _begin(engine: Engine, workflow: Any, input: Any, early: Sent, turns: int) -> None:
    await engine.start(workflow, input, id=RUN_ID)
    for _ in range(turns if early else 0):
        await asyncio.sleep(0)
    await _send(engine, early)


async def _send(engine: Engine, sent: Sent) -> None:
    for key, signal in sent:
        with suppress(RunFinishedError):
            await engine.signal(RUN_ID, signal.name, signal.payload, dedupe_id=key)


async def _operate(engine: Engine, what: str, workflow: Any, input: Any) -> None:
    with suppress(RunFinishedError, RunNotFoundError):  # it may come before the start has landed
        match what:
            case "cancel":
                await engine.cancel(RUN_ID)
            case "terminate":
                await engine.cancel(RUN_ID, mode="terminate")
            case "pause":
                await engine.pause(RUN_ID)
            case "unpause":
                await engine.unpause(RUN_ID)
            case "start":
                await engine.start(workflow, input, id=RUN_ID)
            case _:
                await engine.retry(RUN_ID)


async def _resume(engine: Engine, data: Any) -> bool:
    """Answer every open suspension; whether there was any."""
    tokens = []
    async for info in engine.runs():
        tokens += [(info.id, wait.token) for wait in info.waiting_for if wait.token is not None]
    for run_id, token in tokens:
        answer: Any = data() if inspect.isfunction(data) else data
        await engine.resume(run_id, answer, token=token)
    return bool(tokens)
