"""Worlds: a run's surroundings for kernel tests, in plain Python without any engine.

A ``World`` holds what a store would hold (entries and inbox), a clock, and scripted handlers.
It advances the kernel with a warm cursor, or throws the cursor away between any two advances,
as a crash does. Programs are written as plain generators over kernel steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping
from typing import Any, cast

import attrs

from durable_core.kernel import journal as j
from durable_core.kernel.event import (
    AttemptFailed,
    AttemptStopped,
    AttemptSucceeded,
    AttemptSuspended,
    Event,
    MessageArrived,
)
from durable_core.kernel.failure import Failure
from durable_core.kernel.ids import UnitKey
from durable_core.kernel.invariants import check_journal, check_transition
from durable_core.kernel.journal import Journal
from durable_core.kernel.limits import DEFAULT_LIMITS, Limits
from durable_core.kernel.outcome import Attempt, AttemptKey, Ending, Outcome, Transition
from durable_core.kernel.policy import Retry
from durable_core.kernel.program import Program, ProgramFactory
from durable_core.kernel.recorder import Recorder
from durable_core.kernel.run import RunContext, RunStatus
from durable_core.kernel.step import Ask, Call, Undo
from durable_core.kernel.transition import Held
from durable_core.kernel.value import NULL, Payload

Body = Callable[[RunContext], Generator[Ask, Outcome, Ending]]
QUICK = Retry(max_attempts=3, initial=0, jitter=0)


@attrs.frozen
class Suspending:
    """A scripted answer: the handler returns ``Suspend``."""

    token: str


Answer = bytes | Failure | Suspending


def program_of(body: Body) -> ProgramFactory:
    """A generator function as the program of any run; it has nothing recorded between asks."""

    def begin(run: RunContext, recorder: Recorder) -> Program:
        return cast(Program, body(run))

    return begin


def call(*path: str, undo: bool = False, retry: Retry = QUICK, **more: Any) -> Call:
    """A call whose handler is known by the printed path of its unit."""
    unit = UnitKey.of(*path)
    return Call(
        unit=unit,
        handler=str(unit),
        retry=retry,
        undo=Undo(handler=f"undo {unit}", retry=retry) if undo else None,
        **more,
    )


def done(payload: Payload = NULL) -> Ending:
    """The end of a body that has a result."""
    return Ending(payload=payload, shape=None, assemble=lambda: payload)


def boom(message: str = "boom") -> Failure:
    """A recorded error."""
    return Failure(type="ValueError", message=message)


class World:
    """One run and its surroundings. ``script`` maps a handler to its answers, by attempt (the
    last one is repeated); a handler that is not listed succeeds with ``null``."""

    def __init__(
        self,
        body: Body,
        script: Mapping[str, list[Answer]] | None = None,
        *,
        limits: Limits | None = None,
        **facts: Any,
    ) -> None:
        self.body = body
        self.script = dict(script or {})
        self.now_ms = 1_000
        self.run = RunContext(
            run_id="run",
            workflow="w",
            version="1",
            fingerprint="f",
            input=NULL,
            limits=DEFAULT_LIMITS if limits is None else limits,
            **facts,
        )
        self.journal = Journal()
        self.status = RunStatus.PENDING
        self.inbox: list[MessageArrived] = []
        self.arrived = 0
        self.seen = 0
        self.held: Held | None = None
        self.keeps = False  # what it gives up, warm
        self.out: list[Attempt] = []
        self.stopped: list[AttemptKey] = []
        self.calls: list[str] = []
        self.last: Transition | None = None
        self.sent: list[Any] = []

    # --- the store's part --------------------------------------------------------------------

    def deliver(
        self, kind: str, name: str = "", payload: Payload | None = None, **facts: Any
    ) -> None:
        """Put a message into the inbox."""
        self.arrived += 1
        self.inbox.append(
            MessageArrived(
                seq=self.arrived,
                kind=kind,
                name=name,
                at_ms=self.now_ms,
                payload=payload,
                facts=facts,
            )
        )

    def crash(self) -> None:
        """Forget everything that was only in memory."""
        self.held = None
        self.out = []
        self.stopped = []

    def advance(self, *events: Event, commit: bool = True) -> Transition:
        """One advance, and (unless it is lost) its commit."""
        if self.held is None:
            program = None if self.body is None else program_of(self.body)
            self.held = Held(self.run, program, Journal(list(self.journal)))
            self.seen = 0
        mail = [message for message in self.inbox if message.seq > self.seen]
        self.seen = self.arrived
        transition = self.held.advance([*events, *mail], self.now_ms)
        check_transition(self.run.run_id, self.status, transition)
        if not commit:
            self.crash()
            return transition
        self.last = transition
        before = Journal() if transition.renews else self.journal
        self.journal = before.extend(transition.entries)
        self.status = transition.status
        self.inbox = [m for m in self.inbox if m.seq not in transition.consumed]
        self.out += transition.attempts
        self.out = [a for a in self.out if a.key not in transition.stop]
        self.stopped += transition.stop
        self.sent += transition.messages
        if transition.ended or (transition.release and not self.keeps):
            self.crash()
        return transition

    # --- the engine's part -------------------------------------------------------------------

    def report(self, attempt: Attempt) -> Event:
        """Run a scripted handler."""
        name = str(attempt.handler)
        self.calls.append(name)
        answers = self.script.get(name, [b"null"])
        answer = answers[min(attempt.number, len(answers)) - 1]
        if attempt.data is not None:
            answer = b'"resumed"'
        if isinstance(answer, Failure):
            return AttemptFailed(attempt.key, answer, retryable=True)
        if isinstance(answer, Suspending):
            return AttemptSuspended(attempt.key, Payload(b'"snapshot"'), answer.token)
        return AttemptSucceeded(attempt.key, Payload(answer))

    def finish(self, *, crash_before: Collection[int] = (), patience: int = 1_000) -> RunStatus:
        """Go on to the end, jumping over waiting time; stops early where only a message helps.

        ``crash_before`` numbers the advances before which memory is lost.
        """
        transition = self.advance()
        for number in range(patience):
            if number in crash_before:
                self.crash()
                transition = self.advance()
            if transition.ended:
                return transition.status
            if self.out:
                transition = self.advance(self.report(self.out.pop(0)))
            elif transition.resume_at_ms is not None:
                self.now_ms = max(self.now_ms, transition.resume_at_ms)
                transition = self.advance()
            elif any(message.seq > self.seen or self.held is None for message in self.inbox):
                before = (len(self.journal), len(self.inbox))
                transition = self.advance()
                if before == (len(self.journal), len(self.inbox)):
                    return transition.status
            else:
                return transition.status
        raise AssertionError("the run does not come to an end")

    def finish_until_suspended(self) -> None:
        """Go on until the run is given up, without letting time pass."""
        transition = self.advance()
        while not transition.release and not transition.ended:
            transition = self.advance(self.report(self.out.pop(0)))

    def lose_commit(self, number: int) -> None:
        """Advance until commit ``number`` (from 0) is due, and lose it and all memory."""
        transition = self.advance(commit=number > 0)
        for done_so_far in range(1, number + 1):
            if transition.ended:
                return
            commit = done_so_far < number
            if self.out:
                transition = self.advance(self.report(self.out.pop(0)), commit=commit)
            elif transition.resume_at_ms is not None:
                self.now_ms = max(self.now_ms, transition.resume_at_ms)
                transition = self.advance(commit=commit)

    def go_on(self, transition: Transition) -> Transition:
        """Do the next thing there is to do after ``transition``."""
        if self.stopped:
            return self.advance(AttemptStopped(self.stopped.pop(0)))
        if self.out:
            return self.advance(self.report(self.out.pop(0)))
        if transition.resume_at_ms is not None:
            self.now_ms = max(self.now_ms, transition.resume_at_ms)
        return self.advance()

    # --- what can be said afterwards ---------------------------------------------------------

    def kinds(self) -> list[str]:
        """The journal as ``kind unit`` lines."""
        return [f"{entry.kind} {entry.unit}".strip() for entry in self.journal]

    def of_kind(self, kind: type[j.Entry]) -> list[str]:
        """Units of the entries of one kind, in order."""
        return [str(entry.unit) for entry in self.journal if isinstance(entry, kind)]

    def check(self) -> None:
        """The whole journal keeps the rules."""
        check_journal(self.run.run_id, self.journal)
