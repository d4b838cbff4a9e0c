"""Strategies: Hypothesis draws plans of faults, whole workflows, and values that can be stored.

::

    @given(st.builds(Cart), faults(checkout))
    def test_nothing_is_paid_twice(cart, plan):
        assert simulate(checkout, cart, plan, deps=FakeShop).committed("pay") <= 1

Everything shrinks towards the quiet and the small: towards ``Faults()``, a workflow of one step,
``None``. ``st.from_type(Workflow)`` and ``st.from_type(Faults)`` work where this package is
installed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache, lru_cache
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ..errors import DurableError
from ..kernel.journal import UndoRegistered
from ..kernel.policy import Retry
from ..workflow.coded import CodedWorkflow
from ..workflow.nodes import (
    SKIP,
    Branch,
    ChildNode,
    LoopNode,
    MapNode,
    Node,
    ParallelNode,
    RouteNode,
    Undo,
    works_of,
)
from ..workflow.registry import Definition, Registry
from ..workflow.steps import Step
from . import plan as f
from .generated import (
    After,
    Awaits,
    Generated,
    Gives,
    Items,
    Picks,
    Seconds,
    Sums,
    Undoes,
    Unit,
)
from .plan import Fault, Faults
from .references import named_in
from .simulation import Simulation

__all__ = ["faults", "payloads", "schedules", "workflows"]

DEPTH_MAX = 4
SIGNALS = ("go", "stop")
"""The names of the signals that drawn workflows wait for."""


# --- faults --------------------------------------------------------------------------------------


def faults(
    workflow: Definition,
    *,
    max_faults: int = 3,
    signals: Collection[Any] = (),
    races: bool = True,
    children: Sequence[Definition] = (),
    seen: Simulation | None = None,
) -> SearchStrategy[Faults]:
    """Plans for this workflow: its units, its children's, and their compensators among them.

    ``signals``: what ``simulate`` is given; if there are any, they also come late and again.
    ``races`` False leaves out what may change a result by right: an operator, handlers that
    raise or are slow, late signals, a clock that jumps. ``children``: workflows that are children
    by name only. ``seen``: a simulation, whose units are taken too; a body of code may give its
    steps keys that cannot be seen in it.
    """
    _check_size(max_faults, "max_faults", 0)
    found = [*_units(Registry((workflow, *children))), *(() if seen is None else _seen(seen))]
    units = tuple(dict.fromkeys(found))
    return _plans(max_faults, units, races, bool(signals))


def schedules(max_faults: int = 3) -> SearchStrategy[Faults]:
    """Plans for any workflow: what happens to processes, leases and calls of the store."""
    _check_size(max_faults, "max_faults", 0)
    return _plans(max_faults)


@st.composite
def _plans(
    draw: st.DrawFn,
    max_faults: int,
    units: tuple[str, ...] = (),
    races: bool = False,
    signals: bool = False,
) -> Faults:
    kinds = [_of_units(units)] * (2 * bool(units)) + [_of_verbs()] * 2
    if races:
        kinds += [_raised(units)] * bool(units) + [_outside()]
        kinds += [_signals()] * signals
    return Faults(
        *draw(st.lists(st.one_of(kinds), max_size=max_faults, unique=True)),
        workers=draw(st.sampled_from((2, 1, 3))),
        seed=draw(st.integers(0, 3)),
        always_suspend=draw(st.sampled_from((False, False, False, True))),
        embedded=draw(st.sampled_from((False, False, True))),
    )


def _check_size(size: object, what: str, least: int) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < least:
        raise DurableError(f"{what} must be a whole number from {least}, not {size!r}")


_nth = st.sampled_from((1, 1, 1, 2, 3))
_call = st.integers(1, 5) | st.integers(1, 25)
_when = st.sampled_from(f.WHENS)
_verb = st.sampled_from(("commit", "commit", "commit", "claim", "renew", *f.VERBS))


@lru_cache(maxsize=100)
def _of_units(units: Sequence[str]) -> SearchStrategy[Fault]:
    unit = st.sampled_from(units)
    crash = st.builds(f.Crash, unit=unit, nth=_nth, when=_when)
    pause = st.builds(f.Pause, unit=unit, nth=_nth, when=_when, leases=_leases)
    return st.one_of(crash, crash, pause)


_leases = st.sampled_from((1.5, 0.5, 1.0, 4.0))
_delays = st.sampled_from((1.0, 12.0, 75.0))
_SKEWS_S = (1.0, -1.0, 3_600.0, -86_400.0, 1e8)


@cache
def _of_verbs() -> SearchStrategy[Fault]:
    crash = st.builds(f.Crash, verb=_verb, nth=_call, when=_when)
    return st.one_of(
        crash,
        crash,
        st.builds(
            f.StoreError,
            verb=_verb,
            nth=_call,
            kind=st.sampled_from(f.STORE_ERRORS),
            times=st.sampled_from((1, 1, 1, 3, f.OUTAGE)),
        ),
        st.builds(f.Delay, verb=_verb, nth=_call, when=_when, seconds=_delays),
        st.builds(f.Pause, verb=_verb, nth=_call, when=_when, leases=_leases),
        st.builds(f.Theft, nth=_call),
        st.builds(f.Stop, nth=_call, grace=st.sampled_from((0.0, 5.0))),
        st.builds(f.Interrupt, nth=st.integers(1, 30) | st.integers(1, 200)),
        st.builds(f.Skew, worker=st.integers(1, 3), seconds=st.sampled_from(_SKEWS_S)),
    )


@lru_cache(maxsize=100)
def _raised(units: Sequence[str]) -> SearchStrategy[Fault]:
    unit = st.sampled_from(units)
    return st.one_of(
        st.builds(f.Raising, unit=unit, times=st.integers(1, 4)),
        st.builds(f.Raising, unit=unit, when=st.just("after")),
        st.builds(f.Slow, unit=unit, nth=_nth, seconds=st.sampled_from((60.0, 1.0, 7_200.0))),
    )


@cache
def _outside() -> SearchStrategy[Fault]:
    jumps = (3_600.0, 1.0, 40.0, -1.0, -3_600.0, 86_400.0)
    return st.one_of(
        st.builds(f.Operate, what=st.sampled_from(f.OPERATIONS), nth=_call),
        st.builds(f.ClockJump, nth=_call, seconds=st.sampled_from(jumps)),
    )


@cache
def _signals() -> SearchStrategy[Fault]:
    return st.builds(f.SignalAt, nth=_call, copies=st.integers(1, 2), reverse=st.booleans())


def _units(registry: Registry) -> Iterator[str]:
    """The units whose handlers a fault can be at; of items and iterations the first three."""
    for definition in registry:
        if isinstance(definition, CodedWorkflow):
            yield from _units_of_body(definition)
        for node in getattr(definition, "nodes", ()):
            yield from _units_of(node)


def _units_of_body(workflow: CodedWorkflow[Any, Any]) -> Iterator[str]:
    """The steps that can be seen in a body; what it calls again is called ``#2``."""
    for name, found in named_in(workflow).items():
        yield from (name, f"{name}#2")
        if isinstance(found, Step) and found.work.undo is not None:
            yield f"undo {name}"


def _seen(sim: Simulation) -> Iterator[str]:
    """The units a simulation called, and their compensators."""
    for call in sim.world.calls:
        yield call.label
        if call.has_undo and not call.label.startswith("undo "):
            yield f"undo {call.label}"
    for run_id in sim.runs:
        for entry in sim.history(run_id):
            if isinstance(entry, UndoRegistered):
                yield f"undo {entry.unit}"


def _units_of(node: Node) -> Iterator[str]:
    for entry, work in works_of(node):
        match node:
            case MapNode() | LoopNode():
                units = [f"{node.name}/{index}" for index in range(3)]
            case ParallelNode() | RouteNode():
                units = [f"{node.name}/{entry}"]
            case _:
                units = [node.name]
        yield from units
        if work.undo is not None:
            yield from (f"undo {unit}" for unit in units)
    if isinstance(node, ChildNode) and node.undo is not None:
        yield f"undo {node.name}"


# --- values --------------------------------------------------------------------------------------


def payloads(max_leaves: int = 10) -> SearchStrategy[Any]:
    """Values that any handler may give, without an annotation: JSON, the builtins beside it
    (dates, decimals, UUIDs, bytes, tuples, sets), and nests of them."""
    leaf = _leaves()
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(_texts(), inner, max_size=4),
            st.lists(inner, max_size=3).map(tuple),
            st.frozensets(leaf, max_size=3),
            st.sets(leaf, max_size=3),
        ),
        max_leaves=max_leaves,
    )


@cache
def _texts() -> SearchStrategy[str]:
    """Text the codec takes, some of it looking like its tags."""
    tricky = ("", "$", "$date", "$$", "$as", "é", "\x00", "😀")
    return st.text(max_size=12) | st.sampled_from(tricky)


@cache
def _leaves() -> SearchStrategy[Any]:
    zones = st.none() | st.builds(
        lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)), st.integers(-720, 840)
    )
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        _texts(),
        st.binary(max_size=12),
        st.decimals(allow_nan=False, allow_infinity=False),
        st.uuids(),
        st.dates(),
        st.datetimes(timezones=zones),
        st.times(timezones=zones),
        st.timedeltas(),
    )


# --- workflows -----------------------------------------------------------------------------------

Part = Callable[[Generated, str], Generated]
"""Adds one step of this name."""


def workflows(max_depth: int = DEPTH_MAX, *, suspends: bool = True) -> SearchStrategy[Any]:
    """Well-formed workflows of all kinds of steps, with retries, timeouts and compensators.

    Their handlers are deterministic and do nothing to the world; some always fail, so that runs
    fail and are rolled back too. They wait for the signals ``"go"`` and ``"stop"``, never for
    ever, and, with ``suspends``, return ``Suspend`` once: give ``simulate`` a ``resume=``.
    ``max_depth`` bounds how deep children lie in children; 1 is a workflow without any.
    """
    _check_size(max_depth, "max_depth", 1)
    return _workflows(min(max_depth, DEPTH_MAX), suspends)


@st.composite
def _workflows(draw: st.DrawFn, depth: int, suspends: bool) -> Generated:
    return _built("main", draw(_parts(depth, suspends, 5)))


@cache
def _parts(depth: int, suspends: bool, most: int) -> SearchStrategy[Any]:
    kinds = [*_flat(suspends)]
    if depth > 1:
        kinds.append(st.builds(_child, _parts(depth - 1, suspends, 2), _maybe(_undos(suspends))))
    return st.tuples(st.lists(st.one_of(kinds), min_size=1, max_size=most), st.booleans())


def _built(name: str, drawn: tuple[list[Part], bool]) -> Generated:
    parts, returns = drawn
    workflow = Generated(name)
    for number, part in enumerate(parts):
        workflow = part(workflow, f"s{number}")
    return workflow.returns(Sums()) if returns else workflow


def _child(drawn: tuple[list[Part], bool], undo: Any) -> Part:
    def add(workflow: Generated, name: str) -> Generated:
        child = _built(f"{workflow.name}-{name}", drawn)
        return workflow.child(name, child, compensate=undo)

    return add


@cache
def _flat(suspends: bool) -> tuple[SearchStrategy[Part], ...]:
    """Steps of all kinds but children; a kind that stands first is what others shrink to."""
    work = _works(suspends)
    branch = _branches(suspends)
    few = st.none() | st.integers(1, 2)
    return (
        st.builds(_adding, st.just("step"), work, transactional=st.booleans()),
        st.builds(_parallel, st.lists(branch, min_size=1, max_size=3), max_concurrency=few),
        st.builds(
            _adding,
            st.just("map"),
            work,
            st.builds(Items, st.integers(0, 3)),
            max_concurrency=few,
            min_success=st.none() | st.integers(0, 1),
        ),
        st.builds(_route, st.lists(branch, min_size=1, max_size=2), st.none() | branch),
        st.builds(_loop, work, st.integers(1, 3), st.booleans(), st.booleans(), st.booleans()),
        st.builds(_adding, st.just("sleep"), st.just({}), _moments()),
        st.builds(_wait, st.none() | st.sampled_from(SIGNALS), st.sampled_from((60, 1, 86_400)),
                  st.sampled_from(("continue", "continue", "fail"))),
    )  # fmt: skip


def _adding(kind: str, work: dict[str, Any], *first: Any, **options: Any) -> Part:
    """Call the builder's method of this name."""

    def add(workflow: Generated, name: str) -> Generated:
        given = dict(work)
        handler = [given.pop("handler")] if given else []
        added: Generated = getattr(workflow, kind)(name, *first, *handler, **given, **options)
        return added

    return add


def _parallel(branches: list[Branch], max_concurrency: int | None) -> Part:
    def add(workflow: Generated, name: str) -> Generated:
        entries = {f"{name}-{number}": branch for number, branch in enumerate(branches)}
        return workflow.parallel(name, entries, max_concurrency=max_concurrency)

    return add


def _route(branches: list[Branch], rest: Branch | None) -> Part:
    keys = ("left", "right")[: len(branches)]

    def add(workflow: Generated, name: str) -> Generated:
        known = dict(zip(keys, branches, strict=True))
        picks = Picks((*keys, "nowhere"))
        return workflow.route(name, picks, known, otherwise=SKIP if rest is None else rest)

    return add


def _loop(work: dict[str, Any], count: int, feeds: bool, collects: bool, begins: bool) -> Part:
    feedback = {"feedback": Unit()} if feeds else {}
    initial = {"initial": 0} if begins else {}
    return _adding(
        "loop", work, until=After(count), max_iterations=3, collect=collects, **feedback, **initial
    )


def _wait(signal: str | None, timeout: int, on_timeout: Any) -> Part:
    def add(workflow: Generated, name: str) -> Generated:
        return workflow.wait_for_signal(name, signal, timeout=timeout, on_timeout=on_timeout)

    return add


@cache
def _works(suspends: bool) -> SearchStrategy[dict[str, Any]]:
    """A handler and its policies."""
    return st.fixed_dictionaries(
        {
            "handler": _handlers(suspends),
            "compensate": _maybe(_undos(suspends)),
            "retry": _retries(),
            "timeout": st.sampled_from((None, None, 120)),
        }
    )


@cache
def _branches(suspends: bool) -> SearchStrategy[Branch]:
    return _works(suspends).map(lambda work: Branch(**work))


@cache
def _handlers(suspends: bool) -> SearchStrategy[Gives | Awaits]:
    values = st.none() | st.integers(0, 9) | payloads(3)
    failing = st.sampled_from((0, 0, 0, 0, 1, 2, 9))
    pauses = st.sampled_from((False, False, False, suspends))
    seconds = st.sampled_from((0.0, 0.0, 1.0, 45.0))
    plain = st.builds(Gives, values, failing=failing, suspends=pauses)
    return plain | st.builds(Awaits, values, seconds=seconds, failing=failing, suspends=pauses)


@cache
def _undos(suspends: bool) -> SearchStrategy[Undo]:
    handlers = st.builds(
        Undoes,
        failing=st.sampled_from((0, 0, 0, 1, 9)),
        suspends=st.sampled_from((False, False, False, suspends)),
    )
    return st.builds(Undo, handlers, retry=_retries())


@cache
def _retries() -> SearchStrategy[Retry | None]:
    quick = Retry(max_attempts=3, initial=dt.timedelta(milliseconds=100), jitter=0.5)
    return st.sampled_from((None, quick, Retry(max_attempts=1)))


@cache
def _moments() -> SearchStrategy[Any]:
    return st.sampled_from((1, 0, 90, 86_400)) | st.builds(Seconds, st.sampled_from((0.5, 60.0)))


def _maybe(strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.none() | strategy
