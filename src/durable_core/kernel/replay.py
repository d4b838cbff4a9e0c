"""Replay: drive a program over its journal to the frontier, and notice when it has changed.

``Frontier`` owns the live program and the tree of what it last asked for. It is told how each
step came out and passes outcomes up: a lone step straight to the program, the steps of an
``All`` or ``First`` through their groups. It never scans: settling one step of ten thousand
costs the same as one of one. Rules:

1. First run and replay take this same road; a recorded step merely settles at once.
2. A unit is asked for once a run. A recorded unit must be asked for again with the same family
   of step, and nothing may be left over when the program stands still.
3. What the program had recorded between two asks (``recorder.py``) counts as asked for.

Must not know entries, time, or what a step's outcome means.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import NondeterminismError
from .failure import Failure
from .fold import Fold, UnitState
from .ids import RUN_UNIT, UnitKey
from .nondeterminism import nondeterminism
from .outcome import Ending, Outcome, Settled, Won
from .program import Program
from .recorder import Recorder
from .step import All, Ask, Call, Child, First, Join, Step, Undo


class Leaf:
    """One step the program asked for, and its place in the tree."""

    __slots__ = ("group", "index", "outcome", "step")

    def __init__(self, step: Step, group: Group | None, index: int) -> None:
        self.step = step
        self.group = group
        self.index = index
        self.outcome: Outcome | None = None

    def leaves(self) -> Iterator[Leaf]:
        """Itself."""
        yield self


SETTLED = Leaf(Join(unit=RUN_UNIT), None, 0)
"""Stands for every step that has come out: nothing of it is needed but that it was asked for."""
SETTLED.outcome = Settled(())


class Group:
    """An ``All`` or ``First`` in progress; its members are steps, or groups again."""

    __slots__ = ("asked", "group", "index", "members", "next", "outcome", "remaining")

    def __init__(self, asked: All | First, group: Group | None, index: int) -> None:
        self.asked = asked
        self.group = group
        self.index = index
        self.outcome: Outcome | None = None
        self.members = [node_of(ask, self, place) for place, ask in enumerate(asked.steps)]
        self.next = 0
        self.remaining = len(self.members)

    def leaves(self) -> Iterator[Leaf]:
        """All steps below it, in order of declaration."""
        for member in self.members:
            yield from member.leaves()

    def open_first(self) -> Sequence[Leaf | Group]:
        """The members to begin with, as many as may run at once."""
        limit = self.asked.max_concurrency if isinstance(self.asked, All) else None
        self.next = len(self.members) if limit is None else min(limit, len(self.members))
        return self.members[: self.next]

    def open_next(self) -> Sequence[Leaf | Group]:
        """One more member, now that one has ended."""
        if self.next >= len(self.members):
            return ()
        self.next += 1
        return (self.members[self.next - 1],)


def node_of(ask: Ask, group: Group | None, index: int) -> Leaf | Group:
    """The tree of what is asked for."""
    if isinstance(ask, All | First):
        return Group(ask, group, index)
    return Leaf(ask, group, index)


class Frontier:
    """Where a program stands. ``outcome`` is what it is to be sent next, when that is known.

    ``stands``: it cannot go on, because it waits for an outcome or is ``over``, either way.
    """

    __slots__ = (
        "_program",
        "_run_id",
        "ending",
        "failure",
        "leaves",
        "losers",
        "outcome",
        "over",
        "races",
        "recorder",
        "stands",
    )

    def __init__(self, run_id: str, program: Program, recorder: Recorder) -> None:
        self._run_id = run_id
        self._program = program
        self.recorder = recorder
        self.leaves: dict[UnitKey, Leaf] = {}
        recorder.asked = self.leaves
        self.outcome: Outcome | None = None
        self.stands = False
        self.over = False
        self.ending: Ending | None = None
        self.failure: Failure | None = None
        self.losers: tuple[Leaf, ...] = ()
        self.races = False  # whether there is a race in what was asked for last

    @property
    def undos(self) -> Mapping[UnitKey, tuple[Call | Child | None, Undo]]:
        """Whatever a rollback may have to call."""
        return self.recorder.undos

    @property
    def continues(self) -> bool:
        """Whether the program has ended only to begin anew."""
        return self.ending is not None and self.ending.continues

    def in_order(self, units: Collection[UnitKey]) -> Iterable[Leaf]:
        """The leaves of these units in the order of the program, however they came to wait."""
        if len(units) == 1:
            return [self.leaves[unit] for unit in units]
        return [leaf for unit, leaf in self.leaves.items() if unit in units]

    def proceed(self) -> Sequence[Leaf]:
        """Send the outcome (None at first) and give the steps that may begin."""
        outcome, self.outcome, self.stands = self.outcome, None, True
        try:
            ask = self._program.send(outcome)
        except StopIteration as end:
            self.ending, self.over = _ending(end.value), True
            return ()
        except NondeterminismError:
            raise
        except Exception as error:  # a failed step, or the program's own fault
            self.failure, self.over = _failure_of(error), True
            return ()
        return self._open(ask)

    def settle(self, leaf: Leaf, outcome: Outcome) -> Sequence[Leaf]:
        """Take a step's outcome; gives the steps that may begin now."""
        begun: list[Leaf] = []
        if leaf.outcome is None:
            self._end(leaf, outcome, begun)
            self.leaves[leaf.step.unit] = SETTLED
        return begun

    def _end(self, node: Leaf | Group, outcome: Outcome, begun: list[Leaf]) -> None:
        """What a step or a group came to, and what that means for the group above it."""
        node.outcome = outcome
        group = node.group
        if group is None:
            self.outcome = outcome
            self.stands = self.over
        elif group.outcome is None:  # else its race is decided
            group.remaining -= 1
            if isinstance(group.asked, First):
                self.losers += tuple(leaf for leaf in group.leaves() if leaf.outcome is None)
                self._end(group, Won(node.index, outcome), begun)
            elif group.remaining == 0:
                self._end(group, Settled(tuple(map(_ended, group.members))), begun)
            else:
                self._begin(group.open_next(), begun)

    def _begin(self, nodes: Sequence[Leaf | Group], begun: list[Leaf]) -> None:
        for node in nodes:
            if isinstance(node, Leaf):
                begun.append(node)
            elif node.members:
                self._begin(node.open_first(), begun)
            else:
                self._end(node, Settled(()), begun)

    def check(self, fold: Fold) -> None:
        """After a replay: every unit must have been asked for that was recorded since the program
        last went on. (Of what a retry kept from before, it may stand in front.)"""
        for unit, state in fold.units.items():
            known = unit in self.leaves or unit in self.recorder.units
            if not known and state.generation >= fold.begun_in:
                new = next((one for one in self.leaves if one not in fold.units), None)
                raise nondeterminism(
                    self._run_id,
                    unit,
                    recorded=f"a {state.family or 'call'} ({state.status.value})",
                    asked="nothing: the program no longer asks for it"
                    if new is None
                    else f"{str(new)!r}, which is not recorded",
                )

    def check_same(self, step: Step, state: UnitState) -> None:
        """A recorded unit must be asked for as what it was, and by the name it had."""
        recorded, asked, name = state.family, step.family, step.name
        if recorded is not None and recorded != asked:
            raise nondeterminism(
                self._run_id, step.unit, recorded=f"a {recorded}", asked=f"a {asked}"
            )
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

    def _open(self, ask: Ask) -> Sequence[Leaf]:
        node = node_of(ask, None, 0)
        if isinstance(node, Leaf):
            self.races = False
            self._register(node)
            return (node,)
        self.races = _has_race(node)
        for leaf in node.leaves():
            self._register(leaf)
        begun: list[Leaf] = []
        self._begin((node,), begun)
        return begun

    def _register(self, leaf: Leaf) -> None:
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
            self.recorder.know(step.unit, step, step.undo)


def _has_race(group: Group) -> bool:
    return isinstance(group.asked, First) or any(
        isinstance(member, Group) and _has_race(member) for member in group.members
    )


def _ended(node: Leaf | Group) -> Outcome:
    assert node.outcome is not None
    return node.outcome


def _ending(value: Any) -> Ending:
    if not isinstance(value, Ending):
        raise TypeError(f"a program must end with an Ending, not {type(value).__name__}")
    return value


def _failure_of(error: Exception) -> Failure:
    failure = getattr(error, "failure", None)
    if isinstance(failure, Failure):
        return failure
    return Failure(type=type(error).__name__, message="the workflow's program raised this")
