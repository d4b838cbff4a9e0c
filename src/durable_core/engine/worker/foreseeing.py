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
   ended run again, and is not for anyone). If a moment of the run has come when it is delivered, it
   came too late: the store looks.
4. A run is kept until its next lease here, whoever has it meanwhile, if its journal is short, and
   if it waits for no operator: then its program may not have come as far as its journal.
5. A program, or a body of code, may so be run on a message that is refused then (used before, to a
   full inbox). What it says in its log, it says then too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy

from ...kernel.outcome import Transition
from ...store import CommitVerdict, Foreseen, InboxRecord, Message, next_epoch
from .runner import Runner

KEPT = 8
"""So many runs are kept, of some 5 KiB each and what is in their journals."""
SHORT = 200
"""Entries in the journal of a run that is kept, at most."""


class WarmRuns:
    """The runs that a worker gave up last, each with the time at which it goes on by itself."""

    def __init__(self, limit: int = KEPT) -> None:
        self._limit = limit
        self._runs: dict[str, tuple[Runner, int | None]] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._runs)

    def keep(self, runner: Runner, transition: Transition) -> None:
        """This one, in place of the oldest, if it is worth it (rule 4)."""
        self.forget(runner.run_id)
        held = runner.held
        stands = any(wait.kind == "operator" for wait in transition.waiting[:1])
        if held.run.deaths or held.length > SHORT or stands:
            held.close()
            return
        self._runs[runner.run_id] = (runner, transition.resume_at_ms)
        while len(self._runs) > self._limit:
            self.forget(next(iter(self._runs)))

    def take(self, run_id: str) -> tuple[Runner, int | None] | None:
        """The run, which is kept no more, and its moment."""
        return self._runs.pop(run_id, None)

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
        self, runner: Runner, transition: Transition, said: Foreseen, hold: Callable[[Runner], bool]
    ) -> None:
        self.said = said
        self._runner = runner
        self._transition = transition
        self._hold = hold

    def came_true(self) -> None:
        """The store has applied it: the run is held, if it can be, and goes on."""
        if not self._hold(self._runner):
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
    last: Runner,
    message: Message,
    mark: int,
    now_ms: int,
    before_ms: int | None,
    hold: Callable[[Runner], bool],
) -> Foresight | None:
    """What this run, which had been given up, makes of the message if that comes before its moment;
    None where it fails, as it will again."""
    record = InboxRecord(
        seq=last.seen + 1,
        kind=message.kind,
        name=message.name,
        at_ms=now_ms,
        payload=message.payload,
        meta=message.meta,
    )
    # Another holder: whoever speaks of the lease that is over must not be heard of this one.
    runner = copy(last)
    try:
        transition, commit = runner.foresee(record, next_epoch(last.epoch, mark), now_ms)
    except BaseException as error:
        runner.closed = True
        runner.held.close()
        if isinstance(error, Exception):  # what is wrong with it is told when it is claimed
            return None
        raise
    said = Foreseen(commit=commit, after_epoch=last.epoch, before_ms=before_ms)
    return Foresight(runner, transition, said, hold)
