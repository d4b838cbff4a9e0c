"""Explore: a workflow under every single fault, and under every pair of crashes.

The quiet simulation shows every place where something can go wrong (``points``). Each fault is
tried, and what comes of it is checked (``checks``); a place that is only come to because of a
fault, such as the claim after a crash or a compensation, is tried in its turn, until there is no
new one. Of two crashes the second is looked for in what really happens after the first. Nothing
is kept of a simulation that is as it should be.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs

from ..errors import DurableError
from ..kernel.limits import Limits
from ..workflow.registry import Definition
from .checks import Compare, outcome_differs, unsteady_units, violations
from .conduct import outside_differs, quiet_trouble
from .counterexample import Counterexample, CounterexampleError, checked
from .memory_of_processes import Memory
from .names import UnknownUnitError
from .plan import Fault, Faults
from .points import (
    Mark,
    Point,
    at_any_await,
    begun_at_work,
    cancelled_in_need,
    clocks_off,
    failed_for_good,
    points_of,
    raised_once,
    signals_again,
    stolen_while_slow,
)
from .simulate import NOT_GIVEN, Signal, simulate
from .simulation import Simulation
from .surroundings import unheard
from .virtual_time import START_MS
from .witness import Violation
from .world import SimulationLimitError

FAILURES_MAX = 8
"""After so many failing schedules the smallest is shown; the search goes no further."""
PLACES_MAX = 1_500
"""In a run that makes more calls than this, not every one of them can be tried."""
OTHER_DATE_MS = START_MS + 1_234 * 86_400_000 + 45_678_901
"""When the second quiet simulation begins: another year, another day of the week, another hour."""


@attrs.define
class Report:
    """What was tried, and the smallest schedule that failed, if any did.

    ``points`` are places where something can go wrong, ``schedules`` simulations, ``states``
    distinct ends (statuses, entries by kind, faults by kind), ``fired`` how often each kind of
    fault happened.
    """

    workflow: str
    points: int = 0
    schedules: int = 0
    states: int = 0
    fired: Counter[str] = attrs.field(factory=Counter)
    counterexample: Counterexample | None = None

    def check(self) -> None:
        """Raises ``CounterexampleError``, with the counterexample's story, if there is one."""
        if self.counterexample is not None:
            raise CounterexampleError(self.counterexample) from self.counterexample.error

    def __str__(self) -> str:
        verdict = "all as it should be"
        if self.counterexample is not None:
            verdict = f"fails under {self.counterexample.plan!r}"
        lines = [f"{self.workflow}: {verdict}"]
        facts = {"points": self.points, "schedules": self.schedules, "states": self.states}
        kinds = {kind: count for kind, count in sorted(self.fired.items())}
        for name, count in (facts | kinds).items():
            lines.append(f"  {name:<12}{count:>8,}")
        return "\n".join(lines)


def explore(
    workflow: Definition,
    input: Any = None,
    *,
    deps: Callable[[], Any] | None = None,
    signals: Mapping[str, Any] | Sequence[Signal] = (),
    resume: Any = NOT_GIVEN,
    crashes: int = 1,
    check: Callable[[Simulation], Any] | None = None,
    snapshot: Callable[[Any], Any] | None = None,
    workers: int = 2,
    children: Sequence[Definition] = (),
    conn: Callable[[], Any] | None = None,
    limits: Limits | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> Report:
    """Simulate the workflow under every single fault; with ``crashes=2`` under every pair of
    crashes and pauses too, or ``sample`` of them. ``seed``: of what is random, that draw included.

    Checked are the engine's invariants, that the result does not depend on the schedule, and
    ``check(sim)``, which holds your own assertions: it is called for every schedule, also for
    those where a unit fails for good (of a workflow that has compensators), so look at
    ``sim.status``. ``snapshot(deps)``, such as ``vars``, tells how the world outside stands at the
    end: with it, no crash may leave that in another state. Everything else is as for
    ``simulate``.
    """
    if crashes not in (1, 2) or isinstance(crashes, bool):
        raise DurableError(f"crashes must be 1 or 2, not {crashes!r}")
    if sample is not None and (isinstance(sample, bool) or not isinstance(sample, int)):
        raise DurableError(f"sample must be a number of schedules, not {sample!r}")
    play = partial(
        simulate,
        workflow,
        input,
        deps=deps,
        signals=signals,
        resume=resume,
        children=children,
        conn=conn,
        limits=limits,
    )
    memory = Memory((workflow, *children), (check, snapshot, deps, conn, resume))
    search = _Search(workflow.name, play, check, workers, snapshot, seed)
    with unheard():
        if search.begin(workflow, memory) and search.forgetting(memory):
            search.singles(signals)
            if crashes == 2 and search.report.counterexample is None:
                search.pairs(sample, random.Random(seed))
        return search.finish()


class _Search:
    def __init__(
        self,
        name: str,
        play: Callable[..., Simulation],
        check: Callable[[Simulation], Any] | None,
        workers: int,
        snapshot: Callable[[Any], Any] | None,
        seed: int,
    ) -> None:
        self.report = Report(name)
        self._play = play
        self._check = check
        self._snapshot = snapshot
        self._workers = workers
        self._seed = seed
        self._seen: set[Mark] = set()
        self._states: set[int] = set()
        self._failures = 0
        # What killed a worker, on which base, and how many kills can follow.
        self._killed: list[tuple[Simulation, Point, int]] = []
        self._unsteady: frozenset[tuple[str, str]] = frozenset()

    # --- the search ----------------------------------------------------------------------------

    def begin(self, workflow: Definition, memory: Memory) -> bool:
        """The quiet simulations; False if they are wrong already."""
        self._quiet = self._play(self._plan())
        places = len(self._quiet.world.witness.moments)
        if places > PLACES_MAX:
            raise DurableError(
                f"when nothing goes wrong, workflow {workflow.name!r} makes {places:,} calls of "
                f"the store and of handlers, and explore tries them all: it takes {PLACES_MAX:,} "
                "at most; give it a smaller input, or random plans (faults)"
            )
        with memory:
            memory.forget()
            other = self._play(self._plan(seed=self._seed + 1), start_ms=OTHER_DATE_MS)
        self._unsteady = unsteady_units(self._quiet, other)
        self._judge(self._quiet, None, "free", found=tuple(quiet_trouble(workflow, self._quiet)))
        found = list(outcome_differs(other, self._quiet, "alike"))
        if found:
            found = [attrs.evolve(one, sentence=f"{one.sentence}: {DATE}") for one in found]
            self._keep(Counterexample(other.plan, other, tuple(found)))
        return self.report.counterexample is None

    def forgetting(self, memory: Memory) -> bool:
        """Each unit in a process of its own, which remembers nothing; also when all is undone.
        False if that makes a difference."""
        if not memory.variables:
            return True
        failing = [point.faults for point in failed_for_good(self._quiet)]
        for faults in ((), *failing) if self._undoes else ((),):
            plan = Faults(*faults, workers=1, seed=self._seed, always_suspend=True)
            with memory:
                memory.forget()
                base = self._play(plan)
            with memory:
                self._judge(
                    self._play(plan, forget=memory.forget),
                    base,
                    "same",
                    because=FORGOTTEN.format(memory.names),
                )
        return not self._failures

    @property
    def _undoes(self) -> bool:
        return any(call.has_undo for call in self._quiet.world.calls)

    def singles(self, signals: Any) -> None:
        """Every point once, and what comes to light under it."""
        quiet = self._quiet
        failing = failed_for_good(quiet) if self._undoes else ()
        failed = [(self._try(self._plan(*one.faults), quiet, "free"), one.event) for one in failing]
        if self._failures:
            return  # every one of them is a single fault
        given = [signal if isinstance(signal, Signal) else Signal(signal) for signal in signals]
        if given:
            early = all(signal.early for signal in given)
            distinct = 1 < len(given) == len({signal.name for signal in given})
            self._spread(quiet, signals_again(quiet, early=early, distinct=distinct))
        self._try(self._plan(always_suspend=True), quiet, "same")
        embedded = self._try(self._plan(embedded=True), quiet, "same")
        if embedded is not None:
            self._spread(embedded, begun_at_work(embedded))
        self._spread(quiet, [*points_of(quiet), *stolen_while_slow(quiet), *raised_once(quiet)])
        self._spread(quiet, [*at_any_await(quiet), *cancelled_in_need(quiet), *clocks_off(quiet)])
        for sim, event in failed:
            if sim is not None:
                self._spread(sim, points_of(sim, after=event))

    def _spread(self, base: Simulation, points: Iterable[Point]) -> None:
        """Try these points, all on the plan of ``base``; then what is new under them."""
        begun = base.plan.faults
        todo = deque((begun, point) for point in points)
        while todo and self._failures < FAILURES_MAX:
            faults, point = todo.popleft()
            if point.mark in self._seen:
                continue
            self._seen.add(point.mark)
            plan = self._plan(*faults, *point.faults, embedded=base.plan.embedded)
            sim = self._try(plan, base, point.compare)
            if sim is None or point.compare != "same" or not point.spreads:
                continue
            later = list(points_of(sim, after=point.event))
            if point.kills and faults is begun:
                self._killed.append((base, point, sum(one.kills for one in later)))
            todo += [((*faults, *point.faults), one) for one in later if one.mark not in self._seen]

    def pairs(self, sample: int | None, chance: random.Random) -> None:
        """A crash, and another at any later place: all of them, or so many."""
        total = sum(count for _, _, count in self._killed)
        wanted: Sequence[int] = range(total)
        if sample is not None and sample < total:
            wanted = sorted(chance.sample(wanted, sample))
        begin = 0
        for base, point, count in self._killed:
            here = wanted[bisect_left(wanted, begin) : bisect_left(wanted, begin + count)]
            if here:
                self._pairs_with(base, point, [index - begin for index in here])
            begin += count

    def _pairs_with(self, base: Simulation, point: Point, chosen: Sequence[int]) -> None:
        faults = (*base.plan.faults, *point.faults)
        plan = partial(self._plan, *faults, embedded=base.plan.embedded)
        after = self._play(plan())  # it was as it should be
        second = [one for one in points_of(after, after=point.event) if one.kills]
        for index in chosen:
            if self._failures < FAILURES_MAX:
                self._try(plan(*second[index].faults), base, "same")

    def finish(self) -> Report:
        """The report, with the counterexample as small as it can be made."""
        report, found = self.report, self.report.counterexample
        report.points, report.states = len(self._seen), len(self._states)
        if found is not None and found.sim.plan == found.plan:
            self._shrink(found)
        return report

    def _shrink(self, found: Counterexample) -> None:
        """Leave out that it is embedded, then each fault in its turn, and see whether it still
        fails."""
        if found.plan.embedded:
            plain = found.plan.replace(embedded=False)
            self._try(plain, self._quiet, "free" if plain.races else "same")
            found = self.report.counterexample or found
        if len(found.plan) < 2:
            return
        for left_out in range(len(found.plan)):
            faults = found.plan.faults
            plan = found.plan.replace(faults=(*faults[:left_out], *faults[left_out + 1 :]))
            self._try(plan, self._quiet, "free" if plan.races else "same")
            if self.report.counterexample is not found:
                return

    # --- one schedule ----------------------------------------------------------------------------

    def _plan(self, *faults: Fault, **how: Any) -> Faults:
        return Faults(*faults, **{"workers": self._workers, "seed": self._seed} | how)

    def _try(self, plan: Faults, base: Simulation, compare: Compare) -> Simulation | None:
        """Simulate and check; None if it failed, or if the plan did not happen."""
        limit: SimulationLimitError | None = None
        try:
            sim = self._play(plan)
        except SimulationLimitError as error:
            limit, sim = error, error.simulation
        except UnknownUnitError:  # a body of code does not come to it under this plan
            self.report.schedules += 1
            return None
        except Exception as error:
            error.add_note(f"while this plan was simulated: {plan!r}")
            raise
        if limit is None and sim.world.missed:
            self.report.schedules += 1
            return None
        return sim if self._judge(sim, base, compare, limit) else None

    def _judge(
        self,
        sim: Simulation,
        base: Simulation | None,
        compare: Compare,
        limit: SimulationLimitError | None = None,
        *,
        found: Sequence[Violation] = (),
        because: str = "",
    ) -> bool:
        """Count it, and keep it if something is wrong."""
        self.report.schedules += 1
        self.report.fired.update(sim.fired)
        self._states.add(_signature(sim))
        found = [*found] if limit is None else [Violation("I-LIVE", str(limit))]
        found += violations(sim, base, compare=compare, unsteady=self._unsteady)
        if self._snapshot is not None and base is not None and compare == "same":
            found += outside_differs(sim, base, self._snapshot)
        complaint = None if self._check is None or limit is not None else checked(self._check, sim)
        if complaint is not None:
            found.insert(0, complaint[0])
        if found:
            error = None if complaint is None else complaint[1]
            if because:
                found = [attrs.evolve(one, sentence=one.sentence + because) for one in found]
            self._keep(Counterexample(sim.plan, sim, tuple(found), error))
        return not found

    def _keep(self, found: Counterexample) -> None:
        self._failures += 1
        best = self.report.counterexample
        if best is None or found.size < best.size:
            self.report.counterexample = found


DATE = "begun at another date, with other random numbers, the workflow does something else"
FORGOTTEN = (
    ". Each unit was called in a new process, which had lost what functions keep in variables "
    "outside of them ({}): only results and deps last"
)


def _signature(sim: Simulation) -> int:
    """Of what there is to tell ends apart."""
    runs = tuple(
        (run.status, frozenset(Counter(entry.kind for _, entry in run.entries).items()))
        for run in sim.world.stored.values()
    )
    return hash((runs, frozenset(sim.fired)))
