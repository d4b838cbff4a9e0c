"""Corpus: small workflows that hold every kind of step in every order, and what they come to.

Each ``Case`` says by itself what is right: its status, its result, how many runs it takes. So
what goes wrong in every schedule alike is seen too, which no comparison of schedules shows.

``python -m tests.kit.corpus`` explores them all and prints what was tried.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import attrs
from tests.kit.ledger import (
    Ledger,
    act,
    add_one,
    ask,
    cannot_undo,
    count,
    items,
    left,
    linger,
    refuse,
    same,
    stubborn,
    third_time,
    three,
    undo,
)

from durable_core import Retry, Workflow
from durable_core.kernel.limits import Limits
from durable_core.testing.explore import Report, explore
from durable_core.testing.plan import Crash, Delay, Fault, Faults, Operate
from durable_core.testing.simulate import NOT_GIVEN, Signal, simulate
from durable_core.testing.simulation import Simulation
from durable_core.workflow.nodes import Branch, Undo

Flow = Workflow[Any, Any]

PATIENT = Retry(max_attempts=3, initial=10.0, jitter=0.0)
# --- parts: one step of each kind ----------------------------------------------------------------

Part = Callable[[Flow, str], Flow]
"""Adds a step of this name."""


def _step(flow: Flow, name: str) -> Flow:
    return flow.step(name, act, compensate=undo)


def _parallel(flow: Flow, name: str) -> Flow:
    return flow.parallel(name, {f"{name}x": Branch(act, compensate=undo), f"{name}y": count})


def _map(flow: Flow, name: str) -> Flow:
    return flow.map(name, items, act, compensate=undo)


def _route(flow: Flow, name: str) -> Flow:
    return flow.route(name, left, {"left": Branch(act, compensate=undo), "right": refuse})


def _loop(flow: Flow, name: str) -> Flow:
    return flow.loop(name, add_one, initial=0, until=three, feedback=same, max_iterations=5)


def _sleep(flow: Flow, name: str) -> Flow:
    return flow.sleep(name, 90)


def _signal(flow: Flow, name: str) -> Flow:
    return flow.wait_for_signal(name, name, timeout=timedelta(days=1))


def _child(flow: Flow, name: str) -> Flow:
    child: Flow = Workflow(f"child-{name}")
    return flow.child(name, child.step(f"{name}z", act, compensate=undo))


def _nothing(name: str) -> dict[str, Any]:
    return {}


PARTS: dict[str, tuple[Part, Callable[[str], dict[str, Any]]]] = {
    "step": (_step, lambda name: {name: name}),
    "parallel": (
        _parallel,
        lambda name: {name: {f"{name}x": f"{name}/{name}x", f"{name}y": None}},
    ),
    "map": (_map, lambda name: {name: [f"{name}/0", f"{name}/1"]}),
    "route": (_route, lambda name: {name: f"{name}/left"}),
    "loop": (_loop, lambda name: {name: 3}),
    "sleep": (_sleep, _nothing),
    "signal": (_signal, lambda name: {name: f"sent to {name}"}),
    "child": (_child, lambda name: {name: {f"{name}z": f"{name}z"}}),
}
"""By kind: how to add it, and what stands in the results then."""


# --- cases ---------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Case:
    """A workflow, what it is given, and what is right.

    ``trials``: plans beside those that ``explore`` tries, each with the status it must end in.
    ``gaps_s``: by unit, the least time between the beginnings of its attempts.
    """

    name: str
    workflow: Flow
    result: Any = None
    status: str = "completed"
    signals: tuple[Signal, ...] = ()
    resume: Any = NOT_GIVEN
    runs: int = 1
    limits: Limits | None = None
    trials: tuple[tuple[Faults, str], ...] = ()
    gaps_s: dict[str, tuple[float, ...]] = attrs.field(factory=dict)

    def simulate(self, plan: Faults) -> Simulation:
        """One schedule."""
        return simulate(self.workflow, None, plan, deps=Ledger, signals=self.signals,
                        resume=self.resume, limits=self.limits)  # fmt: skip

    def explore(self, *, crashes: int = 1, sample: int | None = None) -> Report:
        """Every single fault, and ``sample`` pairs of crashes with ``crashes=2``."""
        return explore(self.workflow, None, deps=Ledger, signals=self.signals,
                       resume=self.resume, limits=self.limits, check=self.check,
                       crashes=crashes, sample=sample)  # fmt: skip

    def check(self, sim: Simulation) -> None:
        """What must be true of every schedule."""
        if not sim.plan.races and sim.plan not in dict(self.trials):
            assert sim.status == self.status
        if sim.status == "completed":
            assert sim.result == self.result
            assert not sim.deps.undone
        restarts = any(isinstance(one, Operate) for one in sim.plan.faults)
        assert len(sim.runs) == self.runs or sim.plan.races, "so many runs are started"
        mishaps = sum(sim.fired.values())
        for question, times in sim.deps.asked.items():
            assert times <= 1 + mishaps, f"the {question} was asked for {times} times"
        for unit, value in sim.deps.undone_with:
            assert sim.deps.done[unit], f"{unit} was undone, and never done"
            assert unit in (value, _asked(value)), f"{unit} was undone with the value {value!r}"
        for unit, times in sim.deps.undone.items():
            assert times <= 1 + mishaps or restarts, f"{unit} was undone {times} times"
        self._check_gaps(sim)

    def _check_gaps(self, sim: Simulation) -> None:
        if sim.fired["ClockJump"]:
            return
        for unit, gaps_s in self.gaps_s.items():
            began = {call.attempt: call.at_ms for call in sim.world.calls if call.label == unit}
            for attempt, gap_s in enumerate(gaps_s, 1):
                if attempt in began and attempt + 1 in began:
                    waited_s = (began[attempt + 1] - began[attempt]) / 1_000
                    assert waited_s >= gap_s or sim.plan.faults, f"{unit} did not wait {gap_s} s"


def _asked(value: Any) -> Any:
    return value.get("asked") if isinstance(value, dict) else None


def pair(first: str, second: str) -> Case:
    """Two steps, one after the other."""
    flow: Flow = Workflow(f"{first}-{second}")
    result: dict[str, Any] = {}
    for name, kind in (("a", first), ("b", second)):
        add, gives = PARTS[kind]
        flow, result = add(flow, name), result | gives(name)
    kinds = {"a": first, "b": second}
    return Case(
        name=f"{first}, {second}",
        workflow=flow,
        result=result,
        signals=tuple(
            Signal(name, f"sent to {name}") for name, kind in kinds.items() if kind == "signal"
        ),
        runs=1 + [first, second].count("child"),
    )


def pairs() -> list[Case]:
    """All ordered pairs of kinds."""
    return [pair(first, second) for first in PARTS for second in PARTS]


def _cancelled(*nths: int) -> tuple[tuple[Faults, str], ...]:
    return tuple((Faults(Operate(what="cancel", nth=nth)), "cancelled") for nth in nths)


def _deadly(*units: str) -> Faults:
    """A worker dies in each of these handlers, in this order."""
    faults: list[Fault] = []
    for place, unit in enumerate(units):
        faults.append(Crash(unit=unit, nth=1 + units[:place].count(unit)))
    return Faults(*faults)


def sagas() -> list[Case]:
    """Workflows that fail and are rolled back, or that somebody else stops."""
    trip: Flow = (
        Workflow("trip")
        .step("hotel", act, compensate=undo)
        .parallel(
            "fly", {"out": Branch(act, compensate=undo), "back": Branch(act, compensate=undo)}
        )
        .map("seats", items, act, compensate=undo)
        .child("car", Workflow("car").step("wheels", act, compensate=undo))
        .step("pay", refuse, retry=Retry(max_attempts=2, initial=10.0, jitter=0.0))
    )
    torn: Flow = (
        Workflow("torn")
        .step("before", act, compensate=undo)
        .parallel(
            "both",
            {
                "fails": Branch(refuse, retry=Retry(max_attempts=1)),
                "lasts": Branch(linger, compensate=undo),
            },
        )
    )
    stuck: Flow = (
        Workflow("stuck")
        .step("first", act, compensate=undo)
        .step("fast", act, compensate=Undo(cannot_undo, retry=Retry(max_attempts=2, initial=1.0)))
        .step("fails", refuse, retry=Retry(max_attempts=1))
    )
    waits: Flow = (
        Workflow("waits")
        .step("reserve", act, compensate=undo)
        .child("approval", Workflow("approval").step("note", act, compensate=undo)
               .wait_for_signal("verdict"))
    )  # fmt: skip
    return [
        Case(name="saga: trip", workflow=trip, status="failed", runs=2, gaps_s={"pay": (10.0,)}),
        Case(name="saga: torn", workflow=torn, status="failed", trials=_cancelled(1, 2)),
        Case(name="saga: stuck", workflow=stuck, status="compensation_failed"),
        Case(
            name="saga: waits",
            workflow=waits,
            status="suspended",
            runs=2,
            trials=(
                *_cancelled(1, 2),
                *((Faults(Operate(what="pause", nth=nth)), "suspended") for nth in (1, 2)),
            ),
        ),
    ]


def _answered(unit: str) -> dict[str, str]:
    return {"asked": unit, "answer": "yes"}


def agents() -> list[Case]:
    """Handlers that suspend, and are resumed."""
    one: Flow = Workflow("agent").step("plan", ask, compensate=undo).step("do", act)
    turns: Flow = (
        Workflow("turns")
        .step("begin", act, compensate=undo)
        .parallel("tools", {"search": ask, "read": ask})
        .step("answer", ask)
        .sleep("pause", 90)
    )  # fmt: skip
    return [
        Case(
            name="agent: one turn",
            workflow=one,
            resume="yes",
            trials=_cancelled(1),
            result={"plan": _answered("plan"), "do": "do"},
        ),
        Case(
            name="agent: two tools",
            workflow=turns,
            resume="yes",
            trials=_cancelled(2),
            result={
                "begin": "begin",
                "tools": {name: _answered(f"tools/{name}") for name in ("search", "read")},
                "answer": _answered("answer"),
            },
        ),
    ]


def trees() -> list[Case]:
    """Children of children, and several of them."""
    leaf: Flow = Workflow("leaf").step("grow", act, compensate=undo)
    branch: Flow = Workflow("branch").child("leaf", leaf).sleep("winter", 90)
    deep: Flow = Workflow("deep").step("root", act).child("branch", branch).step("crown", act)
    withered: Flow = Workflow("withered").child("leaf", leaf).step("frost", refuse, retry=PATIENT)
    fallen: Flow = (
        Workflow("fallen").step("root", act, compensate=undo).child("branch", withered)
    )  # fmt: skip
    return [
        Case(
            name="tree: deep",
            workflow=deep,
            runs=3,
            result={"root": "root", "branch": {"leaf": {"grow": "grow"}}, "crown": "crown"},
        ),
        Case(name="tree: fallen", workflow=fallen, status="failed", runs=3),
    ]


SILENCE = {"word": None, "z": "z"}


def timely() -> list[Case]:
    """Time, attempts, messages in order, and what kills its workers."""
    patient: Flow = Workflow("patient").step("third", third_time, retry=PATIENT).sleep("rest", 90)
    fifo: Flow = (
        Workflow("fifo")
        .wait_for_signal("one", "word", timeout=timedelta(days=1))
        .wait_for_signal("two", "word", timeout=timedelta(days=1))
        .sleep("pause", 90)
        .step("after", linger)
    )
    talk: Flow = (
        Workflow("talk")
        .wait_for_signal("one", "word", timeout=timedelta(days=1))
        .step("answer", linger)
        .wait_for_signal("two", "word")
        .step("after", linger)
    )
    silence: Flow = (
        Workflow("silence")
        .wait_for_signal("word", timeout=60, on_timeout="continue")
        .step("z", act)
    )
    late: Flow = Workflow("late").parallel(
        "both", {"slow": Branch(stubborn, timeout=4, retry=PATIENT), "long": linger}
    )
    both: Flow = Workflow("both").parallel("both", {"quick": act, "long": linger})
    # The cancel and the last handler's end are both heard of when the first commit is answered.
    cancelled_at_the_end = Faults(
        Operate(what="cancel"), Delay(verb="commit", seconds=50, when="after")
    )
    poison: Flow = Workflow("poison").step("deadly", act).step("grim", act)
    words = (Signal("word", "first"), Signal("word", "second"))
    return [
        Case(
            name="patient",
            workflow=patient,
            result={"third": 3},
            trials=((Faults(Operate(what="pause")), "suspended"),),
            gaps_s={"third": (10.0, 20.0)},
        ),
        Case(
            name="signals in order",
            workflow=fifo,
            signals=words,
            result={"one": "first", "two": "second", "after": "after"},
            trials=tuple((Faults(Operate(what="cancel", nth=n)), "cancelled") for n in (1, 2)),
        ),
        Case(
            name="talk",
            workflow=talk,
            signals=words[:2],
            result={"one": "first", "answer": "answer", "two": "second", "after": "after"},
        ),
        Case(
            name="busy, then a signal",
            workflow=Workflow("busy").step("lasts", linger).wait_for_signal("word"),
            signals=words[:1],
            result={"lasts": "lasts", "word": "first"},
        ),
        Case(
            name="started twice",
            workflow=pair("step", "sleep").workflow,
            result={"a": "a"},
            trials=((Faults(Operate(what="start")), "completed"),),
        ),
        Case(
            name="cancelled at the end",
            workflow=both,
            result={"both": {"quick": "both/quick", "long": "both/long"}},
            trials=((cancelled_at_the_end, "cancelled"),),
        ),
        Case(name="silence", workflow=silence, result=SILENCE),
        Case(name="too late", workflow=late, result={"both": {"slow": 2, "long": "both/long"}}),
        Case(
            name="poison",
            workflow=poison,
            result={"deadly": "deadly", "grim": "grim"},
            limits=Limits(worker_deaths=3),
            trials=(
                (_deadly("deadly", "deadly"), "completed"),
                (_deadly("deadly", "deadly", "deadly"), "suspended"),
                (_deadly("deadly", "deadly", "grim", "grim"), "completed"),
            ),
        ),
    ]


def corpus() -> list[Case]:
    """All of them, the quick ones first."""
    return [*timely(), *sagas(), *agents(), *trees(), *pairs()]


# --- exploring it --------------------------------------------------------------------------------


@attrs.define
class Totals:
    """What was tried over many cases."""

    cases: int = 0
    points: int = 0
    schedules: int = 0
    states: int = 0
    fired: Counter[str] = attrs.field(factory=Counter)

    def add(self, report: Report) -> None:
        """Count one case."""
        self.cases += 1
        self.points += report.points
        self.schedules += report.schedules
        self.states += report.states
        self.fired.update(report.fired)

    def __str__(self) -> str:
        facts = {"workflows": self.cases, "points": self.points, "schedules": self.schedules,
                 "states": self.states} | dict(sorted(self.fired.items()))  # fmt: skip
        return "\n".join(f"  {name:<12}{number:>9,}" for name, number in facts.items())


def explore_all(cases: Iterable[Case], *, crashes: int = 1, sample: int | None = None) -> Totals:
    """Every single fault of every case. Raises ``CounterexampleError`` for the first that fails."""
    totals = Totals()
    for case in cases:
        report = case.explore(crashes=crashes, sample=sample)
        report.check()
        totals.add(report)
    return totals


def main() -> None:
    """Explore the whole corpus, or the cases whose names hold one of the words given."""
    words = sys.argv[1:]
    cases = [case for case in corpus() if not words or any(word in case.name for word in words)]
    began = time.perf_counter()
    print(explore_all(cases))
    print(f"  {'seconds':<12}{time.perf_counter() - began:>9,.0f}")


if __name__ == "__main__":
    main()
