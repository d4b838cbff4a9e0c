"""Asserting: ``assert_durable``, the one line that puts a workflow through everything.

::

    def test_checkout_is_durable():
        assert_durable(checkout, st.builds(Cart), deps=FakeShop, check=nothing_is_paid_twice)

First every single fault is tried for the simplest input (``explore``), then random plans for
random inputs; what fails is made as small as Hypothesis can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from hypothesis import HealthCheck, Phase, Verbosity, find, given, settings
from hypothesis import strategies as st

from ..errors import DurableError
from ..kernel.limits import Limits
from ..workflow.registry import Definition
from .checks import unsteady_units, violations
from .counterexample import Counterexample, CounterexampleError, checked
from .explore import OTHER_DATE_MS, explore
from .names import UnknownUnitError
from .plan import Faults
from .simulate import NOT_GIVEN, Signal, simulate
from .simulation import Simulation
from .strategies import faults
from .surroundings import unheard
from .witness import Violation
from .world import SimulationLimitError


def assert_durable(
    workflow: Definition,
    inputs: Any = None,
    *,
    deps: Callable[[], Any] | None = None,
    signals: Mapping[str, Any] | Sequence[Signal] = (),
    resume: Any = NOT_GIVEN,
    check: Callable[[Simulation], Any] | None = None,
    snapshot: Callable[[Any], Any] | None = None,
    max_examples: int = 100,
    max_faults: int = 3,
    crashes: int = 1,
    children: Sequence[Definition] = (),
    conn: Callable[[], Any] | None = None,
    limits: Limits | None = None,
) -> None:
    """Raises ``CounterexampleError`` (an ``AssertionError``) with the smallest plan under which
    something is not as it should be.

    ``inputs``: one input, or a strategy for them. Checked are the engine's rules, that the result
    does not depend on the schedule, and ``check(sim)``, with your own assertions; it is called
    for runs that failed or were cancelled too, so look at ``sim.status``. ``crashes`` and
    ``snapshot``: as for ``explore``; ``crashes=0`` leaves that part out. ``max_examples`` bounds
    the random plans of at most ``max_faults`` each. The rest is as for ``simulate``.
    """
    if isinstance(crashes, bool) or crashes not in (0, 1, 2):
        raise DurableError(f"crashes must be 0, 1 or 2, not {crashes!r}")
    strategy = inputs if isinstance(inputs, st.SearchStrategy) else st.just(inputs)
    world: dict[str, Any] = {
        "deps": deps,
        "signals": signals,
        "resume": resume,
        "children": children,
        "conn": conn,
        "limits": limits,
    }
    with unheard():
        if crashes:
            _explore(
                workflow,
                strategy,
                world | {"crashes": crashes, "check": check, "snapshot": snapshot},
            )
        _assert(workflow, strategy, check, max_examples, max_faults, world)


def _explore(
    workflow: Definition, strategy: st.SearchStrategy[Any], how: Mapping[str, Any]
) -> None:
    simplest = find(strategy, lambda _: True, settings=_settings(1))
    try:
        explore(workflow, simplest, **how).check()
    except CounterexampleError as error:
        error.add_note(_told(workflow.name, simplest))
        raise


def _assert(
    workflow: Definition,
    strategy: st.SearchStrategy[Any],
    check: Callable[[Simulation], Any] | None,
    max_examples: int,
    max_faults: int,
    world: Mapping[str, Any],
) -> None:
    judge = _Judge(workflow, partial(simulate, workflow, **world), check)
    signals, children = world["signals"], world["children"]
    seen = judge.quiet_with(find(strategy, lambda _: True, settings=_settings(1)))
    plans = faults(workflow, max_faults=max_faults, signals=signals, children=children, seen=seen)

    @_settings(max_examples)
    @given(strategy, plans)
    def survives(input: Any, plan: Faults) -> None:
        judge.judge(input, plan)

    survives()


def _settings(max_examples: int) -> settings:
    return settings(
        max_examples=max_examples,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )


class _Judge:
    """Simulates one plan and one input, and raises what is wrong with that."""

    def __init__(
        self,
        workflow: Definition,
        play: Callable[..., Simulation],
        check: Callable[[Simulation], Any] | None,
    ) -> None:
        self._name = workflow.name
        self._play = play
        self._check = check
        self._quiet: _Quiet | None = None

    def judge(self, input: Any, plan: Faults) -> None:
        """Raises ``CounterexampleError``."""
        quiet = self._quiet_with(input)
        try:
            sim = self._play(input, plan)
        except UnknownUnitError:
            return  # with this input a body of code does not come to it
        except SimulationLimitError as limit:
            sim, found, error = limit.simulation, [Violation("I-LIVE", str(limit))], None
        else:
            found, error = self._found(sim, quiet)
        if found:
            raised = CounterexampleError(Counterexample(plan, sim, tuple(found), error))
            raised.add_note(_told(self._name, input))
            raise raised from error

    def quiet_with(self, input: Any) -> Simulation:
        """What comes of this input when nothing goes wrong."""
        return self._quiet_with(input).sim

    def _found(
        self, sim: Simulation, quiet: _Quiet
    ) -> tuple[list[Violation], BaseException | None]:
        found = violations(sim, quiet.sim, unsteady=quiet.unsteady)
        complaint = None if self._check is None else checked(self._check, sim)
        if complaint is None:
            return found, None
        return [complaint[0], *found], complaint[1]

    def _quiet_with(self, input: Any) -> _Quiet:
        """Kept for as long as the input is the same object."""
        if self._quiet is None or self._quiet.input is not input:
            sim = self._play(input)
            other = self._play(input, Faults(seed=1), start_ms=OTHER_DATE_MS)
            self._quiet = _Quiet(input, sim, unsteady_units(sim, other))
        return self._quiet


@attrs.frozen(slots=True)
class _Quiet:
    """What a workflow does with an input when nothing goes wrong."""

    input: Any
    sim: Simulation
    unsteady: frozenset[tuple[str, str]]


def _told(workflow: str, input: Any) -> str:
    return f"workflow {workflow!r} with the input {input!r}"
