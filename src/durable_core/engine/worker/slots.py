"""Slots: how many handlers may run at once, over all runs of a worker.

A slot is taken until its handler has really ended, also when it was abandoned long before.
Attempts that find no slot wait by run, and runs take turns: one with ten thousand items to do
does not keep the others out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from ...kernel.event import AttemptStopped
from ...kernel.outcome import Attempt, AttemptKey
from .attempts import Call, Reporter, Surroundings


class Slots:
    """At most ``count`` calls at once; ``on_free`` is called when one ends and nobody waits."""

    def __init__(self, count: int, around: Surroundings, on_free: Callable[[], None]) -> None:
        self._count = count
        self._around = around
        self._on_free = on_free
        self._taken = 0
        self._waiting: dict[Reporter, dict[AttemptKey, Attempt]] = {}
        # The newest call of each run, which knows the one before it, and so on: most runs have one
        # call at a time, and a list of one is 72 bytes, a dict 230.
        self._calls: dict[Reporter, Call] = {}
        self._dropped: set[asyncio.Task[None]] = set()
        """Of calls that no run knows any more: asyncio itself does not keep a task alive."""

    @property
    def wanted(self) -> int:
        """Slots in use (by abandoned handlers too), and those waited for."""
        return self._taken + sum(map(len, self._waiting.values()))

    def run(self, attempt: Attempt, reporter: Reporter) -> None:
        """Start this attempt, now or when a slot is free."""
        if self._taken < self._count:
            self._start(attempt, reporter)
        else:
            self._waiting.setdefault(reporter, {})[attempt.key] = attempt

    def stop(self, keys: Iterable[AttemptKey], reporter: Reporter) -> None:
        """Cancel these attempts; each is reported as stopped, or as whatever it came to."""
        # Of one key there may be two: an attempt that was abandoned, and then its retry.
        calls = {call.attempt.key: call for call in self._calls_of(reporter)}
        for key in keys:
            if self._waiting.get(reporter, {}).pop(key, None) is not None:
                self._forget_if_empty(reporter)
                reporter.attempt_ended(AttemptStopped(key))
            elif key in calls:
                calls[key].stop()

    def stop_all(self, reporter: Reporter) -> None:
        """The same for every attempt of a run."""
        calls = self._calls_of(reporter)
        keys = [*self._waiting.get(reporter, ()), *(call.attempt.key for call in calls)]
        self.stop(keys, reporter)

    def unqueue(self, reporter: Reporter) -> None:
        """Report the run's waiting attempts as stopped; what runs goes on."""
        self.stop(list(self._waiting.get(reporter, ())), reporter)

    def drop(self, reporter: Reporter) -> None:
        """Forget all attempts of a run and cancel their handlers; nothing is reported."""
        self._waiting.pop(reporter, None)
        for call in self._calls_of(reporter):
            self._forget(call)
            self._dropped.add(call.task)
            call.drop()

    def _start(self, attempt: Attempt, reporter: Reporter) -> None:
        self._taken += 1
        call = Call(attempt, reporter, self._around)
        call.lender = self
        call.before = self._calls.get(reporter)
        if call.before is not None:
            call.before.after = call
        self._calls[reporter] = call
        call.start()

    def freed(self, call: Call) -> None:
        """A handler has really ended: its slot is for whoever has waited longest."""
        self._taken -= 1
        self._dropped.discard(call.task)
        self._forget(call)
        while self._waiting:
            turn = next(iter(self._waiting))
            if not turn.may_begin():
                self.drop(turn)
                continue
            waiting = self._waiting.pop(turn)
            attempt = waiting.pop(next(iter(waiting)))
            if waiting:
                self._waiting[turn] = waiting  # behind the others
            self._start(attempt, turn)
            return
        self._on_free()

    def _calls_of(self, reporter: Reporter) -> list[Call]:
        """The calls of a run, the oldest first: of two with one key, the later one counts."""
        calls, call = [], self._calls.get(reporter)
        while call is not None:
            calls.append(call)
            call = call.before
        return calls[::-1]

    def _forget(self, call: Call) -> None:
        before, after = call.before, call.after
        call.before = call.after = None
        if before is not None:
            before.after = after
        if after is not None:
            after.before = before
        elif self._calls.get(call.reporter) is call:  # and the run was not dropped
            if before is not None:
                self._calls[call.reporter] = before
            else:
                del self._calls[call.reporter]

    def _forget_if_empty(self, reporter: Reporter) -> None:
        if not self._waiting[reporter]:
            del self._waiting[reporter]
