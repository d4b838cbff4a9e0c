"""Runner: one leased run in memory: advance, commit, act, until nothing is ready.

No task of its own: it is called when an attempt ends, mail comes, time is up, or a commit is
answered. Rules:

1. Decide, commit, act: attempts of a transition start only when it is durable.
2. At most one commit is in flight; what happens meanwhile gathers for the next advance.
3. Any verdict but *applied* means that the run is not ours: handlers are cancelled and
   everything in memory is dropped, without another word to the store.
4. While the worker drains, nothing new is started; when nothing runs any more, the run is
   handed back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from ..errors import InvariantError
from ..kernel.event import Event
from ..kernel.invariants import check_transition
from ..kernel.outcome import Attempt, AttemptKey, Transition
from ..kernel.reports import Report
from ..kernel.run import RunStatus
from ..kernel.transition import Held
from ..store import Commit, CommitVerdict, InboxRecord, Lease, RunRecord
from .attempts import Reporter
from .clock import StoreClock
from .mapping import commit_of, hand_back, message_arrived

log = logging.getLogger("durable.worker")


class Surface(Protocol):
    """What a runner needs of its worker."""

    clock: StoreClock
    draining: bool

    def submit(self, commit: Commit, answer: Callable[[CommitVerdict | None], None]) -> None:
        """Have this written."""
        ...

    def start_attempt(self, attempt: Attempt, runner: Reporter) -> None:
        """Call a handler, when there is a slot."""
        ...

    def stop_attempt(self, key: AttemptKey, runner: Reporter) -> None:
        """Cancel a handler; it will be reported on."""
        ...

    def drop_attempts(self, runner: Reporter) -> None:
        """Cancel all handlers of the run, unreported."""
        ...

    def transact(self, attempt: Attempt, runner: Runner) -> None:
        """Call a handler inside the transaction that commits its entry."""
        ...

    def committed(self, runner: Runner, transition: Transition) -> None:
        """A transition is durable; others may have to be woken."""
        ...

    def let_go(self, runner: Runner) -> None:
        """The run is not held any more."""
        ...

    def lost(self, runner: Runner, verdict: CommitVerdict | None) -> None:
        """The run turned out not to be ours."""
        ...


class Runner:
    """A run this worker holds."""

    def __init__(self, surface: Surface, record: RunRecord, held: Held) -> None:
        self.record = record
        self.held = held
        self.status = RunStatus(record.status)
        self.closed = False
        self.seen = 0
        self.exclusive = False  # a transactional attempt has the run's commits to itself
        self._surface = surface
        self._events: list[Event] = []
        self._committing = False
        self._out = 0  # attempts started and not reported
        self._timer: asyncio.TimerHandle | None = None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.record.run_id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self.record.workflow

    @property
    def lease(self) -> Lease:
        """The lease as it stands."""
        return Lease(run_id=self.record.run_id, epoch=self.record.epoch, seen=self.seen)

    @property
    def quiet(self) -> bool:
        """No commit is in flight and no transaction is open."""
        return not self._committing and not self.exclusive

    # --- what comes in -------------------------------------------------------------------------

    def begin(self, inbox: Iterable[InboxRecord]) -> None:
        """The run was just claimed, with these messages."""
        self._take(inbox)
        self.go_on()

    def mail(self, inbox: Iterable[InboxRecord]) -> None:
        """Messages came in while the run is held."""
        if not self.closed and self._take(inbox):
            self.go_on()

    def _take(self, inbox: Iterable[InboxRecord]) -> bool:
        fresh = [record for record in inbox if record.seq > self.seen]
        for record in fresh:
            self.seen = max(self.seen, record.seq)
            self._events.append(message_arrived(record))
        return bool(fresh)

    def nudge(self) -> None:
        """The run's commits are free again: go on with what has gathered."""
        if self._events:
            self.go_on()
        elif self._surface.draining:
            self._hand_back_when_idle()

    def attempt_ended(self, report: Report) -> None:
        """An attempt was reported on."""
        if self.closed:
            return
        self._out -= 1
        self._events.append(report)
        self.go_on()

    # --- decide, commit, act -------------------------------------------------------------------

    def go_on(self) -> None:
        """Advance with what has gathered, unless a commit is in flight."""
        if self.closed or not self.quiet:
            return
        transition = self.decide()
        if transition is None:
            return
        if transition.writes:
            self._committing = True
            commit = commit_of(transition, self.record, self.record.epoch, self.seen)
            self._surface.submit(commit, lambda verdict: self._answered(transition, verdict))
        else:
            self._act(transition)

    def decide_with(self, report: Report) -> Transition | None:
        """The transition by this report and what has gathered, for whoever commits it."""
        self._out -= 1
        self._events.append(report)
        return self.decide()

    def decide(self) -> Transition | None:
        """The next transition; None (and the run dropped) if this library is at fault."""
        events, self._events = self._events, []
        self._cancel_timer()
        try:
            transition = self.held.advance(events, self._surface.clock.now_ms())
            check_transition(self.run_id, self.status, transition)
        except Exception as error:
            # Nothing was written. The lease is left to expire: a run that does this again
            # and again is held as poisoned, instead of going round for ever.
            log.error(
                "run %s cannot be advanced; this is a fault of the library: %s",
                self.run_id,
                error if isinstance(error, InvariantError) else type(error).__name__,
                exc_info=error,
            )
            self.drop()
            return None
        return transition

    def _answered(self, transition: Transition, verdict: CommitVerdict | None) -> None:
        self._committing = False
        if self.closed:
            return
        if verdict is not CommitVerdict.APPLIED:
            self.lose(verdict)
            return
        self.applied(transition)

    def applied(self, transition: Transition) -> None:
        """The transition is durable: act on it, and go on with what gathered meanwhile."""
        self.status = transition.status
        self._surface.committed(self, transition)
        if transition.ended or transition.release:
            self.drop()
            return
        self._act(transition)
        if self._events:
            self.go_on()

    def _act(self, transition: Transition) -> None:
        for key in transition.stop:
            self._surface.stop_attempt(key, self)
        if self._surface.draining:
            self._hand_back_when_idle()
            return
        for attempt in transition.attempts:
            self._out += 1
            if attempt.transactional:
                self._surface.transact(attempt, self)
            else:
                self._surface.start_attempt(attempt, self)
        if transition.resume_at_ms is not None and not self.closed:
            delay_ms = transition.resume_at_ms - self._surface.clock.now_ms()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(delay_ms, 0) / 1000, self.go_on)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- letting go ----------------------------------------------------------------------------

    def drain(self) -> None:
        """The worker stops: hand the run back as soon as no handler runs."""
        self._hand_back_when_idle()

    def _hand_back_when_idle(self) -> None:
        if self._out == 0 and self.quiet and not self._events:
            self.give_back()

    def give_back(self) -> None:
        """Cancel what runs, unreported, and hand the run back, due at once."""
        if self.closed or not self.quiet:
            return
        self._committing = True
        self._cancel_timer()
        self._surface.drop_attempts(self)
        status = self.status if self.status is RunStatus.COMPENSATING else RunStatus.SUSPENDED
        commit = hand_back(
            self.record,
            self.record.epoch,
            status=status,
            generation=self.held.generation,
            after_seq=len(self.held.journal),
            seen=self.seen,
            due_at_ms=self._surface.clock.now_ms(),
        )
        self._surface.submit(commit, lambda verdict: self.drop())

    def lose(self, verdict: CommitVerdict | None) -> None:
        """The run is not ours, or it cannot be known: drop it and say so."""
        if not self.closed:
            self._surface.lost(self, verdict)
            self.drop()

    def drop(self) -> None:
        """Forget the run."""
        if self.closed:
            return
        self.closed = True
        self._cancel_timer()
        self._surface.drop_attempts(self)
        self.held.close()
        self._surface.let_go(self)
