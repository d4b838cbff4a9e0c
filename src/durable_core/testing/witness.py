"""Witness: what can only be seen while it happens, written down at the seam to the store.

A journal tells afterwards what was committed; not under which lease, at what time by the store's
clock, nor how things stood when a handler was called. The witness stands around each call of the
store and each call of a handler. It judges nothing by the store's own answers: it looks at the
rows before and after, and notes at once where a rule was broken (``breaches``). The rest, the
places where a fault could have struck among it, is for ``checks`` and ``explore``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from ..kernel.outcome import AttemptKey
from ..store import (
    ClaimBatch,
    ClaimedRun,
    Commit,
    CommitVerdict,
    Delivery,
    EntryRecord,
    InboxRecord,
    Lease,
    Message,
    RenewResult,
    RunRecord,
)
from .calls import Call
from .holdings import Holdings
from .memory_state import StoredRun

Standing = tuple[tuple[str, int, bool, bool], ...]
"""How all runs stand: of each its status, how many entries last, whether the newest is none of
them, and whether the run is held. A failed attempt that is followed by another does not last."""

PASSING = frozenset({"attempt_failed", "compensation_attempt_failed"})

WORKFLOW = "workflow"
"""The name of a violation that is a mistake of the workflow, not of the engine."""

UNIT_ENDS = frozenset({"unit_completed", "unit_failed", "unit_cancelled"})
UNDO_ENDS = frozenset({"unit_compensated", "compensation_failed"})
NEW_GENERATION = frozenset({"run_retried", "rollback_requested", "run_continued"})


@attrs.frozen(slots=True)
class Violation:
    """A rule that was broken: its name, one sentence, the unit (empty: the run itself).

    ``expected`` and ``found`` say what differed; ``event`` is the place in the chronicle.
    """

    name: str
    sentence: str
    unit: str = ""
    expected: str = attrs.field(default="", kw_only=True)
    found: str = attrs.field(default="", kw_only=True)
    event: int | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(slots=True)
class Moment:
    """A place where a fault can strike: the nth call of a verb, or of a unit's handler.

    ``total`` is the number of the store's call among all, ``call`` the handler's; ``turn`` how
    many turns of their event loops the workers had had.
    """

    verb: str | None
    unit: str | None
    nth: int
    event: int
    standing: Standing
    total: int = 0
    turn: int = 0
    call: Call | None = None
    entries: tuple[str, ...] = ()
    """The kinds of what is committed."""


@attrs.frozen(slots=True)
class Landed:
    """A commit that was applied: the run's entries from ``first`` to ``last``, at this time by
    the store's clock."""

    run_id: str
    first: int
    last: int
    at_ms: int
    at_s: float
    event: int


@attrs.frozen(slots=True)
class Consumed:
    """A message that a commit took out of the inbox. ``renewing``: the run began anew with it, so
    that no entry tells of it."""

    run_id: str
    seq: int
    kind: str
    name: str
    dedupe: str | None
    renewing: bool = False


@attrs.frozen(slots=True)
class _Row:
    """What a run's row said before a call."""

    epoch: int
    held: bool
    due_at_ms: int | None
    entries: int
    status: str
    inbox: Mapping[int, tuple[InboxRecord, str | None]]


class Witness:
    """Looks over every call. ``event`` gives the number of the chronicle's next line."""

    def __init__(
        self,
        rows: Callable[[], Mapping[str, StoredRun]],
        clock: Callable[[], int],
        seconds: Callable[[], float],
        event: Callable[[], int],
        turn: Callable[[], int],
    ) -> None:
        self.moments: list[Moment] = []
        self.calls: list[Call] = []
        self.landed: list[Landed] = []
        self.consumed: list[Consumed] = []
        self.breaches: list[Violation] = []
        self.history: dict[str, list[EntryRecord]] = {}
        """All entries of each run, also those that were removed when it began anew."""
        self.counts: Counter[str] = Counter()
        """Calls of each verb, of all (``any``), and of each handler (``handler pay``)."""
        self._rows = rows
        self._clock = clock
        self._seconds = seconds
        self._event = event
        self._turn = turn
        self._passing: Counter[str] = Counter()
        self.holdings = Holdings()
        self._newest: dict[str, dict[str, str]] = {}  # by run and unit, the kind of its last entry

    # --- places --------------------------------------------------------------------------------

    def standing(self) -> Standing:
        """How things stand."""
        return tuple(
            [
                (
                    run.status,
                    self._lasting(run),
                    bool(run.entries) and run.entries[-1][1].kind in PASSING,
                    run.owner is not None,
                )
                for run in self._rows().values()
            ]
        )

    def _lasting(self, run: StoredRun) -> int:
        return run.entry_count - self._passing[run.new.run_id]

    def store_called(self, verb: str, entries: tuple[str, ...] = ()) -> Moment:
        """A call of the store is about to be made; it commits entries of these kinds."""
        self.counts["any"] += 1
        self.counts[verb] += 1
        moment = Moment(
            verb,
            None,
            self.counts[verb],
            self._event(),
            self.standing(),
            self.counts["any"],
            self._turn(),
            entries=entries,
        )
        self.moments.append(moment)
        return moment

    def handler_called(self, call: Call) -> Moment:
        """A handler is about to be called."""
        place = f"handler {call.label}"
        self.counts[place] += 1
        self.calls.append(call)
        if not self.holdings.begun(call):
            self._breach(
                "I-FENCE",
                f"{call.process} was told that run {call.run_id!r} is not its own, and called "
                f"{call.label}",
            )
        moment = Moment(
            None,
            call.label,
            self.counts[place],
            self._event(),
            self.standing(),
            turn=self._turn(),
            call=call,
        )
        self.moments.append(moment)
        return moment

    def is_over(self, run_id: str, key: AttemptKey) -> bool:
        """Whether the unit's end, or the end of its compensation, is in the journal, and was not
        undone or begun anew since."""
        kind = self._newest.get(run_id, {}).get(str(key.unit))
        return kind in (UNDO_ENDS if key.compensating else UNIT_ENDS)

    # --- commits ---------------------------------------------------------------------------------

    def before(self, run_ids: Sequence[str] | None = None) -> dict[str, _Row]:
        """The rows of these runs (None: of all) as they stand."""
        rows = self._rows()
        return {
            run_id: _Row(
                run.epoch,
                run.owner is not None,
                run.due_at_ms,
                len(run.entries),
                run.status,
                {seq: (record, sent.dedupe) for seq, (sent, record) in run.inbox.items()},
            )
            for run_id, run in rows.items()
            if run_ids is None or run_id in run_ids
        }

    def committed(
        self, before: Mapping[str, _Row], commit: Commit, verdict: CommitVerdict, length: int
    ) -> None:
        """A commit was answered. ``length``: how many entries this run has to have after the whole
        batch; a worker that lost a run and has it again may commit under both leases at once."""
        row, run = before.get(commit.run_id), self._rows().get(commit.run_id)
        if row is None or run is None:
            return
        if verdict is not CommitVerdict.APPLIED:
            if len(run.entries) != length:
                self._breach("I-FENCE", "a commit was refused, and its entries were written")
            return
        if not row.held or row.epoch != commit.epoch:
            self._breach(
                "I-FENCE",
                f"a commit of run {commit.run_id!r} was applied without its lease",
                commit,
                expected=f"epoch {row.epoch}" if row.held else "no commit: nobody held the run",
                found=f"epoch {commit.epoch}",
            )
        if len(run.entries) != length:
            self._breach("I-ATOMIC", "not all entries of a commit were written", commit)
        if any(child.run_id not in self._rows() for child in commit.children):
            self._breach("I-ATOMIC", "a child run was not created with the commit", commit)
        tokens = [run.tokens.get(token) for token in commit.tokens_closed]
        if any(token is not None and not token.used for token in tokens):
            self._breach("I-ATOMIC", "a token was closed by a commit, and is still open", commit)
        self._take(row, run, commit)
        self._remember(commit)
        self.history.setdefault(commit.run_id, []).extend(commit.entries)
        first, last = commit.after_seq + 1, commit.after_seq + len(commit.entries)
        at_ms, at_s = self._clock(), self._seconds()
        event = max(0, self._event() - 1)
        self.landed.append(Landed(commit.run_id, first, last, at_ms, at_s, event))

    def _take(self, row: _Row, run: StoredRun, commit: Commit) -> None:
        """The messages of a commit: each is taken once, and leaves the inbox."""
        for seq in commit.consumed:
            if seq not in row.inbox:
                self._breach("I-INBOX", f"message {seq} was consumed twice", commit)
                continue
            record, dedupe = row.inbox[seq]
            self.consumed.append(
                Consumed(commit.run_id, seq, record.kind, record.name, dedupe, commit.renews)
            )
            if seq in run.inbox:
                self._breach(
                    "I-INBOX", f"message {seq} was consumed, and is still in the inbox", commit
                )

    def _remember(self, commit: Commit) -> None:
        newest = self._newest.setdefault(commit.run_id, {})
        for entry in commit.entries:
            if entry.kind in NEW_GENERATION:
                newest.clear()
            self._passing[commit.run_id] += entry.kind in PASSING
            newest[entry.unit] = entry.kind

    # --- leases ----------------------------------------------------------------------------------

    def created(self, runs: Iterable[RunRecord], process: str) -> None:
        """This process created runs that it holds."""
        event = max(0, self._event() - 1)
        for run in runs:
            self.holdings.given(process, run.run_id, held=False, event=event)

    def claimed(self, before: Mapping[str, _Row], batch: ClaimBatch, process: str) -> None:
        """This process was given runs: each has to have been due, and free or left alone."""
        now = self._clock()
        for claimed in batch.runs:
            row = self._given(before, claimed, process)
            if row is None:
                continue
            if row.due_at_ms is None or row.due_at_ms > now:
                what = "while its lease lasted" if row.held else "before it was due"
                self._breach(
                    "I-FENCE" if row.held else "I-TIME",
                    f"run {claimed.run.run_id!r} was claimed {what}",
                    expected=f"not before {row.due_at_ms} ms",
                    found=f"{now} ms",
                )

    def woken(
        self,
        before: Mapping[str, _Row],
        messages: Sequence[Message],
        delivery: Delivery,
        process: str,
    ) -> None:
        """This process was given runs that its messages woke: of those, and held by nobody."""
        receivers = {message.run_id for message in messages}
        for claimed in delivery.runs:
            row = self._given(before, claimed, process)
            if row is not None and (row.held or claimed.run.run_id not in receivers):
                self._breach(
                    "I-FENCE",
                    f"run {claimed.run.run_id!r} was leased by a delivery, and "
                    + ("is held" if row.held else "got no message"),
                )

    def _given(self, before: Mapping[str, _Row], claimed: ClaimedRun, process: str) -> _Row | None:
        """The run as it was before the store gave it to this process."""
        run_id = claimed.run.run_id
        row = before.get(run_id)
        if row is not None:
            event = max(0, self._event() - 1)
            self.holdings.given(process, run_id, held=row.held, event=event)
            if claimed.run.epoch <= row.epoch:
                self._breach("I-FENCE", f"run {run_id!r} was leased without a new epoch")
        return row

    def renewed(
        self, before: Mapping[str, _Row], leases: Sequence[Lease], result: RenewResult
    ) -> None:
        """Leases were renewed: no other than the current ones."""
        for lease in leases:
            row, run = before.get(lease.run_id), self._rows().get(lease.run_id)
            if row is None or run is None or (row.held and row.epoch == lease.epoch):
                continue
            if lease.run_id not in result.lost or run.due_at_ms != row.due_at_ms:
                self._breach(
                    "I-FENCE",
                    f"a lease of run {lease.run_id!r} was renewed that is not its own any more",
                    expected=f"epoch {row.epoch}",
                    found=f"epoch {lease.epoch}",
                )

    def _breach(
        self,
        name: str,
        sentence: str,
        commit: Commit | None = None,
        *,
        expected: str = "",
        found: str = "",
    ) -> None:
        unit = commit.entries[0].unit if commit is not None and commit.entries else ""
        self.breaches.append(
            Violation(
                name,
                sentence,
                unit,
                expected=expected,
                found=found,
                event=max(0, self._event() - 1),
            )
        )
