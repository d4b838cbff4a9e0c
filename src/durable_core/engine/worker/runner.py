"""Runner: one leased run in memory: advance, commit, act, until nothing is ready.

No task of its own: it is called when an attempt ends, when mail comes, when time is up, and when
a commit is answered. Rules:

1. Decide, commit, act: the attempts of a transition start only when it is durable.
2. At most one commit of the run is in flight, a transaction included; what happens meanwhile
   gathers for the next advance.
3. Any verdict but *applied*, and those of rule 4, means that the run is not ours: handlers are
   cancelled and everything in memory is dropped, without another word to the store.
4. Of a run that rests until a moment, time decides by a commit that the store refuses before that
   moment (*early*: it is sent again) and where a message came that was not heard (*unheard*: the
   run is given up as it was, and goes on wherever it is claimed). So nothing is passed over that
   was acknowledged before the moment; and because the store's clock counts, the commit may be
   sent a little before, to be there when it comes.
5. While the worker drains, nothing new is started; when nothing of the run is out any more, it
   is handed back, due at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from ...errors import DurableError
from ...kernel.empty import NO_LIST
from ...kernel.event import AttemptStopped, Event
from ...kernel.invariants import check_transition
from ...kernel.nearness import is_claimable
from ...kernel.outcome import Transition
from ...kernel.reports import Report
from ...kernel.run import RunStatus
from ...kernel.transition import Held
from ...store import Commit, CommitVerdict, InboxRecord, Lease, RunRecord, Store
from ..clock import AGAIN_S, Backoff, StoreClock
from ..mapping import commit_of, hand_back, message_arrived, texts_of
from .attempts import Call
from .committer import Answer
from .resting import Resting
from .slots import Slots

log = logging.getLogger("durable.worker")


class Surface(Protocol):
    """What a runner needs of its worker."""

    store: Store
    clock: StoreClock
    slots: Slots
    draining: bool
    resting: Resting[Runner]

    def soon(self, runner: Runner) -> None:
        """Have its ``turn`` called in the next turn of the loop."""
        ...

    def submit(self, commit: Commit, answer: Answer) -> None:
        """Have this written."""
        ...

    async def transact(self, runner: Runner, call: Call) -> Report | None:
        """Make the call inside the transaction that commits its entry."""
        ...

    def backoff(self) -> Backoff:
        """Pauses for a store that cannot be reached."""
        ...

    @property
    def lead_s(self) -> float:
        """How long before a moment a commit for it may be sent."""
        ...

    @property
    def patience_s(self) -> float:
        """How long an unavailable store is asked again."""
        ...

    def lasts(self, runner: Runner) -> bool:
        """Whether the run's lease has not ended yet, as far as can be known here."""
        ...

    def committed(self, runner: Runner, transition: Transition) -> None:
        """A transition is durable: others may have to be woken."""
        ...

    def given_up(self, runner: Runner, transition: Transition) -> None:
        """The run was let go because there is nothing to do now, and all that is in memory of it
        is in the store."""
        ...

    def let_go(self, runner: Runner) -> None:
        """The run is not held any more."""
        ...

    def wake(self) -> None:
        """Runs may be due."""
        ...

    def lost(self, runner: Runner, why: str) -> None:
        """The run turned out not to be ours."""
        ...


class Runner:
    """A run that this worker holds."""

    __slots__ = (
        "_busy",
        "_events",
        "_failure",
        "_out",
        "_rested",
        "_resume_at_ms",
        "_scheduled",
        "_surface",
        "_timer",
        "_turns",
        "_waiting",
        "closed",
        "epoch",
        "held",
        "priority",
        "queue",
        "run_id",
        "seen",
        "status",
    )

    def __init__(self, surface: Surface, record: RunRecord, held: Held) -> None:
        self.run_id = record.run_id
        # The record itself would be half a kilobyte that nobody asks for any more.
        self.epoch = record.epoch
        self.queue = record.queue
        self.priority = record.priority
        self.held = held
        self.status = RunStatus(record.status)
        self.seen = 0  # the highest message number that was taken in
        self.closed = False
        self._surface = surface
        self._events: list[Event] = NO_LIST
        self._busy = False  # a commit is in flight, or a transaction has the run to itself
        self._scheduled = False
        self._out = 0  # attempts started and not reported on
        self._waiting, self._failure = record.waiting, record.failure  # as of the last commit
        self._timer: asyncio.TimerHandle | None = None
        self._resume_at_ms: int | None = None  # until which it rests
        self._rested = False  # because that is about to come
        self._turns: tuple[asyncio.Future[None], ...] = ()  # transactions waiting for theirs

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self.held.run.workflow

    @property
    def depth(self) -> int:
        """How many parents it has above it."""
        return self.held.run.depth

    @property
    def surface(self) -> Surface:
        """The worker that holds the run."""
        return self._surface

    @property
    def lease(self) -> Lease:
        """The lease as it stands."""
        return Lease(run_id=self.run_id, epoch=self.epoch, seen=self.seen)

    # --- what comes in -------------------------------------------------------------------------

    def begin(self, inbox: Iterable[InboxRecord], claimed_ms: int) -> None:
        """The run was claimed at this time, with the messages that had come until then, so what
        is due later has to wait for its moment (rule 4). Raises ``EncodingError``."""
        self._take(inbox)
        self._go_on(claimed_ms)

    def mail(self, inbox: Iterable[InboxRecord]) -> None:
        """Messages came in while the run is held."""
        if self.closed:
            return
        try:
            fresh = self._take(inbox)
        except DurableError as error:
            self.fail(error)
            return
        if fresh:
            self._soon()

    def _take(self, inbox: Iterable[InboxRecord]) -> bool:
        fresh = [record for record in inbox if record.seq > self.seen]
        for record in fresh:
            self._events = self._events or []
            self._events.append(message_arrived(record))
            self.seen = max(self.seen, record.seq)
        return bool(fresh)

    def foresee(self, message: InboxRecord, epoch: int, now_ms: int) -> tuple[Transition, Commit]:
        """Of a run that was ``given_up``: what it makes of its next message under this epoch, if it
        gets it: then ``answered`` is called; else, or if this raises, it is of no use any more."""
        self.closed, self._busy, self.epoch = False, True, epoch
        if self.status in (RunStatus.PENDING, RunStatus.SUSPENDED):
            self.status = RunStatus.RUNNING
        self._take((message,))
        events, self._events = self._events, NO_LIST
        transition = self.held.advance(events, now_ms)
        check_transition(self.run_id, self.status, transition)
        # A message that nobody here has heard of goes before this one.
        return transition, commit_of(transition, self, epoch, self.seen, not_before_ms=0)

    def attempt_ended(self, report: Report) -> None:
        """An attempt was reported on."""
        if self.closed:
            return
        self._out -= 1
        if not (self._surface.draining and isinstance(report, AttemptStopped)):
            self._events = self._events or []
            self._events.append(report)
        self._soon()

    def _soon(self) -> None:
        """Advance after everything that happens in this turn of the loop."""
        if not self._scheduled and not self._busy:
            self._scheduled = True
            self._surface.soon(self)

    def turn(self) -> None:
        """What ``soon`` asked for."""
        self._scheduled = False
        try:
            self._go_on()
        except Exception as error:
            self.fail(error)

    # --- decide, commit, act -------------------------------------------------------------------

    def _go_on(self, now_ms: int | None = None) -> None:
        """Advance with what has gathered, unless a commit is in flight."""
        if self.closed or self._busy:
            return
        if self._surface.draining and not self._events:
            self._hand_back_when_idle()
            return
        now_ms = self._surface.clock.now_ms() if now_ms is None else now_ms
        moment_ms = self._resume_at_ms
        if moment_ms is None or not (self._rested or now_ms >= moment_ms):
            self._decide_and_commit(now_ms)
        else:
            self._decide_and_commit(max(now_ms, moment_ms), not_before_ms=moment_ms)

    def _decide_and_commit(self, now_ms: int, not_before_ms: int | None = None) -> None:
        generation = self.held.generation
        transition = self.decide(now_ms)
        if transition is None:
            return
        if not transition.writes and not_before_ms is None:
            self._act(transition)
            self._give_turn()
            return
        self._busy = True
        commit = commit_of(transition, self, self.epoch, self.seen, not_before_ms)
        if not_before_ms is None:
            self._surface.submit(commit, lambda verdict: self.answered(transition, verdict))
        else:
            lead_s = min(self._surface.lead_s, AGAIN_S)
            self._submit_in_time(transition, commit, not_before_ms, generation, lead_s)

    def _submit_in_time(
        self, transition: Transition, commit: Commit, moment_ms: int, generation: int, lead_s: float
    ) -> None:
        """What time decided, of a run that came to ``generation`` before; again if too early."""
        if self.closed:
            return

        def answer(verdict: CommitVerdict | None) -> None:
            if self.closed or verdict not in (CommitVerdict.EARLY, CommitVerdict.UNHEARD):
                self.answered(transition, verdict)
                return
            clock = self._surface.clock
            # Else the store's clock was set back, or the worker stops: somebody else may wait.
            waits = is_claimable(moment_ms, clock.now_ms()) and not self._surface.draining
            if verdict is CommitVerdict.EARLY and waits:
                what = (transition, commit, moment_ms, generation)
                delay_s = max(0.0, clock.seconds_until(moment_ms) - lead_s)
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(delay_s, self._submit_in_time, *what, 0.0)
            else:
                self._hand_back(transition.after_seq, generation, then=self._surface.wake)

        self._surface.submit(commit, answer)

    def decide(self, now_ms: int) -> Transition | None:
        """The next transition; None (and the run dropped) if this library is at fault."""
        events, self._events = self._events, NO_LIST
        self._cancel_timer()
        try:
            transition = self.held.advance(events, now_ms)
            check_transition(self.run_id, self.status, transition)
        except Exception as error:
            self.fail(error)
            return None
        return transition

    def fail(self, error: Exception) -> None:
        """Our own fault, or a damaged message. Nothing was written, and the lease is left to
        expire: a run that comes to this again and again is held as poisoned."""
        log.error(
            "run %s cannot go on, and its lease is left to expire: %s",
            self.run_id,
            error if isinstance(error, DurableError) else f"{type(error).__name__}; report this",
            exc_info=None if isinstance(error, DurableError) else error,
        )
        self.drop()

    def answered(self, transition: Transition, verdict: CommitVerdict | None) -> None:
        """What became of the commit of this transition."""
        self._busy = False
        if verdict is CommitVerdict.APPLIED:
            self.applied(transition)
        elif self.closed:
            return
        else:
            self.lose("its last commit was refused" if verdict else "the store is out of reach")

    def applied(self, transition: Transition) -> None:
        """The transition is durable: act on it, and go on with what gathered meanwhile."""
        self.status = transition.status
        self._surface.committed(self, transition)
        if self.closed:
            return  # it was lost meanwhile; those it concerns are told all the same
        if transition.ended:
            self.drop()
            return
        self._waiting, self._failure = texts_of(transition)
        if transition.release:
            self._leave()
            self._surface.given_up(self, transition)
            return
        self._act(transition)
        if not self._give_turn() and self._events:
            self._soon()

    def _act(self, transition: Transition) -> None:
        slots = self._surface.slots
        if transition.stop:
            slots.stop(transition.stop, self)
        if self._surface.draining:
            self._soon()
            return
        if transition.attempts and not self.may_begin():
            return
        for attempt in transition.attempts:
            self._out += 1
            slots.run(attempt, self)
        if transition.resume_at_ms is not None and not self.closed:
            delay_s = self._surface.clock.seconds_until(transition.resume_at_ms)
            if self._out:
                self._timer = asyncio.get_running_loop().call_later(delay_s, self._go_on)
            else:
                self._resume_at_ms = transition.resume_at_ms
                self._surface.resting.rest(self, max(0.0, delay_s - self._surface.lead_s))

    def may_begin(self) -> bool:
        """Whether handlers may begin. Once the lease has ended they may not: whoever took the
        run over may have completed those units. Then the run is dropped."""
        if not self.closed and not self._surface.lasts(self):
            self.lose("it ended before the next handler could begin")
        return not self.closed

    def time_is_up(self) -> None:
        """It has rested."""
        self._rested = True
        self._soon()

    def _cancel_timer(self) -> None:
        self._resume_at_ms = None
        self._rested = False
        self._surface.resting.stir(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- transactions --------------------------------------------------------------------------

    async def transact(self, call: Call) -> Report | None:
        """Make the call inside the transaction that commits its entry; None: it is reported."""
        return await self._surface.transact(self, call)

    async def take_turn(self) -> None:
        """Wait until no commit is in flight, then keep it so until ``end_turn``."""
        if self._busy or self._turns:
            turn = asyncio.get_running_loop().create_future()
            self._turns += (turn,)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.end_turn()
                else:
                    self._turns = tuple(other for other in self._turns if other is not turn)
                raise
        self._busy = True

    def _give_turn(self) -> bool:
        if self._busy or not self._turns:
            return False
        self._busy = True
        first, *others = self._turns
        self._turns = tuple(others)
        first.set_result(None)
        return True

    def end_turn(self, applied: Transition | None = None) -> None:
        """The transaction is over, with this transition committed, or with none: let what
        gathered be advanced, or the next transaction begin."""
        self._busy = False
        if applied is not None:
            self.applied(applied)
        elif self.closed:
            return
        elif self._events or self._surface.draining:
            self._soon()  # before the next transaction, or it could be kept waiting for ever
        else:
            self._give_turn()

    def take_report(self, report: Report) -> None:
        """Count an attempt as reported, and keep its report for the next ``decide``."""
        self._out -= 1
        self._events = self._events or []
        self._events.append(report)

    # --- letting go ----------------------------------------------------------------------------

    def drain(self, *, now: bool = False) -> None:
        """The worker stops: hand the run back as soon as nothing is out; with ``now``, cancel
        what is."""
        if self.closed:
            return
        if now:
            self._surface.slots.stop_all(self)
        else:
            self._surface.slots.unqueue(self)
        self._soon()

    def _hand_back_when_idle(self) -> None:
        if not self._out:
            self._hand_back(self.held.length, self.held.generation)

    def _hand_back(
        self, length: int, generation: int, then: Callable[[], None] | None = None
    ) -> None:
        """Give the run up as it stands in the store, with so many entries, due at once."""
        self._busy = True
        self._cancel_timer()
        commit = hand_back(
            self.lease,
            status=self.status.value,
            generation=generation,
            waiting=self._waiting,
            failure=self._failure,
            after_seq=length,
            now_ms=self._surface.clock.now_ms(),
        )

        def answer(verdict: CommitVerdict | None) -> None:
            self.drop()
            if then is not None:
                then()

        self._surface.submit(commit, answer)

    def lose(self, why: str) -> None:
        """The run is not ours, or it cannot be known: say so and drop it."""
        if not self.closed:
            self._surface.lost(self, why)
            self.drop()

    def lease_is_gone(self) -> None:
        """The store says so. A commit in flight may be what ended it: then its verdict counts."""
        if not self._busy:
            self.lose("another worker holds it")

    def drop(self) -> None:
        """Forget the run; its handlers are cancelled."""
        if not self.closed:
            self._leave()
            self.held.close()

    def _leave(self) -> None:
        self.closed = True
        self._cancel_timer()
        self._surface.slots.drop(self)
        turns, self._turns = self._turns, ()
        for turn in turns:
            turn.cancel()
        self._surface.let_go(self)
