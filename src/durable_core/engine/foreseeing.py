"""Foreseeing: a message to a run that was given up here a moment ago lands with what comes of it.

The newest few of these runs are kept as they were, with a warm cursor. What such a run makes of a
message of this process is decided before the message is delivered, as if nothing had come between,
and goes to the store along with it: message, lease and entries are one transaction, where they
were two. Rules:

1. The store decides whether nothing has come between: the run was not leased since, and no other
   message lies in the inbox. Else it delivers and leases, as it does
   without (``eager``), and what was foreseen is forgotten, the cursor included.
2. Nothing is acted upon before that is known. Without an answer nothing is, ever.
3. Only a lone message is foreseen, one that leaves the run's state to its journal (it opens no
   ended run again, and is not for anyone), and only while no moment of the run is near.
4. A run is kept until its next lease here, whoever has it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..kernel.nearness import is_far
from ..kernel.outcome import Transition
from ..store import CommitVerdict, Foreseen, InboxRecord, Message, next_epoch
from .runner import Runner

KEPT = 8
"""So many runs are kept, of some 5 KiB each."""


class WarmRuns:
    """The runs that a worker gave up last, each with the time at which it goes on by itself."""

    def __init__(self, limit: int = KEPT) -> None:
        self._limit = limit
        self._runs: dict[str, tuple[Runner, int | None]] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._runs)

    def keep(self, runner: Runner, resume_at_ms: int | None) -> None:
        """This one, in place of the oldest."""
        self.forget(runner.run_id)
        self._runs[runner.run_id] = (runner, resume_at_ms)
        while len(self._runs) > self._limit:
            self.forget(next(iter(self._runs)))

    def take(self, run_id: str, now_ms: int) -> Runner | None:
        """The run, unless its moment is near; it is kept no more."""
        runner, resume_at_ms = self._runs.pop(run_id, (None, None))
        if runner is not None and not is_far(resume_at_ms, now_ms):
            runner.held.close()
            return None
        return runner

    def forget(self, run_id: str) -> None:
        """Keep this one no more, if it is kept."""
        runner, _ = self._runs.pop(run_id, (None, None))
        if runner is not None:
            runner.held.close()

    def clear(self) -> None:
        """Keep none."""
        for run_id in list(self._runs):
            self.forget(run_id)


class Foresight:
    """What a message will make of a run, if nothing comes between."""

    def __init__(
        self, runner: Runner, transition: Transition, said: Foreseen, hold: Callable[[], bool]
    ) -> None:
        self.said = said
        self._runner = runner
        self._transition = transition
        self._hold = hold

    def came_true(self) -> None:
        """The store has applied it: the run is held, if it can be, and goes on."""
        if not self._hold():
            self.forget()  # those it concerns are told all the same
        self._runner.answered(self._transition, CommitVerdict.APPLIED)

    def forget(self) -> None:
        """It has not, or that is not known."""
        self._runner.closed = True
        self._runner.held.close()


def may_foresee(messages: Sequence[Message]) -> bool:
    """Whether these are one message that leaves the run's state to its journal."""
    return len(messages) == 1 and not (messages[0].reopens or messages[0].anyone)


def foresight(
    runner: Runner, message: Message, mark: int, now_ms: int, hold: Callable[[], bool]
) -> Foresight | None:
    """What this run makes of the message; None where it fails, as it will again."""
    record = InboxRecord(
        seq=runner.seen + 1,
        kind=message.kind,
        name=message.name,
        at_ms=now_ms,
        payload=message.payload,
        meta=message.meta,
    )
    last = runner.epoch
    try:
        transition, commit = runner.foresee(record, next_epoch(last, mark), now_ms)
    except Exception:  # what is wrong with it is told when it is claimed
        runner.closed = True
        runner.held.close()
        return None
    said = Foreseen(commit=commit, after_epoch=last)
    return Foresight(runner, transition, said, hold)
