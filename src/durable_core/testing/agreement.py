"""Agreement: any sequence of verbs, done to several stores, must be answered equally by all.

``StoreAgreement`` is a Hypothesis state machine. It drives a ``MemoryStore`` and the stores under
test by one clock, compares every answer, and after each verb every run, journal and inbox. A
subclass says how these stores are made; its ``TestCase`` is what pytest collects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ..store import (
    ClaimRequest,
    Commit,
    EntryRecord,
    Foreseen,
    Kind,
    Lease,
    Message,
    NewRun,
    Release,
    RunFilter,
    RunRecord,
    Store,
    next_epoch,
)
from .contract_kit import LEASE_MS, entry, new_run, payload
from .memory import MemoryStore
from .virtual_clock import START_MS, VirtualClock

T = TypeVar("T")

RUNS = ("r1", "r2", "r3", "r4")
QUEUES = ("default", "slow")
KINDS = tuple(
    Kind(workflow=workflow, version="1", fingerprint=fingerprint)
    for workflow in ("order", "refund")
    for fingerprint in ("fp1", "fp2")
)
STATUSES = ("pending", "running", "suspended", "compensating", "completed", "failed")

run_ids = st.sampled_from(RUNS)
small = st.integers(0, 3)
tokens = st.sampled_from(("t1", "t2"))
payloads = st.none() | st.sampled_from((payload("1"), payload("2")))
facts = st.none() | st.sampled_from(("[]", '{"a":1}'))
attributes = st.dictionaries(st.sampled_from(("k", "l")), st.sampled_from(("1", "2")), max_size=2)
delays = st.sampled_from((0, 0, 10, LEASE_MS, 61_000))


def entries_after(seq: int, count: int) -> tuple[EntryRecord, ...]:
    """That many entries after the first ``seq``."""
    return tuple(entry(seq + 1 + i, payload=payload(str(i)) if i else None) for i in range(count))


held_by = st.sampled_from(((None, 0), (None, 0), ("w1", 1), ("w2", 2**33)))


def created_as(new: NewRun, by: tuple[str | None, int]) -> NewRun:
    """The same, created with a lease or without one."""
    return attrs.evolve(new, owner=by[0], epoch=by[1])


unheld_runs = st.builds(
    new_run,
    run_ids,
    workflow=st.sampled_from(("order", "refund")),
    queue=st.sampled_from(QUEUES),
    priority=st.integers(-1, 2),
    delay_ms=delays,
    lease_ms=st.just(LEASE_MS),
    parent_id=st.none() | run_ids,
    attributes=attributes,
    entries=st.builds(entries_after, st.just(0), st.sampled_from((0, 0, 2))),
)
new_runs = st.builds(created_as, unheld_runs, held_by)
messages = st.builds(
    Message,
    run_id=st.sampled_from((*RUNS, "nobody")),
    kind=st.sampled_from(("signal", "retry")),
    name=st.sampled_from(("a", "b")),
    payload=payloads,
    meta=facts,
    dedupe=st.none() | st.sampled_from(("d1", "d2")),
    token=st.none() | tokens,
    reopens=st.booleans(),
    anyone=st.booleans(),
)
marks = st.sampled_from((None, 0, 5, 2**32 - 1))
requests = st.builds(
    ClaimRequest,
    worker=st.sampled_from(("w1", "w2")),
    lease_ms=st.just(LEASE_MS),
    limit=small,
    queues=st.lists(st.sampled_from(QUEUES), max_size=2).map(tuple),
    kinds=st.lists(st.sampled_from(KINDS), max_size=3).map(tuple),
    suspect_deaths=st.integers(1, 2),
    suspects=st.integers(0, 2),
    journal_limit=st.sampled_from((1, 100)),
    mark=marks,
)
generous = st.builds(
    ClaimRequest,
    worker=st.just("w1"),
    lease_ms=st.just(LEASE_MS),
    limit=st.just(10),
    queues=st.just(QUEUES),
    kinds=st.just(KINDS),
    mark=marks,
)
releases = st.none() | st.builds(
    Release,
    due_at_ms=st.none() | delays.map(lambda ms: START_MS + ms),
    pin=st.none() | st.just("fp2"),
)


@attrs.frozen(kw_only=True)
class Wish:
    """A commit before it is known what it can be about: ``which`` of the held runs, ``which``
    of their messages. ``off`` makes it a stale one, ``blind`` one that has seen no message."""

    which: int
    off: int
    epoch_off: int
    count: int
    status: str
    generation: int
    waiting: str | None
    failure: str | None
    consumed: tuple[bool, ...]
    blind: bool
    children: tuple[NewRun, ...]
    messages: tuple[Message, ...]
    opened: tuple[str, ...]
    closed: tuple[str, ...]
    finished: bool
    release: Release | None
    renews: bool
    by_time_in_ms: int | None

    def commit(
        self, runs: Sequence[RunRecord], mail: Mapping[str, Sequence[int]], now_ms: int
    ) -> Commit:
        """The commit, for one of these runs as they stand."""
        run = runs[self.which % len(runs)]
        seqs = mail.get(run.run_id, ())
        after_seq = max(0, run.entry_count + self.off)
        return Commit(
            run_id=run.run_id,
            epoch=run.epoch + self.epoch_off,
            after_seq=after_seq,
            status=self.status,
            generation=self.generation,
            entries=entries_after(after_seq, self.count),
            consumed=tuple(s for s, taken in zip(seqs, self.consumed, strict=False) if taken),
            seen=0 if self.blind or not seqs else seqs[-1],
            children=self.children,
            messages=self.messages,
            tokens_opened=self.opened,
            tokens_closed=self.closed,
            waiting=self.waiting,
            failure=self.failure,
            finished=self.finished,
            release=self.release,
            renews=self.renews,
            not_before_ms=None if self.by_time_in_ms is None else now_ms + self.by_time_in_ms,
        )


seldom = st.sampled_from((0,) * 11 + (-1,))
wishes = st.builds(
    Wish,
    which=st.integers(0, 3),
    off=seldom,
    epoch_off=seldom,
    count=small,
    status=st.sampled_from(STATUSES),
    generation=st.integers(1, 2),
    waiting=facts,
    failure=facts,
    consumed=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    blind=st.booleans(),
    children=st.lists(new_runs, max_size=1).map(tuple),
    messages=st.lists(messages, max_size=2).map(tuple),
    opened=st.lists(tokens, max_size=2).map(tuple),
    closed=st.lists(tokens, max_size=1).map(tuple),
    finished=st.sampled_from((False, False, False, True)),
    release=releases,
    renews=st.sampled_from((False,) * 7 + (True,)),
    by_time_in_ms=st.sampled_from((None,) * 5 + (-10, 0, 1)),
)
leases = st.builds(Lease, run_id=run_ids, epoch=st.integers(0, 3), seen=st.integers(0, 3))
filters = st.builds(
    RunFilter,
    statuses=st.none() | st.lists(st.sampled_from(STATUSES), max_size=3).map(tuple),
    workflow=st.none() | st.just("order"),
    parent_id=st.none() | run_ids,
    attributes=attributes,
    since_ms=st.none() | st.just(START_MS + 1),
    after=st.none() | st.tuples(st.just(START_MS + 10), run_ids),
    limit=st.integers(1, 3),
)


class StoreAgreement(RuleBasedStateMachine):
    """The stores, side by side."""

    make_stores: ClassVar[Sequence[Callable[[VirtualClock], Store]]]
    """Each makes an unopened store of a kind under test, which runs by this clock, and is empty
    once it is open."""

    lacks: ClassVar[Collection[str]] = ()
    """As for ``StoreContract``: what is optional, and none of them can do."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.clock = VirtualClock()
        self.stores: tuple[Store, ...] = (
            MemoryStore(clock=self.clock),
            *(make(self.clock) for make in type(self).make_stores),
        )

    def all(self, verb: Callable[[Store], Awaitable[T]]) -> T:
        """Do it to all; the answers are equal."""

        async def run() -> list[T]:
            return [await verb(store) for store in self.stores]

        ours, *others = self.loop.run(run())
        for store, theirs in zip(self.stores[1:], others, strict=True):
            assert theirs == ours, type(store).__name__
        return ours

    @initialize(runs=st.lists(new_runs, min_size=1, max_size=3))
    def begin(self, runs: list[NewRun]) -> None:
        self.all(lambda store: store.open())
        self.create(runs)

    def teardown(self) -> None:
        self.all(lambda store: store.close())
        self.loop.close()

    @rule(runs=st.lists(new_runs, max_size=3))
    def create(self, runs: list[NewRun]) -> None:
        self.all(lambda store: store.create(runs))

    @rule(sent=st.lists(messages, max_size=3), limit=st.sampled_from((1, 3, 10_000)))
    def deliver(self, sent: list[Message], limit: int) -> None:
        self.all(lambda store: store.deliver(sent, inbox_limit=limit))

    @rule(
        sent=st.lists(messages, max_size=3),
        limit=st.sampled_from((1, 3, 10_000)),
        request=requests | generous,
    )
    def deliver_and_claim(self, sent: list[Message], limit: int, request: ClaimRequest) -> None:
        self.all(lambda store: store.deliver_and_claim(sent, request, inbox_limit=limit))

    @rule(
        sent=st.lists(messages, min_size=1, max_size=2),
        request=requests | generous,
        wish=wishes,
        off=seldom,
        ms=st.sampled_from((None, None, 0, 1)),
    )
    def deliver_and_foresee(
        self, sent: list[Message], request: ClaimRequest, wish: Wish, off: int, ms: int | None
    ) -> None:
        """What the receiver of the last message may make of it, as far as it can be guessed."""
        run_id = sent[-1].run_id
        found = self.all(lambda store: store.get([run_id]))
        if not found:
            return
        epoch = found[run_id].epoch
        ahead = attrs.evolve(found[run_id], epoch=next_epoch(epoch, request.mark))
        commit = wish.commit([ahead], {run_id: (1, 2, 3)}, self.clock())
        before_ms = None if ms is None else self.clock() + ms
        foreseen = Foreseen(commit=commit, after_epoch=epoch + off, before_ms=before_ms)
        self.all(lambda store: store.deliver_and_claim(sent, request, foreseen=foreseen))

    @rule(ms=st.sampled_from((0, 1, 10, LEASE_MS, 61_000)), request=requests)
    def claim_some(self, ms: int, request: ClaimRequest) -> None:
        self.clock.forward(ms)
        self.all(lambda store: store.claim(request))

    @rule(ms=st.sampled_from((0, 0, 10, LEASE_MS, 61_000)), request=generous)
    def claim_all(self, ms: int, request: ClaimRequest) -> None:
        self.clock.forward(ms)
        self.all(lambda store: store.claim(request))

    @rule(wish=wishes)
    def commit_one(self, wish: Wish) -> None:
        self.commit_batch([wish])

    @rule(wished=st.lists(wishes, min_size=2, max_size=4))
    def commit_batch(self, wished: list[Wish]) -> None:
        commits = self.grant(wished)
        self.all(lambda store: store.settled(commits))
        self.all(lambda store: store.commit(commits))
        self.all(lambda store: store.settled(commits))

    def grant(self, wished: list[Wish]) -> list[Commit]:
        """Commits of held runs, if there are any, else of whatever there is; of nothing, none."""
        found = self.all(lambda store: store.get(RUNS))
        held = [run for run in found.values() if run.owner is not None]
        leases = [Lease(run_id=run.run_id, epoch=run.epoch) for run in held]
        inbox = self.all(lambda store: store.inbox(leases))
        mail = {run_id: [message.seq for message in inbox[run_id]] for run_id in inbox}
        runs = held or list(found.values())
        return [wish.commit(runs, mail, self.clock()) for wish in wished if runs]

    @precondition(lambda self: "transaction" not in self.lacks)
    @rule(wish=wishes)
    def transact(self, wish: Wish) -> None:
        commits = self.grant([wish])
        if not commits:
            return
        (commit,) = commits

        async def transact(store: Store) -> object:
            try:
                lease = Lease(run_id=commit.run_id, epoch=commit.epoch)
                async with store.transaction(lease) as transaction:
                    return await transaction.commit(commit) if wish.count else None
            except Exception as error:
                return type(error)

        self.all(transact)

    @precondition(lambda self: "prune" not in self.lacks)
    @rule(
        before=st.sampled_from((-61_000, -10, 0, 1)),
        statuses=st.none() | st.lists(st.sampled_from(STATUSES), max_size=3).map(tuple),
        limit=st.integers(1, 3),
    )
    def prune(self, before: int, statuses: tuple[str, ...] | None, limit: int) -> None:
        before_ms = self.clock.now_ms + before
        self.all(lambda store: store.prune(before_ms=before_ms, statuses=statuses, limit=limit))

    @rule(held=st.lists(leases, max_size=4))
    def renew(self, held: list[Lease]) -> None:
        self.all(lambda store: store.inbox(held))
        self.all(lambda store: store.renew(held, lease_ms=LEASE_MS))

    @rule(query=filters, run_id=run_ids, after_seq=small, limit=small)
    def read(self, query: RunFilter, run_id: str, after_seq: int, limit: int) -> None:
        self.all(lambda store: store.find(query))
        self.all(lambda store: store.journal(run_id, after_seq=after_seq, limit=limit))

    @invariant()
    def everything_is_equal(self) -> None:
        if not self.bundles_ready():
            return

        async def snapshot(store: Store) -> dict[str, Any]:
            runs = await store.get(RUNS)
            held = [Lease(run_id=run_id, epoch=run.epoch) for run_id, run in runs.items()]
            return {
                "runs": runs,
                "inbox": await store.inbox(held),
                "journals": [await store.journal(run_id) for run_id in RUNS],
                "now": await store.now_ms(),
            }

        before = self.all(snapshot)
        for run in before["runs"].values():
            # I-LIVE: what has not ended is held, due, or waits for a message.
            assert (run.finished_at_ms is None) or (run.owner is run.due_at_ms is None)
            assert run.owner is None or run.due_at_ms is not None

    def bundles_ready(self) -> bool:
        """Whether the stores are open yet (invariants run before ``begin`` as well)."""
        return bool(getattr(self.stores[0], "_open", False))
