"""The state of a ``MemoryStore`` and what each verb does to it: the protocol's rules in full.

No lock, no clock and no event loop here: every method takes ``now`` and changes plain dicts.
The rules are numbered in ``durable_core.store``; the methods name the one they keep.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import attrs

from ..kernel.value import Payload
from ..store import (
    ClaimRequest,
    Commit,
    CommitVerdict,
    DeliverVerdict,
    EntryRecord,
    InboxRecord,
    Message,
    NewRun,
    RunRecord,
    next_epoch,
)

AGEING_MS = 60_000
"""How much longer a run must have been due to be worth one step of priority more."""


@attrs.define
class Token:
    """A suspension token: open, or used by a message with ``payload``."""

    used: bool = False
    payload: Payload | None = None


@attrs.define
class StoredRun:
    """One run: what it was created with, and everything that changes."""

    new: NewRun
    created_at_ms: int
    updated_at_ms: int
    due_at_ms: int | None
    finished_at_ms: int | None = None
    status: str = "pending"
    generation: int = 1
    waiting: str | None = None
    failure: str | None = None
    epoch: int = 0
    owner: str | None = None
    deaths: int = 0
    pin: str | None = None
    anyone: bool = False  # any worker may make the next claim
    arrived: int = 0
    entries: list[tuple[int, EntryRecord]] = attrs.field(factory=list)  # (epoch, entry)
    removed: int = 0  # entries before the first of these
    inbox: dict[int, tuple[Message, InboxRecord]] = attrs.field(factory=dict)
    deduped: set[str] = attrs.field(factory=set)
    tokens: dict[str, Token] = attrs.field(factory=dict)

    @property
    def entry_count(self) -> int:
        """The number of the last entry."""
        return self.removed + len(self.entries)

    @property
    def ended(self) -> bool:
        return self.finished_at_ms is not None

    @property
    def rank(self) -> tuple[int, str]:
        """Claims take the lowest first: higher priority, but the longer due the better."""
        assert self.due_at_ms is not None
        return self.due_at_ms - self.new.priority * AGEING_MS, self.new.run_id

    def mail(self, seen: int) -> tuple[InboxRecord, ...]:
        """Messages with a higher number than ``seen``, in arrival order."""
        return tuple(record for seq, (_, record) in sorted(self.inbox.items()) if seq > seen)

    def wake(self, now: int) -> None:
        """Make the run due at once (rule 3)."""
        self.due_at_ms = now if self.due_at_ms is None else min(self.due_at_ms, now)

    def reopen(self, now: int) -> None:
        """An ended run becomes live again."""
        self.status, self.waiting, self.failure = "pending", None, None
        self.finished_at_ms, self.updated_at_ms = None, now
        self.wake(now)

    def finish(self, now: int) -> None:
        """The run has ended; nothing is leased or open any more."""
        self.finished_at_ms = now
        self.owner, self.due_at_ms, self.deaths = None, None, 0
        self.pin, self.anyone = None, False
        self.tokens = {name: token for name, token in self.tokens.items() if token.used}

    def record(self) -> RunRecord:
        new = self.new
        return RunRecord(
            run_id=new.run_id,
            workflow=new.workflow,
            version=new.version,
            fingerprint=new.fingerprint,
            queue=new.queue,
            input=new.input,
            digest=new.digest,
            priority=new.priority,
            parent_id=new.parent_id,
            parent_unit=new.parent_unit,
            depth=new.depth,
            attributes=dict(new.attributes),
            deadline_ms=new.deadline_ms,
            created_at_ms=self.created_at_ms,
            updated_at_ms=self.updated_at_ms,
            finished_at_ms=self.finished_at_ms,
            status=self.status,
            generation=self.generation,
            waiting=self.waiting,
            failure=self.failure,
            entry_count=self.entry_count,
            epoch=self.epoch,
            owner=self.owner,
            due_at_ms=self.due_at_ms,
            deaths=self.deaths,
            pin=self.pin,
        )


class State:
    """All runs, by id."""

    def __init__(self) -> None:
        self.runs: dict[str, StoredRun] = {}

    def held(self, run_id: str, epoch: int) -> StoredRun | None:
        """The run, if this epoch is the current one and was not given up (rule 1)."""
        run = self.runs.get(run_id)
        if run is None or run.owner is None or run.epoch != epoch:
            return None
        return run

    def create(self, new: NewRun, now: int) -> bool:
        """True if the run was not there yet."""
        if new.run_id in self.runs:
            return False
        self.runs[new.run_id] = StoredRun(
            new=new,
            created_at_ms=now,
            updated_at_ms=now,
            due_at_ms=now + new.due_in_ms,
            status=new.status,
            owner=new.owner,
            epoch=new.epoch,
            entries=[(0, entry) for entry in new.entries],
        )
        return True

    def deliver(self, message: Message, now: int, inbox_limit: int | None) -> DeliverVerdict:
        """Answers are looked for in this order: known, used before, ended, stale, full."""
        run = self.runs.get(message.run_id)
        if run is None:
            return DeliverVerdict.UNKNOWN
        token = None if message.token is None else run.tokens.get(message.token)
        if token is not None and token.used:
            same = token.payload == message.payload
            return DeliverVerdict.DUPLICATE if same else DeliverVerdict.CONFLICT
        if message.dedupe in run.deduped:
            return DeliverVerdict.DUPLICATE
        if run.ended and not message.reopens:
            return DeliverVerdict.FINISHED
        if message.token is not None and token is None:
            return DeliverVerdict.STALE
        if inbox_limit is not None and len(run.inbox) >= inbox_limit:
            return DeliverVerdict.FULL
        self._put(run, message, now)
        if token is not None:
            token.used, token.payload = True, message.payload
        run.pin = None
        if run.ended:
            run.reopen(now)
        elif run.owner is None:
            run.wake(now)
        run.anyone = run.anyone or message.anyone
        return DeliverVerdict.DELIVERED

    def _put(self, run: StoredRun, message: Message, now: int) -> None:
        run.arrived += 1
        record = InboxRecord(
            seq=run.arrived,
            kind=message.kind,
            name=message.name,
            at_ms=now,
            payload=message.payload,
            meta=message.meta,
        )
        run.inbox[run.arrived] = (message, record)
        if message.dedupe is not None:
            run.deduped.add(message.dedupe)

    def claim(self, request: ClaimRequest, now: int) -> list[StoredRun]:
        """Due runs this worker may have, best first (rule 5)."""
        due = sorted(
            (run for run in self._within_reach(request) if (run.due_at_ms or 0) <= now),
            key=lambda run: run.rank,
        )
        suspects = [run for run in due if run.deaths >= request.suspect_deaths]
        left_out = {run.new.run_id for run in suspects[request.suspects :]}
        chosen = [run for run in due if run.new.run_id not in left_out][: request.limit]
        for run in chosen:
            self._lease(run, request, now)
        return chosen

    def claim_receivers(
        self, run_ids: Collection[str], request: ClaimRequest, now: int
    ) -> list[StoredRun]:
        """Those of these runs that nobody has, as if claimed; no suspects (rule 5)."""
        free = sorted(
            (
                run
                for run in self._within_reach(request)
                if run.new.run_id in run_ids
                and run.owner is None
                and (run.due_at_ms or 0) <= now
                and run.deaths < request.suspect_deaths
            ),
            key=lambda run: run.rank,
        )[: request.limit]
        for run in free:
            self._lease(run, request, now)
        return free

    def _lease(self, run: StoredRun, request: ClaimRequest, now: int) -> None:
        run.deaths += run.owner not in (None, request.worker)
        run.epoch = next_epoch(run.epoch, request.mark)
        run.owner = request.worker
        run.anyone = False
        run.due_at_ms = now + request.lease_ms
        run.updated_at_ms = now
        if run.status in ("pending", "suspended"):
            run.status = "running"

    def next_due_ms(self, request: ClaimRequest) -> int | None:
        """When the next claim by this worker may find something."""
        dues = [
            run.due_at_ms
            for run in self._within_reach(request)
            if run.due_at_ms is not None
            and (request.suspects > 0 or run.deaths < request.suspect_deaths)
        ]
        return min(dues, default=None)

    def _within_reach(self, request: ClaimRequest) -> list[StoredRun]:
        """Runs with a due time that this worker may claim then."""
        kinds = {(kind.workflow, kind.version, pin) for kind in request.kinds
                 for pin in (None, kind.fingerprint)}  # fmt: skip
        return [
            run
            for run in self.runs.values()
            if run.due_at_ms is not None
            and (
                run.anyone
                or (
                    run.new.queue in request.queues
                    and (run.new.workflow, run.new.version, run.pin) in kinds
                )
            )
        ]

    def commit(self, commits: Sequence[Commit], now: int) -> tuple[CommitVerdict, ...]:
        """A batch: first its transitions, then their children, then their messages."""
        verdicts = tuple(self._apply(commit, now) for commit in commits)
        pairs = zip(commits, verdicts, strict=True)
        applied = [commit for commit, verdict in pairs if verdict is CommitVerdict.APPLIED]
        for commit in applied:
            for child in commit.children:
                self.create(child, now)
        for commit in applied:
            for message in commit.messages:
                self.deliver(message, now, None)
        return verdicts

    def _apply(self, commit: Commit, now: int) -> CommitVerdict:
        """One transition, whole or not at all; what comes of it for other runs is not part."""
        run = self.held(commit.run_id, commit.epoch)
        if run is None:
            return CommitVerdict.FENCED
        if run.entry_count != commit.after_seq:
            return CommitVerdict.CONFLICT
        if commit.not_before_ms is not None:
            if now < commit.not_before_ms:
                return CommitVerdict.EARLY
            if any(seq > commit.seen for seq in run.inbox):
                return CommitVerdict.UNHEARD
        if commit.renews:
            run.entries, run.removed = [], commit.after_seq
        if commit.entries:
            run.entries += [(commit.epoch, entry) for entry in commit.entries]
            run.deaths = 0
        run.status, run.generation = commit.status, commit.generation
        run.waiting, run.failure = commit.waiting, commit.failure
        run.updated_at_ms = now
        for seq in commit.consumed:
            run.inbox.pop(seq, None)
        for token in commit.tokens_opened:
            run.tokens.setdefault(token, Token())
        for token in commit.tokens_closed:
            if token in run.tokens and not run.tokens[token].used:
                del run.tokens[token]
        self._let_go(run, commit, now)
        return CommitVerdict.APPLIED

    def _let_go(self, run: StoredRun, commit: Commit, now: int) -> None:
        """End, release or keep; a message nobody has seen yet must not be slept over."""
        unseen = [message for seq, (message, _) in run.inbox.items() if seq > commit.seen]
        if commit.finished:
            anyone = run.anyone
            run.finish(now)
            if any(message.reopens for message in unseen):
                run.anyone = anyone
                run.reopen(now)
        elif commit.release is not None:
            run.owner = None
            run.due_at_ms, run.pin = commit.release.due_at_ms, commit.release.pin
            if unseen:
                run.wake(now)

    def prune(self, before: int, statuses: tuple[str, ...] | None, limit: int) -> int:
        """Forget the oldest ends; who has a parent now goes no earlier than the next time."""
        prunable = sorted(
            (run.finished_at_ms, run_id)
            for run_id, run in self.runs.items()
            if run.finished_at_ms is not None
            and run.finished_at_ms < before
            and (statuses is None or run.status in statuses)
            and run.new.parent_id not in self.runs
        )[:limit]
        for _, run_id in prunable:
            del self.runs[run_id]
        return len(prunable)

    def settled(self, commit: Commit) -> CommitVerdict:
        """Whether a commit landed: by its first entry, else by what it would have left behind."""
        run = self.runs.get(commit.run_id)
        if run is not None and self._landed(run, commit):
            return CommitVerdict.APPLIED
        held = self.held(commit.run_id, commit.epoch)
        return CommitVerdict.FENCED if held is None else CommitVerdict.CONFLICT

    def _landed(self, run: StoredRun, commit: Commit) -> bool:
        if commit.entries:
            first = commit.after_seq + 1
            return [epoch for epoch, e in run.entries if e.seq == first] == [commit.epoch]
        given_up = commit.finished or commit.release is not None
        if commit.not_before_ms is not None and not given_up:
            return False
        return (
            run.epoch == commit.epoch
            and run.ended == commit.finished
            and (run.owner is None) == given_up
            and run.entry_count == commit.after_seq
            and (run.status, run.generation) == (commit.status, commit.generation)
            and (run.waiting, run.failure) == (commit.waiting, commit.failure)
            and not any(seq in run.inbox for seq in commit.consumed)
        )
