"""Properties of replay over random programs: crashes, lost commits and repeats change nothing.

A plan is plain data (a list of blocks); ``body_of`` turns it into a program over kernel steps.
Scripts say how handlers fare. Everything runs through ``World``, which checks the transition
rules at every advance.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from tests.kernel.worlds import Answer, Body, World, boom, call, done, program_of

from durable_core.errors import StepFailed
from durable_core.kernel import journal as j
from durable_core.kernel.event import MessageKind
from durable_core.kernel.ids import UnitKey
from durable_core.kernel.journal import Journal
from durable_core.kernel.outcome import Ending, Failed, Outcome, Settled
from durable_core.kernel.program import ProgramFactory
from durable_core.kernel.run import RunContext, RunStatus
from durable_core.kernel.step import All, Ask, Record, Timer, Wait
from durable_core.kernel.transition import Held, advance
from durable_core.kernel.value import Payload


@attrs.frozen
class Plan:
    """Blocks in order, and the scripted answers by handler."""

    blocks: tuple[tuple[str, int], ...]
    script: Mapping[str, tuple[Answer, ...]]


def program_for(plan: Plan) -> ProgramFactory:
    return program_of(body_of(plan))


def body_of(plan: Plan) -> Body:
    def body(run: RunContext) -> Generator[Ask, Outcome, Ending]:
        for index, (kind, size) in enumerate(plan.blocks):
            outcome = yield ask(kind, f"s{index}", size)
            outcomes = outcome.outcomes if isinstance(outcome, Settled) else (outcome,)
            for one in outcomes:
                if isinstance(one, Failed):
                    raise StepFailed(f"s{index}", one.failure)
        return done(Payload(b'"end"'))

    return body


def ask(kind: str, name: str, size: int) -> Ask:
    match kind:
        case "call":
            return call(name, undo=size % 2 == 0)
        case "all":
            return All(
                steps=tuple(call(name, str(i), undo=i % 2 == 0) for i in range(size)),
                max_concurrency=1 + size // 2,
            )
        case "timer":
            return Timer(unit=UnitKey.of(name), due=lambda now_ms: now_ms + size * 1_000)
        case "record":
            return Record(
                unit=UnitKey.of(name), kind="value_recorded", compute=lambda: Payload(b"%d" % size)
            )
        case _:
            return Wait(
                unit=UnitKey.of(name),
                signal=lambda: f"signal{size % 2}",
                timeout_ms=size * 1_000,
                may_time_out=True,
            )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    kinds = st.sampled_from(["call", "call", "all", "timer", "record", "wait"])
    blocks = tuple(draw(st.lists(st.tuples(kinds, st.integers(1, 4)), min_size=1, max_size=5)))
    answers = st.sampled_from([(b"1",), (boom(), b"2"), (boom(), boom(), b"3"), (boom(),)])
    script: dict[str, tuple[Answer, ...]] = {}
    for index, (kind, size) in enumerate(blocks):
        for unit in units_of(kind, f"s{index}", size):
            script[unit] = draw(answers)
            script[f"undo {unit}"] = draw(answers)
    return Plan(blocks, script)


def units_of(kind: str, name: str, size: int) -> list[str]:
    if kind == "call":
        return [name]
    return [f"{name}/{i}" for i in range(size)] if kind == "all" else []


def world_of(plan: Plan, **facts: Any) -> World:
    script = {name: list(answers) for name, answers in plan.script.items()}
    world = World(body_of(plan), script, **facts)
    world.deliver(MessageKind.SIGNAL, "signal0", Payload(b'"early"'))
    return world


def shape(world: World) -> list[tuple[str, str]]:
    return [(entry.kind, str(entry.unit)) for entry in world.journal]


def last_entry(world: World) -> j.Entry:
    """The last entry, but for its number and its time, and for the order of siblings: those that
    could not be undone are listed in the order in which they had ended."""
    entry: j.Entry = attrs.evolve(world.journal[-1], seq=0, at_ms=0)
    if isinstance(entry, j.RunFailed):
        entry = attrs.evolve(entry, not_compensated=tuple(sorted(entry.not_compensated)))
    return entry


@given(plans(), st.sets(st.integers(0, 60), max_size=10))
def test_crashes_change_nothing_but_the_number_of_calls(plan: Plan, crashes: set[int]) -> None:
    plain, crashed = world_of(plan), world_of(plan)

    assert plain.finish() is crashed.finish(crash_before=crashes)
    # Which sibling ends first may differ after a crash; what is recorded of each may not.
    assert sorted(shape(plain)) == sorted(shape(crashed))
    assert last_entry(plain) == last_entry(crashed)
    plain.check()
    crashed.check()


@given(plans())
def test_every_prefix_of_a_journal_continues_to_the_same_end(plan: Plan) -> None:
    whole = world_of(plan)
    status = whole.finish()
    for length in range(len(whole.journal)):
        again = world_of(plan)
        again.journal = Journal(whole.journal[:length])
        consumed = {e.message for e in again.journal if isinstance(e, j.SignalConsumed)}
        again.inbox = [message for message in again.inbox if message.seq not in consumed]
        again.now_ms = again.journal[-1].at_ms if length else again.now_ms
        rolling_back = any(isinstance(e, j.RollbackStarted) for e in again.journal)
        again.status = RunStatus.COMPENSATING if rolling_back else RunStatus.RUNNING

        assert again.finish() is status
        again.check()
        assert done_units(again) == done_units(whole)


def done_units(world: World) -> set[tuple[str, str]]:
    return {
        (entry.kind, str(entry.unit))
        for entry in world.journal
        if isinstance(entry, j.UnitCompleted | j.UnitFailed | j.UnitCompensated | j.RunFailed)
    }


@given(plans())
def test_advancing_twice_changes_nothing(plan: Plan) -> None:
    world = world_of(plan)
    transition = world.advance()
    while not transition.ended:
        if world.held is not None:
            again = world.held.advance([], world.now_ms)
            assert not again.entries and not again.attempts and not again.consumed
        transition = world.go_on(transition)


@given(plans())
def test_warm_and_cold_cursors_give_equal_transitions(plan: Plan) -> None:
    world = world_of(plan)
    transition = world.advance()
    while not transition.ended:
        if not world.out and transition.resume_at_ms is not None:
            world.now_ms = max(world.now_ms, transition.resume_at_ms)
            cold = advance(
                world.run,
                program_for(plan),
                Journal(list(world.journal)),
                world.inbox,
                world.now_ms,
            )
            warm_cursor = Held(world.run, program_for(plan), Journal(list(world.journal)))
            warm_cursor.advance(world.inbox, 0)  # nothing is due yet
            warm = warm_cursor.advance([], world.now_ms)
            assert warm.entries == cold.entries
            assert warm.status is cold.status
            assert [a.key for a in cold.attempts] == [a.key for a in warm.attempts]
            transition = world.advance()
        else:
            transition = world.advance(world.report(world.out.pop(0)))


@given(plans(), st.integers(0, 30), st.sampled_from(["compensate", "terminate"]))
def test_a_cancellation_at_any_moment_ends_the_run_and_keeps_the_rules(
    plan: Plan, moment: int, mode: str
) -> None:
    world = world_of(plan)
    transition = world.advance()
    steps = 0
    while not transition.ended:
        if steps == moment:
            world.deliver(MessageKind.CANCEL, mode=mode)
            world.deliver(MessageKind.CANCEL, mode=mode)
        steps += 1
        transition = world.go_on(transition)
        assert steps < 500
    world.check()
    assert world.inbox == [m for m in world.inbox if m.kind == MessageKind.SIGNAL]


@given(plans())
def test_an_ended_run_takes_nothing_more(plan: Plan) -> None:
    world = world_of(plan)
    status = world.finish()
    world.deliver(MessageKind.CANCEL, mode="compensate")
    world.deliver(MessageKind.PAUSE)
    transition = world.advance()
    assert transition.ended and transition.status is status
    assert transition.entries == ()
