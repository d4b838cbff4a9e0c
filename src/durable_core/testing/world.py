"""World: one simulation from its start to its end: processes, a store in memory, and mishaps.

What production runs is what runs here: engines with workers, over a ``MemoryStore`` that keeps
the same fence as the real ones, on virtual time. The world stands at three places only: around
each call of the store, around each call of a handler, and where a process begins. There it
counts, writes its chronicle, and does what the plan says. Rules:

1. Everything follows from the arguments and the plan: no real time, no real randomness, no order
   that depends on addresses. Equal plans give equal chronicles.
2. The end is when nothing can happen any more: no callback is ready and no timer is set. So a
   zombie wakes up even after the run has ended, and does its worst.
3. It ends in any case: after ``CALLS_MAX`` calls of the store or ``DAYS_MAX`` virtual days.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import attrs

from ..codec.payload import JsonCodec
from ..engine.clock import Host
from ..engine.engine import Engine
from ..errors import DurableError, StoreUnavailableError
from ..kernel.limits import Limits
from ..kernel.outcome import Attempt
from ..store import Commit, CommitVerdict
from ..workflow.registry import Definition
from .calls import Call, Injected, call_of
from .conduct import Conduct, OwnLoopError
from .given import NOTHING
from .hearing import Hearing
from .memory import MemoryStore
from .memory_state import StoredRun
from .mishaps import Mishaps
from .plan import (
    ClockJump,
    Crash,
    Delay,
    Fault,
    Faults,
    Interrupt,
    Operate,
    Pause,
    SignalAt,
    Skew,
    Slow,
    Stop,
    Theft,
)
from .processes import Process, ProcessLoop, current_process
from .simulated_store import SimulatedStore
from .surroundings import Outside, simulated
from .timeline import Event, what_it_says
from .virtual_time import DeadlockError, InlineExecutor, VirtualTime
from .witness import Moment, Violation, Witness

LEASE = timedelta(seconds=30)
CALLS_MAX = 10_000
DAYS_MAX = 40_000
CLAIMING_TURNS = 20
"""So many turns of the loop it takes until a worker that begins has claimed."""
DRAINING_TURNS = 3
"""So many turns of the loop it takes until a worker that is told to end begins nothing new."""
BACK_S = 1.0
"""How long after a process died another one takes its place."""


CODEC = JsonCodec()
"""Shared by all simulations: what it learns of types is costly, and depends on nothing else."""


class SimulationLimitError(DurableError):
    """A simulation went on beyond its limits: the workflow probably never ends.

    ``simulation`` is how far it came.
    """

    simulation: Any = None


class World:
    """One simulation. ``run`` lets it happen; then everything can be looked at."""

    def __init__(
        self,
        workflows: Sequence[Definition],
        plan: Faults,
        *,
        deps: Any,
        begin: Callable[[Engine], Awaitable[None]],
        send: Callable[[Engine, bool], Awaitable[None]],
        operate: Callable[[Engine, str], Awaitable[None]],
        resume: Callable[[Engine], Awaitable[bool]] | None = None,
        conn: Callable[[], Any] | None = None,
        limits: Limits | None = None,
        start_ms: int | None = None,
        forget: Callable[[], None] | None = None,
    ) -> None:
        self.plan = plan
        self.deps = deps
        self.workflows = workflows
        self.time = VirtualTime() if start_ms is None else VirtualTime(start_ms)
        self.loop = ProcessLoop(self.time)
        self.memory = MemoryStore(clock=self.clock)
        self.codec = CODEC
        self.chronicle: list[Event] = []
        self.witness = Witness(
            lambda: self.stored,
            self.clock,
            lambda: self.time.seconds,
            lambda: len(self.chronicle),
            lambda: self.turns,
        )
        self.conduct = Conduct(plan.seed, self._note_conduct, keeps=not plan.faults)
        self.mishaps = Mishaps(plan, lambda: self.time.seconds)
        self.entropy = random.Random(plan.seed)
        self._begin = begin
        self._send = send
        self._operate = operate
        self._resume = resume
        self.conn = conn
        self.suspensions = 0
        """How often the run was dropped because the plan says ``always_suspend``."""
        self.turns = 0
        """How many turns of their event loops the workers have had, all together."""
        self._forget = forget
        self._limits = limits or Limits(worker_deaths=1_000)
        self._offset_ms = 0
        self.hearing = Hearing()
        self._stops: dict[Process, asyncio.Event] = {}
        self._mains: dict[Process, asyncio.Task[None]] = {}
        self._workers = 0
        self._overrun: str | None = None
        self._broken: BaseException | None = None

    def clock(self) -> int:
        """The store's clock."""
        return self.time.now_ms() + self._offset_ms

    def bury(self) -> None:
        """Nobody looks at the dead any more: let their bodies and their handlers end."""
        self.conduct.bury()
        self.loop.bury()

    @property
    def stored(self) -> dict[str, StoredRun]:
        """The rows of the store, by run."""
        return self.memory._shared.state.runs

    @property
    def calls(self) -> list[Call]:
        """All calls of handlers, in the order they began."""
        return self.witness.calls

    @property
    def missed(self) -> tuple[Fault, ...]:
        """Faults of the plan that did not happen: their place was never come to."""
        return tuple(self.mishaps.pending.values())

    # --- letting it happen ---------------------------------------------------------------------

    def run(self) -> None:
        """From the start to the end. Raises ``SimulationLimitError``, and what ``begin`` does.

        What was under way at the end, and in processes that died, is left as it stands, until
        ``bury``: the ``finally`` of a dead handler must not be seen to run.
        """
        try:
            asyncio.set_event_loop(self.loop)
            with simulated(self.time):
                self._live()
        except BaseException:
            self.bury()
            raise
        finally:
            self.loop.hush()
            self.loop.close()
            asyncio.set_event_loop(None)
        if self._broken is not None:
            raise self._broken
        if self._overrun is not None:
            raise SimulationLimitError(self._overrun)

    def _live(self) -> None:
        self.loop.run_until_complete(self._open())
        for _ in range(self.plan.workers):
            self._spawn()
        self._until_quiet()
        while self._resume is not None and self._resume_once():
            self._until_quiet()

    async def _open(self) -> None:
        await self.memory.open()
        if not self.plan.embedded:
            await self._as_client(self._begin)

    def _until_quiet(self) -> None:
        with suppress(DeadlockError):  # nothing can happen any more: that is the end
            self.loop.run_forever()

    def _resume_once(self) -> bool:
        resume = self._resume
        if resume is None or self._overrun is not None or self._broken is not None:
            return False
        done: list[bool] = []

        async def ask(engine: Engine) -> None:
            done.append(await resume(engine))

        self._client(ask)
        self._until_quiet()
        return bool(done and done[0])

    def _client(self, act: Callable[[Engine], Awaitable[None]]) -> None:
        """Let a process of its own do this."""
        task = Process("client", self.loop).begin(self._as_client(act))
        task.add_done_callback(self._note_broken)

    async def _as_client(self, act: Callable[[Engine], Awaitable[None]]) -> None:
        engine = self._engine(self.memory.twin())
        async with engine:
            await act(engine)
        self.hearing.changed()

    def _engine(self, store: Any) -> Engine:
        host = Host(
            entropy=self.entropy.randbytes,
            executor=lambda count: InlineExecutor(),
            fallback_poll_s=None,
            renew_in_thread=False,
            lead_s=0.0,  # the timers of a simulated loop are exact
            calling=self._around_handler,
            driving=self._around_body,
        )
        return Engine(
            store,
            self.workflows,
            lifespan=Outside(self.deps),
            codec=self.codec,
            limits=self._limits,
            host=host,
        )

    def _spawn(self) -> None:
        self._workers += 1
        if self._forget is not None:
            self._forget()
        process = Process(f"worker-{self._workers}", self.loop)
        process.on_turn = lambda: self._turn(process)
        self._stops[process] = asyncio.Event()
        task = process.begin(self._work(process, self._workers))
        task.add_done_callback(self._note_broken)
        self._mains[process] = task

    def _turn(self, process: Process) -> None:
        """The process has its next turn."""
        self.turns += 1
        if self.turns not in self.mishaps.interrupts or self._mains[process].done():
            return
        self.mishaps.take(Interrupt, nth=self.turns)
        self.note("is cancelled", process.name, process=process)
        self._mains[process].cancel()
        self._leaves(process)

    def _leaves(self, process: Process, seconds: float = BACK_S) -> None:
        """Its worker is told to end, and another one takes its place."""
        self.witness.holdings.leaving.setdefault(process.name, self.time.seconds)
        if not self._stops[process].is_set():
            self._stops[process].set()
            self._later(self._spawn, seconds)

    async def _work(self, process: Process, number: int) -> None:
        skew = self.mishaps.take(Skew, worker=number)
        if skew is not None:
            process.skew_s = skew.seconds
            self.note("its clock is off", process.name, f"{skew.seconds:+g} s")
        engine = self._engine(SimulatedStore(self.memory.twin(), self, process))
        grace = [fault.grace for fault in self.plan.faults if isinstance(fault, Stop)]
        worker = engine.worker(
            concurrency=100, lease=LEASE, name=process.name, grace=min(grace, default=0)
        )
        # Not ``async with``: a process that dies leaves nothing in order.
        await engine.__aenter__()
        with suppress(asyncio.CancelledError):
            await worker.__aenter__()
            with suppress(asyncio.CancelledError):
                if self.plan.embedded:
                    await self._begin_at_work(engine)
                await self._stops[process].wait()
            await worker.__aexit__(None, None, None)
        await engine.__aexit__(None, None, None)

    async def _begin_at_work(self, engine: Engine) -> None:
        """Start the run where there is a worker that has found nothing to do."""
        for _ in range(CLAIMING_TURNS):
            await asyncio.sleep(0)
        while not self._stops[current_process()].is_set():
            try:
                return await self._begin(engine)
            except StoreUnavailableError:
                await asyncio.sleep(BACK_S)

    def _note_broken(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._broken = self._broken or task.exception()
            self.loop.stop()

    # --- what is written down --------------------------------------------------------------------

    def note(self, what: str, where: str, detail: str = "", process: Process | None = None) -> None:
        """Write a line of the chronicle."""
        name = (process or current_process()).name
        self.chronicle.append(Event(round(self.time.seconds, 6), name, what, where, detail))

    # --- around each call of the store -----------------------------------------------------------

    async def around_store(
        self, moment: Moment, process: Process, call: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Make the call, with what the plan has for it."""
        self._check_limits()
        verb, nth, total = str(moment.verb), moment.nth, moment.total
        await self._strike("before", process, verb=verb, nth=nth)
        delay = self.mishaps.take(Delay, verb=verb, nth=nth)
        if delay is not None and delay.when == "before":
            await self._dawdle(delay.seconds, verb)
        error = self.mishaps.store_error(verb, nth)
        if error is not None and error.kind != "landed":
            self.note(f"store error: {error.kind}", verb)
            raise StoreUnavailableError("simulated", outcome_unknown=error.kind == "lost")
        answer = await call()
        await self._after_call(verb, nth, total, process)
        await self._strike("after", process, verb=verb, nth=nth)
        if delay is not None and delay.when == "after":
            await self._dawdle(delay.seconds, verb)
        if error is not None:
            self.note(f"store error: {error.kind}", verb)
            raise StoreUnavailableError("simulated", outcome_unknown=True)
        return answer

    async def _after_call(self, verb: str, nth: int, total: int, process: Process) -> None:
        jump = self.mishaps.take(ClockJump, nth=total)
        if jump is not None:
            self._offset_ms += round(jump.seconds * 1_000)
            self.note("clock jumps", "store", f"{jump.seconds:+g} s")
        stop = self.mishaps.take(Stop, nth=total)
        if stop is not None:
            self.note("told to stop", process.name)
            self._leaves(process)
        if verb != "commit":
            return
        if self.mishaps.take(Theft, nth=nth) is not None:
            self._end_leases()
        again = self.mishaps.take(SignalAt, nth=nth)
        if again is not None:
            for _ in range(again.copies):
                self.note("signals are sent", "client")
                self._client(lambda engine: self._send(engine, again.reverse))
        operation = self.mishaps.take(Operate, nth=nth)
        if operation is not None:
            self.note("operator", operation.what)
            self._client(lambda engine: self._operate(engine, operation.what))
        if self.plan.always_suspend and not self._stops[process].is_set():
            self.suspensions += 1
            self.mishaps.lasts()
            self._leaves(process, 0.0)
            for _ in range(DRAINING_TURNS):  # it drains before it hears of its commit
                await asyncio.sleep(0)

    def _end_leases(self) -> None:
        for run in self.stored.values():
            if run.owner is not None:
                self.note("lease is stolen", run.new.run_id)
                run.due_at_ms = self.clock()
        self.hearing.changed()

    def _check_limits(self) -> None:
        days = self.time.seconds / 86_400
        if self.witness.counts["any"] > CALLS_MAX or days > DAYS_MAX:
            self._overrun = (
                f"the simulation went on for {self.witness.counts['any']} calls of the store and "
                f"{days:.0f} virtual days: does the workflow end? (a loop whose until is never "
                "true, a retry without a limit, a wait that is always begun again)"
                f"{self._busiest()}"
            )
            self.loop.stop()

    def _busiest(self) -> str:
        """The step that was called most often."""
        steps = Counter(call.label.split("/")[0] for call in self.calls)
        return "".join(f"; {step} was called {n:,} times" for step, n in steps.most_common(1))

    # --- around each call of a handler -----------------------------------------------------------

    async def _around_handler(
        self, run_id: str, attempt: Attempt, call: Callable[[], Awaitable[Any]]
    ) -> Any:
        process = current_process()
        (invocation,) = call.args  # type: ignore[attr-defined]  # the engine's own partial
        seen = call_of(
            run_id,
            attempt,
            process.name,
            key=invocation.context.idempotency_key,
            too_late=self.witness.is_over(run_id, attempt.key),
            lease_ms=LEASE // timedelta(milliseconds=1),
            at_ms=self.clock(),
            event=len(self.chronicle),
        )
        nth = self.witness.handler_called(seen).nth
        try:
            return await self._called(seen, nth, process, call)
        finally:
            self.witness.holdings.ended(seen, self.time.seconds)

    async def _called(
        self, seen: Call, nth: int, process: Process, call: Callable[[], Awaitable[Any]]
    ) -> Any:
        label = seen.label
        self.note("begins", label, f"attempt {seen.attempt}")
        await self._strike("before", process, unit=label, nth=nth)
        slow = self.mishaps.take(Slow, unit=label, nth=nth)
        if slow is not None:
            await self._dawdle(slow.seconds, label)
        raising = self.mishaps.raising(label, nth)
        if raising is not None:
            self.note("raises", label)
        if raising is not None and raising.when == "before":
            raise Injected(f"{label} raises, as the plan says")
        try:
            value = await self.conduct.watch(label, nth, process.name, call)
        except OwnLoopError as error:
            self._broken = self._broken or error
            self.loop.stop()
            raise
        except Exception as error:
            self.note("fails", label, what_it_says(error))
            raise
        self.note("is done", label)
        await self._strike("after", process, unit=label, nth=nth)
        if raising is not None:
            raise Injected(f"{label} raises, as the plan says")
        return value

    def _around_body(self, body: Any, call: Callable[[], Any]) -> Any:
        deps = NOTHING if self.plan.faults else self.deps
        return self.conduct.drive(body, deps, call)

    def _note_conduct(self, found: Violation) -> None:
        event = len(self.chronicle) - 1
        self.witness.breaches.append(attrs.evolve(found, event=event))

    def note_commit(self, commit: Commit, verdict: CommitVerdict) -> None:
        """Write a commit into the chronicle."""
        said = ", ".join(f"{entry.kind} {entry.unit}".strip() for entry in commit.entries)
        if verdict is not CommitVerdict.APPLIED:
            said = f"{verdict.value}: {said}"
        self.note("commits", commit.run_id, said)

    # --- the plan --------------------------------------------------------------------------------

    async def _dawdle(self, seconds: float, where: str) -> None:
        """It takes longer."""
        self.note("is slow", where, f"{seconds:g} s")
        await asyncio.sleep(seconds)
        self.mishaps.lasts()

    async def _strike(self, when: str, process: Process, **place: Any) -> None:
        """Let the process die or freeze, if the plan says so."""
        if not self.mishaps.pending:
            return
        where = place.get("unit") or place["verb"]
        if self.mishaps.take(Crash, when=when, **place) is not None:
            self.note(f"dies {when}", where)
            self._later(self._spawn)
            await process.die()
        pause = self.mishaps.take(Pause, when=when, **place)
        if pause is not None:
            self.note(f"freezes {when}", where, f"{pause.leases:g} leases")
            seconds = pause.leases * LEASE.total_seconds()
            self.mishaps.lasts(seconds)
            await process.freeze(seconds)
            self.note("goes on", where)

    def _later(self, act: Callable[[], None], seconds: float = BACK_S) -> None:
        self.loop.call_later(seconds, act, context=self.loop.outside)
