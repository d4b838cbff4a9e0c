"""Transition: advance a run. The only door the engine uses.

``advance(run, program, journal, events, now)`` turns what happened into entries, replays the
program to its frontier, asks ``decide`` for every step there, and answers with one
``Transition``. ``Held`` is the same with a warm cursor: it keeps the fold and the live program
between calls, so that a run in memory is never replayed; warm and cold give equal transitions.

The order inside one advance, which is all there is to know about precedence:

1. A cold cursor is replayed over what is recorded; nothing new is recorded by that.
2. What became of attempts (a success that comes late is recorded and can be undone).
3. Messages, in arrival order; signals only wait for whoever takes them.
4. Due timers, retries and time-outs; then the program, as far as it gets.
5. Stopping, if it failed, was cancelled, or its deadline passed: attempts are cancelled and
   children told; neither a rollback nor an end is recorded while one of them is out.
6. The rollback, one compensation at a time.
7. What the engine is to do: attempts to start (none while paused or parked), or the lease given
   up because there is nothing to do before a time (unless that is near) or a message.

What does not fit the code or the codec at hand is parked instead, once reports are taken in; of
its messages those are applied that need no definition.

Whoever gets any other verdict than *applied* for the transition throws the ``Held`` away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import assert_never

import attrs

from ..errors import NondeterminismError
from . import journal as j
from .agenda import Agenda
from .attempting import attempt_of
from .decide import decide, precedence, started
from .draft import Draft
from .empty import NO_DICT, NO_LIST
from .ending import Ender
from .event import Event, MessageArrived, MessageKind
from .failure import Failure
from .fold import Fold, UnitState
from .ids import UnitKey
from .in_flight import InFlight
from .journal import Journal
from .messages import take_anyway, take_message, unattended
from .nearness import claimable_from, is_near
from .outcome import (
    Attempt,
    Attempting,
    AttemptKey,
    ChildStart,
    Completed,
    Failed,
    Holding,
    Recording,
    Started,
    TimedOut,
    Transition,
)
from .parking import DEFINITION_CHANGED, LIFTED, UNDECODABLE, again_ms
from .program import ProgramFactory, UnreadableError
from .recorder import Recorder
from .replay import Frontier, Leaf
from .reports import Report, take_report
from .run import RunContext, RunStatus, Waiting
from .tables import UnitStatus
from .waits import open_suspensions, waiting_for


def advance(
    run: RunContext,
    program: ProgramFactory | None,
    journal: Journal,
    events: Sequence[Event],
    now_ms: int,
) -> Transition:
    """One transition from a cold start: a function of its arguments and of nothing else."""
    return Held(run, program, journal).advance(events, now_ms)


class Held:
    """One run in memory: its journal, and a disposable cursor over it."""

    __slots__ = (
        "_agenda",
        "_deaths",
        "_draft",
        "_ender",
        "_fold",
        "_frontier",
        "_in_flight",
        "_program",
        "_signals",
        "_undecided",
        "journal",
        "run",
    )

    def __init__(
        self,
        run: RunContext,
        program: ProgramFactory | None,
        journal: Journal,
    ) -> None:
        """``program`` None: the definition is unknown, so only terminate, pause and unpause are
        handled. Raises ``EncodingError``."""
        self.run = run
        self.journal = journal
        self._program = program
        self._fold = Fold.of(run.run_id, journal)
        self._frontier: Frontier | None = None
        self._in_flight = InFlight()
        self._agenda = Agenda()
        self._undecided: list[Leaf] = NO_LIST
        self._deaths = run.deaths
        self._ender = Ender(self._in_flight)
        self._signals: dict[str, deque[MessageArrived]] = NO_DICT
        self._draft = Draft(run, self._fold, 0, self._signals)

    @property
    def length(self) -> int:
        """The number of the last entry."""
        return self._fold.length

    @property
    def generation(self) -> int:
        """The run's current generation, from 1."""
        return self._fold.generation

    def close(self) -> None:
        """Drop the live program."""
        if self._frontier is not None:
            self._frontier.close()

    def advance(self, events: Sequence[Event], now_ms: int) -> Transition:
        """Take in events and time; the answer is to be committed, then acted on."""
        draft = self._draft = Draft(self.run, self._fold, now_ms, self._signals)
        if self._frontier is not None:
            self._frontier.recorder.draft = draft
        try:
            self._work(draft, events)
        except NondeterminismError as error:
            self._park(draft, events, DEFINITION_CHANGED, str(error))
        except UnreadableError as error:
            self._park(draft, events, UNDECODABLE, str(error))
        self.journal = (Journal() if draft.renews else self.journal).extend(draft.entries)
        transition = self._answer(draft)
        del self._draft  # there may be thousands of runs at rest, and none needs it
        if self._frontier is not None:
            del self._frontier.recorder.draft
        return transition

    # --- the order of precedence ---------------------------------------------------------

    def _work(self, draft: Draft, events: Sequence[Event]) -> None:
        messages = [event for event in events if isinstance(event, MessageArrived)]
        self._hold_poisoned(messages)
        if self._frontier is None and self._program is not None:
            self._replay(messages)
        for event in events:
            if not isinstance(event, MessageArrived):
                self._take_report(event)
        for message in messages:
            self._take_message(message)
        if self._fold.ended is not None:
            return  # reopened by a message that changes nothing: it ends as it had ended
        self._fire_due()
        self._go_on(draft)
        if draft.renews:  # with the next generation, once: it may ask for nothing at all
            self.restart()
            self._go_on(draft)
        self._queue_undo()

    def _go_on(self, draft: Draft) -> None:
        """The program, as far as it gets; then as far towards the end as can be gone."""
        frontier = self._frontier
        if self._undecided or (frontier is not None and not frontier.stands):
            undecided, self._undecided = self._undecided, NO_LIST
            self._drive(deque(sorted(undecided, key=lambda one: precedence(one.step.unit, draft))))
        if self.run.deadline_ms is not None:
            self._pass_deadline()
        self._ender.conclude(draft, frontier)

    def _hold_poisoned(self, messages: Iterable[MessageArrived]) -> None:
        """Before any user code runs: a run that keeps killing its workers is held."""
        parked = self._fold.parked
        is_held = parked is not None and parked.reason not in LIFTED
        if self._deaths < self.run.limits.worker_deaths or is_held:
            return
        if not any(message.kind == MessageKind.RETRY for message in messages):
            self._hold("poisoned", f"{self._deaths} workers died holding it, without progress")

    def _hold(self, reason: str, message: str) -> None:
        parked = self._fold.parked
        if parked is None or not ({parked.reason, reason} <= LIFTED or parked.reason == reason):
            failure = Failure(type="RunParked", message=message)
            self._draft.record(j.RunParked, reason=reason, failure=failure)

    def _park(self, draft: Draft, events: Sequence[Event], reason: str, message: str) -> None:
        """It does not fit. The cursor is thrown away; what handlers came to is recorded, and what
        needs no definition is done."""
        self.close()
        self._frontier = None
        for event in events:
            if not isinstance(event, MessageArrived):
                self._take_report(event)
        for event in events:
            if isinstance(event, MessageArrived) and event.seq not in draft.consumed:
                take_anyway(draft, event)
        self._ender.stop_attempts(draft)
        self._ender.conclude(draft, None)
        if self._fold.ended is None:
            self._hold(reason, message)

    def _replay(self, messages: Iterable[MessageArrived]) -> None:
        parked = self._fold.parked
        retried = any(message.kind == MessageKind.RETRY for message in messages)
        if parked is not None and parked.reason not in LIFTED and not retried:
            return  # held: no user code runs
        self.restart()
        if parked is not None and parked.reason in LIFTED:
            self._draft.record(j.RunUnparked)

    def restart(self) -> None:
        """Begin (again) from the journal: drive over what is recorded, and check that it fits.
        Raises ``NondeterminismError``."""
        assert self._program is not None
        self.close()
        recorder = Recorder(self.run.run_id, self._fold, self._draft)
        given = self._fold.input
        run = self.run if given is None else attrs.evolve(self.run, input=given)
        self._frontier = Frontier(run.run_id, self._program(run, recorder), recorder)
        self._agenda = Agenda()
        self._undecided = NO_LIST
        self._ender.forget()
        self._drive(deque(), recorded_only=True)
        recorder.replaying = False
        self._frontier.check(self._fold)

    # --- what comes in -------------------------------------------------------------------------

    def _take_report(self, report: Report) -> None:
        attempt = self._in_flight.pop(report.key)
        if attempt is None:
            return  # reported twice, or never started by this holder
        leaf = self._leaf(report.key)
        lost_race = leaf is not None and leaf.outcome is not None
        take_report(self._draft, attempt, report, lost_race=lost_race)
        self._look_again(leaf)

    def _take_message(self, message: MessageArrived) -> None:
        if message.kind == MessageKind.SIGNAL:
            self._take_signal(message)
            return
        if self._program is None and not unattended(message):
            return  # left in the inbox for a worker that knows the workflow
        generation = self._fold.generation
        key = take_message(self._draft, message)
        if message.kind == MessageKind.RETRY:
            self._deaths = 0
            if self._fold.generation != generation:
                self.restart()
        if key is not None:
            self._look_again(self._leaf(key))

    def _take_signal(self, message: MessageArrived) -> None:
        self._draft.signals = self._signals = self._signals or {}
        self._signals.setdefault(message.name, deque()).append(message)
        units = self._agenda.who_wait_for(message.name)
        if units and self._frontier is not None and self._fold.going:
            self._drive(deque(self._frontier.in_order(units)))

    def _fire_due(self) -> None:
        keys = self._agenda.due(self._draft.now_ms)
        if keys:  # all of them before what begins because of one
            self._drive(deque(leaf for leaf in map(self._leaf, keys) if leaf is not None))
            self._fire_due()

    def _pass_deadline(self) -> None:
        deadline_ms = self._deadline_ms()
        if deadline_ms is not None and deadline_ms <= self._draft.now_ms:
            self._draft.record(j.DeadlinePassed)

    def _deadline_ms(self) -> int | None:
        """The deadline, as long as it can still fail the run."""
        if self.run.deadline_ms is None:
            return None
        over = self._frontier is not None and self._frontier.over
        if self._fold.deadline_waived or over or not self._fold.going:
            return None
        return self.run.deadline_ms

    # --- the program ---------------------------------------------------------------------------

    def _leaf(self, key: AttemptKey) -> Leaf | None:
        if key.compensating or self._frontier is None:
            return None
        return self._frontier.leaves.get(key.unit)

    def _look_again(self, leaf: Leaf | None) -> None:
        """Something happened to this unit: decide it anew, and let the program go on."""
        if leaf is not None:
            self._drive(deque((leaf,)))

    def _drive(self, todo: deque[Leaf], *, recorded_only: bool = False) -> None:
        """Decide what is to be decided, and let the program go on, until it stands still."""
        frontier = self._frontier
        if frontier is None or not (self._fold.going or self._fold.units):
            return  # a run that was stopped before it began is not begun
        while True:
            if frontier.losers and not recorded_only:
                self._drop_losers(frontier)  # before another of them is decided
            if todo:
                self._decide(frontier, todo.popleft(), todo, recorded_only=recorded_only)
            elif frontier.stands:
                return
            else:
                self._add(todo, frontier.proceed())

    def _add(self, todo: deque[Leaf], begun: Iterable[Leaf]) -> None:
        """Steps to decide; where they race, recorded ones settle in the order they ended in."""
        todo.extend(begun)
        if self._frontier is not None and self._frontier.races:
            ordered = sorted(todo, key=self._ended_seq)
            todo.clear()
            todo.extend(ordered)

    def _ended_seq(self, leaf: Leaf) -> int:
        state = self._fold.units.get(leaf.step.unit)
        return state.ended_seq if state is not None and state.ended else self._fold.length + 1

    def _decide(
        self, frontier: Frontier, leaf: Leaf, todo: deque[Leaf], *, recorded_only: bool
    ) -> None:
        step, fold = leaf.step, self._fold
        while leaf.outcome is None:
            state = fold.units.get(step.unit)
            if state is not None:
                frontier.check_same(step, state)
            is_started = state is not None and started(step, state) is not None
            if state is None or not (state.ended or is_started):
                if recorded_only:
                    self._undecided = self._undecided or []
                    self._undecided.append(leaf)
                    return
                if not fold.going or fold.parked is not None:
                    return
            elif not is_started and fold.is_late(state):
                return  # it came too late: it can be undone, and the program is not told
            outcome = decide(step, state, self._draft)
            match outcome:
                case Completed() | Failed() | TimedOut() | Started():
                    begun = frontier.settle(leaf, outcome)
                    if begun:
                        self._add(todo, begun)
                case Recording():
                    self._record(outcome)
                case Attempting():
                    self._make_ready(AttemptKey(unit=step.unit))
                    return
                case Holding():
                    self._wait(step.unit, state, outcome.until_ms)
                    return
                case _:
                    assert_never(outcome)

    def _record(self, outcome: Recording) -> None:
        entry = outcome.entry
        self._draft.append(entry)
        if outcome.consumed is not None:
            signal = self._fold.units[entry.unit].signal
            assert signal is not None
            taken = self._signals[signal].popleft()
            assert taken.seq == outcome.consumed, "signals are consumed in arrival order"
            self._draft.consumed.append(outcome.consumed)
            if not isinstance(entry, j.SignalRejected):
                self._agenda.wait_no_more(signal, entry.unit)
        if outcome.child is not None:
            assert isinstance(entry, j.ChildStarted)
            self._draft.children.append(
                ChildStart(run_id=entry.child_id, unit=entry.unit, spec=outcome.child)
            )

    def _wait(self, unit: UnitKey, state: UnitState | None, until_ms: int | None) -> None:
        if state is not None and state.status is UnitStatus.AWAITING and state.signal is not None:
            self._agenda.wait_for(state.signal, unit)
        if until_ms is not None:
            self._agenda.remind_at(until_ms, AttemptKey(unit=unit))

    def _make_ready(self, key: AttemptKey) -> None:
        if self._in_flight.get(key) is None:
            self._agenda.make_ready(key)

    def _drop_losers(self, frontier: Frontier) -> None:
        losers, frontier.losers = frontier.losers, ()
        for leaf in losers:
            key = AttemptKey(unit=leaf.step.unit)
            leaf.outcome = Failed(Failure(type="Cancelled", message="another step was first"))
            self._agenda.unready(key)
            state = self._fold.units.get(key.unit)
            attempt = self._in_flight.get(key)
            if attempt is not None:
                self._ender.stop_attempt(self._draft, attempt)
            elif state is not None and state.status is UnitStatus.WITH_CHILD:
                self._ender.cancel_child(self._draft, key.unit, state, "compensate")
            elif state is None or not state.ended:
                if state is not None and state.token is not None:
                    self._draft.tokens_closed.append(state.token)
                if state is not None and state.signal is not None:
                    self._agenda.wait_no_more(state.signal, key.unit)
                self._draft.record(j.UnitCancelled, key.unit)

    def _queue_undo(self) -> None:
        ready, due = self._ender.next_undo
        if ready is not None:
            self._make_ready(ready)
        if due is not None:
            self._agenda.remind_at(due[1], due[0])

    # --- the answer ----------------------------------------------------------------------------

    def _answer(self, draft: Draft) -> Transition:
        fold = self._fold
        ended = fold.ended is not None
        notice = self._ender.notice(draft, self._frontier) if ended else None
        if notice is not None:
            draft.messages.append(notice)
        attempts = () if ended else self._attempts()
        resume_at_ms = None if ended else self._resume_at_ms()
        rests = not draft.entries and is_near(resume_at_ms, draft.now_ms)
        release = not (ended or self._in_flight or rests)
        waiting: tuple[Waiting, ...] = ()
        if release:
            waiting = waiting_for(fold, self.run.limits.waits)
        elif fold.tokens and not ended:
            waiting = open_suspensions(fold, self.run.limits.waits)
        return Transition(
            after_seq=draft.after_seq,
            status=self._status(release=release),
            generation=fold.generation,
            entries=tuple(draft.entries),
            attempts=attempts,
            stop=tuple(draft.stop) if draft.stop else (),
            consumed=tuple(draft.consumed) if draft.consumed else (),
            children=tuple(draft.children) if draft.children else (),
            messages=tuple(draft.messages) if draft.messages else (),
            tokens_opened=tuple(draft.tokens_opened) if draft.tokens_opened else (),
            tokens_closed=tuple(draft.tokens_closed) if draft.tokens_closed else (),
            waiting=waiting,
            failure=self._ender.failure(fold),
            resume_at_ms=resume_at_ms,
            release=release,
            claim_at_ms=claimable_from(resume_at_ms, draft.now_ms) if release else None,
            ended=ended,
            renews=draft.renews,
        )

    def _status(self, *, release: bool) -> RunStatus:
        fold = self._fold
        if fold.ended is not None:
            return self._ender.final_status(fold)
        if fold.rollback is not None:
            return RunStatus.COMPENSATING
        return RunStatus.SUSPENDED if release else RunStatus.RUNNING

    def _attempts(self) -> tuple[Attempt, ...]:
        fold = self._fold
        if not self._agenda.is_ready or fold.paused is not None or fold.parked is not None:
            return ()
        assert self._frontier is not None
        attempts = []
        for key in self._agenda.take_ready():
            if key.compensating or fold.going:
                attempt = attempt_of(self._frontier, fold, key)
                self._in_flight.add(attempt)
                attempts.append(attempt)
        return tuple(attempts)

    def _resume_at_ms(self) -> int | None:
        fold = self._fold
        if fold.parked is not None:
            return again_ms(fold.parked.reason, fold.parked.at_ms, self._draft.now_ms)
        deadline_ms = self._deadline_ms()
        if fold.paused is not None:
            return deadline_ms
        frontier = self._frontier
        again = self._draft.renews and frontier is not None and frontier.continues
        if self._program is None or again:
            return self._draft.now_ms  # for a worker that knows the workflow, or to begin anew
        due_ms = self._agenda.next_ms(self._is_over)
        if due_ms is None or not (fold.going or fold.rollback is not None):
            return deadline_ms
        return due_ms if deadline_ms is None else min(due_ms, deadline_ms)

    def _is_over(self, key: AttemptKey) -> bool:
        leaf = self._leaf(key)
        return leaf is not None and leaf.outcome is not None
