"""Points: where in a simulation something could have gone wrong, as faults that make it so.

A point is a fault and a ``mark``: what would go wrong, where, and how all runs stood there. Two
points with one mark are the same as far as anybody can tell, however they were come to; so a
search that tries every mark once ends, though a crash makes new calls of the store, and those
can fail in their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from .checks import Compare
from .plan import (
    OUTAGE,
    STORE_ERRORS,
    WHENS,
    Crash,
    Delay,
    Fault,
    Interrupt,
    Pause,
    Raising,
    SignalAt,
    Skew,
    Slow,
    Stop,
    StoreError,
    Theft,
)
from .simulation import Simulation
from .witness import Moment

Mark = tuple[Any, ...]

ALWAYS = 99
"""So often a unit raises that is to fail for good."""
SLOW_S = 75.0
"""Two and a half leases: they have to be renewed meanwhile."""
A_MOMENT_S = 2.0
"""So long a worker that ends waits for the store without a word."""
SKEWS_S = (-86_400.0, 86_400.0)
"""So far the clocks of one worker are off."""
TOO_SLOW = 1.5
"""So many times its timeout a handler takes that is to run out of time."""


@attrs.frozen(slots=True)
class Point:
    """A fault, its mark, the line of the chronicle where it strikes, and what must be as it is
    without it. Some faults show nothing without a second one."""

    faults: tuple[Fault, ...]
    mark: Mark
    event: int
    compare: Compare = "same"
    spreads: bool = True
    """Whether places that come to light under it are tried in their turn. Not under what a worker
    gets over by itself, or what brings to light what crashes do as well."""

    @property
    def kills(self) -> bool:
        """Whether it is a crash, or a pause past the lease."""
        return isinstance(self.faults[-1], Crash | Pause)


def points_of(sim: Simulation, *, after: int = -1) -> Iterator[Point]:
    """Every point of a simulation behind this line of its chronicle, in order."""
    for moment in sim.world.witness.moments:
        if moment.event > after:
            yield from _of_call(moment) if moment.verb is not None else _of_handler(moment)


def _of_call(moment: Moment) -> Iterator[Point]:
    verb, nth = str(moment.verb), moment.nth

    def point(make: Callable[..., Fault], *how: str, spreads: bool = True, **place: Any) -> Point:
        mark = (make.__name__, verb, how, moment.standing, moment.entries)
        return Point((make(**place),), mark, moment.event, spreads=spreads)

    for when in WHENS:
        yield point(Crash, when, verb=verb, nth=nth, when=when)
        if verb == "commit":
            yield point(Pause, when, verb=verb, nth=nth, when=when)
            yield point(Delay, when, spreads=False, verb=verb, nth=nth, when=when, seconds=SLOW_S)
    for kind in STORE_ERRORS:
        yield point(StoreError, kind, verb=verb, nth=nth, kind=kind)
    if verb == "commit":
        yield point(StoreError, "outage", spreads=False, verb=verb, nth=nth, times=OUTAGE)
        yield point(Theft, nth=nth)
    yield point(Stop, nth=moment.total)


def _of_handler(moment: Moment) -> Iterator[Point]:
    unit, nth, call = str(moment.unit), moment.nth, moment.call
    assert call is not None, "the witness keeps the call with the moment"
    for kind in (Crash, Pause):
        for when in WHENS:
            mark = (kind.__name__, unit, when, moment.standing)
            yield Point((kind(unit=unit, nth=nth, when=when),), mark, moment.event)
    if call.timeout_ms is None and nth == 1:
        slow = Slow(unit=unit, seconds=SLOW_S)
        yield Point((slow,), ("Slow", unit), moment.event)
    elif call.timeout_ms is not None and nth == 1:
        slow = Slow(unit=unit, seconds=TOO_SLOW * call.timeout_ms / 1_000)
        yield Point((slow,), ("Slow", unit), moment.event, "free")


def at_any_await(sim: Simulation) -> Iterator[Point]:
    """The worker is cancelled at each turn of the event loops in its turn."""
    turn = 0
    for moment in (*sim.world.witness.moments, None):
        event = len(sim.world.chronicle) if moment is None else moment.event
        last = sim.world.turns if moment is None else moment.turn
        for nth in range(turn + 1, last + 1):
            mark = ("Interrupt", nth)
            yield Point((Interrupt(nth=nth),), mark, event - 1, spreads=False)
        turn = last


def begun_at_work(sim: Simulation) -> Iterator[Point]:
    """What can go wrong until a run that was started or woken where it is worked on has made its
    first commit there; behind that, it is a run like any other."""
    open_, at_work = True, set()
    for moment in sim.world.witness.moments:
        open_ = open_ or moment.verb == "deliver_and_claim"
        if open_:
            at_work |= {moment.event - 1, moment.event}
        open_ = open_ and moment.verb != "commit"
    for point in (*points_of(sim), *at_any_await(sim)):
        if point.event in at_work:
            yield attrs.evolve(point, mark=("embedded", *point.mark))


def cancelled_in_need(sim: Simulation) -> Iterator[Point]:
    """The worker is cancelled again while it drains, and while it waits for a slow claim."""
    for moment in sim.world.witness.moments:
        first, event = moment.turn + 1, moment.event
        for later in (2, 4, 6):
            twice = (Interrupt(nth=first), Interrupt(nth=first + later))
            yield Point(twice, ("Interrupt", first, later), event)
        if moment.verb == "claim":
            slow = Delay(verb="claim", nth=moment.nth, seconds=A_MOMENT_S, when="after")
            for turn in range(first, first + 5):
                yield Point((slow, Interrupt(nth=turn)), ("Delay", "Interrupt", turn), event)


def clocks_off(sim: Simulation) -> Iterator[Point]:
    """The clocks of one worker show another time than all others."""
    for worker in range(1, sim.plan.workers + 1):
        for seconds in SKEWS_S:
            fault = Skew(worker=worker, seconds=seconds)
            yield Point((fault,), ("Skew", worker, seconds), len(sim.world.chronicle))


def stolen_while_slow(sim: Simulation) -> Iterator[Point]:
    """The lease is stolen, and the next handler takes long: its worker, that knows nothing, goes
    on, and renews what is not its own."""
    commit: Moment | None = None
    for moment in sim.world.witness.moments:
        if moment.verb == "commit":
            commit = moment
        if commit is not None and moment.call is not None and moment.call.timeout_ms is None:
            slow = Slow(unit=moment.call.label, nth=moment.nth, seconds=SLOW_S)
            mark = ("Theft", "Slow", moment.unit, moment.standing)
            yield Point((Theft(nth=commit.nth), slow), mark, moment.event)
            commit = None


def raised_once(sim: Simulation) -> Iterator[Point]:
    """Each unit that may be tried again raises once. What it comes to may show the number of the
    attempt, but the same has to happen to the same units. A unit that fails or suspends by
    itself is left alone: it may have no attempt to spare."""
    calls: dict[str, list[Moment]] = {}
    for moment in sim.world.witness.moments:
        if moment.unit is not None:
            calls.setdefault(moment.unit, []).append(moment)
    for unit, (first, *more) in calls.items():
        call = first.call
        if call is not None and not more and call.retryable and call.attempts_max > 1:
            for when in WHENS:
                fault = Raising(unit=unit, when=when)
                yield Point((fault,), ("Raising", unit, when), first.event, "alike")


def failed_for_good(sim: Simulation) -> Iterator[Point]:
    """Each unit fails in all its attempts. That changes the result by right; what can be undone
    is undone then, and nothing that goes wrong meanwhile may change that."""
    for moment in sim.world.witness.moments:
        call = moment.call
        if call is not None and moment.nth == 1 and call.attempts_max < ALWAYS:
            fault = Raising(unit=call.label, times=ALWAYS)
            yield Point((fault,), ("Raising", call.label), moment.event, "free")


def signals_again(sim: Simulation, *, early: bool, distinct: bool) -> Iterator[Point]:
    """The signals come late, again, and in another order. ``early``: they were all there before
    the run began to work, so that each is known when it comes again. ``distinct``: there are
    several, and no two of one name."""
    awaited = False
    for moment in sim.world.witness.moments:
        if moment.verb != "commit":
            continue
        nth, event = moment.nth, moment.event
        again = SignalAt(nth=nth, copies=2)
        yield Point((again,), ("SignalAt", nth), event, "same" if early else "free")
        if early and not awaited:
            yield Point((SignalAt(nth=nth, late=True),), ("SignalAt", nth, "late"), event)
            if distinct:
                other = SignalAt(nth=nth, late=True, reverse=True)
                yield Point((other,), ("SignalAt", nth, "reverse"), event)
        awaited = awaited or "signal_awaited" in moment.entries
