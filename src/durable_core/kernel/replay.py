"""Replay: drive a program over its journal to the frontier, and notice when it has changed.

``Frontier`` owns the live program and the tree of what it last asked for. It is told how each
step came out and passes outcomes up: a lone step straight to the program, the steps of an
``All`` or ``First`` through their group. It never scans: settling one step of ten thousand
costs the same as one of one. Rules:

1. First run and replay take this same road; a recorded step merely settles at once.
2. A unit is asked for once a run. A recorded unit must be asked for again with the same family
   of step, and nothing may be left over when the program stands still.
3. What the program had recorded between two asks (``recorder.py``) counts as asked for.

Must not know entries, time, or what a step's outcome means.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import NondeterminismError, StepFailed
from .decide import family_of, name_of
from .failure import Failure
from .fold import Fold, UnitState
from .ids import UnitKey
from .nondeterminism import nondeterminism
from .outcome import Ending, Outcome, Settled, Won
from .program import Program
from .recorder import Recorder
from .step import All, Ask, Call, Child, First, Join, Step


class Leaf:
    """One step the program asked for, and its place in the tree."""

    __slots__ = ("group", "index", "outcome", "step")

    def __init__(self, step: Step, group: Group | None, index: int) -> None:
        self.step = step
        self.group = group
        self.index = index
        self.outcome: Outcome | None = None


class Group:
    """An ``All`` or ``First`` in progress."""

    __slots__ = ("asked", "leaves", "next", "remaining")

    def __init__(self, asked: All | First) -> None:
        self.asked = asked
        self.leaves = [Leaf(step, self, index) for index, step in enumerate(asked.steps)]
        self.next = 0
        self.remaining = len(self.leaves)

    def open_first(self) -> list[Leaf]:
        """The steps to begin with, as many as may run at once."""
        limit = self.asked.max_concurrency if isinstance(self.asked, All) else None
        self.next = len(self.leaves) if limit is None else min(limit, len(self.leaves))
        return self.leaves[: self.next]

    def open_next(self) -> list[Leaf]:
        """One more step, now that one has ended."""
        if self.next >= len(self.leaves):
            return []
        self.next += 1
        return [self.leaves[self.next - 1]]


class Frontier:
    """Where a program stands. ``outcome`` is what it is to be sent next, when that is known."""

    def __init__(self, run_id: str, program: Program, recorder: Recorder) -> None:
        self._run_id = run_id
        self._program = program
        self.recorder = recorder
        self.leaves: dict[UnitKey, Leaf] = {}
        self.undos = recorder.undos
        self.outcome: Outcome | None = None
        self.started = False
        self.ending: Ending | None = None
        self.failure: Failure | None = None
        self.losers: list[Leaf] = []

    @property
    def over(self) -> bool:
        """Whether the program has ended, either way."""
        return self.ending is not None or self.failure is not None

    @property
    def continues(self) -> bool:
        """Whether the program has ended only to begin anew."""
        return self.ending is not None and self.ending.continues

    def proceed(self) -> list[Leaf]:
        """Send the outcome (None at first) and give the steps that may begin."""
        outcome, self.outcome, self.started = self.outcome, None, True
        try:
            ask = self._program.send(outcome)
        except StopIteration as end:
            self.ending = _ending(end.value)
            return []
        except StepFailed as error:
            self.failure = _failure_of(error)
            return []
        except NondeterminismError:
            raise
        except Exception as error:  # the program's own fault is the run's failure
            self.failure = _failure_of(error)
            return []
        return self._open(ask)

    def settle(self, leaf: Leaf, outcome: Outcome) -> list[Leaf]:
        """Take a step's outcome; gives the steps that may begin now."""
        if leaf.outcome is not None:
            return []
        leaf.outcome = outcome
        group = leaf.group
        if group is None:
            self.outcome = outcome
            return []
        group.remaining -= 1
        if isinstance(group.asked, First):
            if group.remaining == len(group.leaves) - 1:
                self.outcome = Won(leaf.index, outcome)
                self.losers += [other for other in group.leaves if other.outcome is None]
            return []
        if group.remaining == 0:
            self.outcome = Settled(tuple(_ended(other) for other in group.leaves))
            return []
        return group.open_next()

    def check(self, fold: Fold) -> None:
        """After a replay: every unit recorded in this generation must have been asked for."""
        for unit, state in fold.units.items():
            known = unit in self.leaves or unit in self.recorder.units
            if not known and state.generation == fold.generation:
                raise nondeterminism(
                    self._run_id,
                    unit,
                    recorded=f"a {state.family or 'step'} ({state.status.value})",
                    asked="nothing: the program no longer asks for it",
                )

    def check_same(self, leaf: Leaf, state: UnitState) -> None:
        """A recorded unit must be asked for as what it was, and by the name it had."""
        step, recorded = leaf.step, state.family
        asked = family_of(step)
        if recorded is not None and recorded != asked:
            raise nondeterminism(
                self._run_id, step.unit, recorded=f"a {recorded}", asked=f"a {asked}"
            )
        name = name_of(step)
        if name is not None and state.name is not None and name != state.name:
            raise nondeterminism(
                self._run_id,
                step.unit,
                recorded=f"a {asked} named {state.name!r}",
                asked=f"a {asked} named {name!r}",
            )

    def close(self) -> None:
        """Drop the program; a body that misbehaves on the way out is ignored."""
        try:
            self._program.close()
        except Exception:  # a dropped cursor must never hurt the run
            return

    def _open(self, ask: Ask) -> list[Leaf]:
        if isinstance(ask, All | First):
            group = Group(ask)
            if not group.leaves:
                self.outcome = Settled(())
                return []
            self._register(group.leaves)
            return group.open_first()
        leaf = Leaf(ask, None, 0)
        self._register((leaf,))
        return [leaf]

    def _register(self, leaves: Iterable[Leaf]) -> None:
        for leaf in leaves:
            step = leaf.step
            if step.unit in self.leaves and not isinstance(step, Join):
                raise nondeterminism(
                    self._run_id,
                    step.unit,
                    recorded="asked for once already",
                    asked="the same unit again",
                )
            self.leaves[step.unit] = leaf
            if isinstance(step, Call | Child) and step.undo is not None:
                self.undos[step.unit] = (step, step.undo)


def _ended(leaf: Leaf) -> Outcome:
    assert leaf.outcome is not None
    return leaf.outcome


def _ending(value: Any) -> Ending:
    if not isinstance(value, Ending):
        raise TypeError(f"a program must end with an Ending, not {type(value).__name__}")
    return value


def _failure_of(error: Exception) -> Failure:
    failure = getattr(error, "failure", None)
    if isinstance(failure, Failure):
        return failure
    return Failure(type=type(error).__name__, message="the workflow's program raised this")
