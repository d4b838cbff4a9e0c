"""Contract, second part: claims, the fence, commits, renewals, transactions."""

from __future__ import annotations

import asyncio

import pytest

from ..errors import DurableError, LeaseLostError
from ..store import Kind, Store
from .contract_kit import (
    APPLIED,
    CONFLICT,
    FENCED,
    KIND,
    LEASE_MS,
    StoreFixtures,
    claim,
    claim_one,
    commit_all,
    commit_one,
    entry,
    finish,
    ids,
    lease,
    let_go,
    needs,
    new_run,
    signal,
    started,
    step,
)
from .virtual_clock import START_MS, VirtualClock

MINUTE_MS = 60_000
EAGER = 2**32 + 7
"""An epoch that a run may be created with."""


class ClaimContract(StoreFixtures):
    """claim."""

    async def test_a_claim_leases_a_due_run(self, store: Store) -> None:
        (created,) = await store.create([new_run()])
        batch = await claim(store)
        (claimed,) = batch.runs
        run = claimed.run
        assert (run.epoch, run.owner, run.status) == (1, "w1", "running")
        assert run.due_at_ms == START_MS + LEASE_MS == batch.next_due_ms
        assert batch.now_ms == START_MS
        assert run.input == created.record.input
        assert (claimed.entries, claimed.inbox) == ((), ())
        assert (await store.get(["r1"]))["r1"] == run

    async def test_a_run_may_be_created_with_its_lease(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """As if the owner had claimed it in the same moment."""
        given = new_run(owner="w1", lease_ms=LEASE_MS, epoch=EAGER, delay_ms=7)
        (result,) = await store.create([given])
        run = result.record
        assert result.created
        assert (run.epoch, run.owner, run.status, run.deaths) == (EAGER, "w1", "running", 0)
        assert run.due_at_ms == START_MS + LEASE_MS
        assert (await store.get(["r1"]))["r1"] == run
        early = await claim(store, worker="w2")
        assert ids(early) == [] and early.next_due_ms == START_MS + LEASE_MS
        assert await commit_one(store, step(epoch=1)) is FENCED
        await commit_all(store, [step(epoch=EAGER)])
        assert (await store.renew([lease(epoch=EAGER)], lease_ms=LEASE_MS)).lost == frozenset()
        clock.forward(LEASE_MS)
        (taken,) = (await claim(store, worker="w2")).runs
        assert (taken.run.epoch, taken.run.owner, taken.run.deaths) == (EAGER + 1, "w2", 1)
        assert await commit_one(store, step(epoch=EAGER, after_seq=1)) is FENCED

    async def test_a_run_that_is_there_is_not_leased_by_creating_it_again(
        self, store: Store
    ) -> None:
        await store.create([new_run()])
        (again,) = await store.create([new_run(owner="w1", lease_ms=LEASE_MS, epoch=EAGER)])
        assert not again.created
        assert (again.record.epoch, again.record.owner) == (0, None)
        assert ids(await claim(store, worker="w2")) == ["r1"]
        assert await commit_one(store, step(epoch=EAGER)) is FENCED

    async def test_a_held_run_is_not_claimed(self, store: Store) -> None:
        await started(store)
        assert ids(await claim(store, worker="w2")) == []

    async def test_a_run_is_not_claimed_before_it_is_due(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await store.create([new_run(delay_ms=100)])
        early = await claim(store)
        assert ids(early) == [] and early.next_due_ms == START_MS + 100
        clock.forward(99)
        assert ids(await claim(store)) == []
        clock.forward(1)
        assert ids(await claim(store)) == ["r1"]

    async def test_with_nothing_to_come_there_is_no_next_time(self, store: Store) -> None:
        assert (await claim(store)).next_due_ms is None
        await started(store)
        await commit_all(store, [let_go()])
        assert (await claim(store)).next_due_ms is None
        await store.create([new_run("r2", queue="other"), new_run("r3", version="2")])
        assert (await claim(store)).next_due_ms is None

    async def test_what_was_left_for_lack_of_room_is_due_next(self, store: Store) -> None:
        await store.create([new_run("a"), new_run("b")])
        batch = await claim(store, limit=1)
        assert ids(batch) == ["a"] and batch.next_due_ms == START_MS
        assert ids(await claim(store, limit=0)) == []

    async def test_only_known_kinds_of_these_queues_are_claimed(self, store: Store) -> None:
        await store.create(
            [
                new_run("a"),
                new_run("b", queue="slow"),
                new_run("c", version="2"),
                new_run("d", workflow="other"),
                new_run("e", fingerprint="older"),
            ]
        )
        assert ids(await claim(store, kinds=())) == []
        assert ids(await claim(store, queues=())) == []
        assert ids(await claim(store)) == ["a", "e"]
        two = Kind(workflow="order", version="2", fingerprint="fp2")
        assert ids(await claim(store, queues=("slow", "default", "slow"), kinds=(KIND, two))) == [
            "b",
            "c",
        ]

    async def test_the_most_urgent_come_first(self, store: Store) -> None:
        await store.create([new_run("a"), new_run("b", priority=1), new_run("c", priority=-1)])
        await store.create([new_run("d", priority=1), new_run("e", priority=5, queue="slow")])
        both = ("default", "slow")
        assert ids(await claim(store, limit=2, queues=both)) == ["e", "b"]
        assert ids(await claim(store, queues=both)) == ["d", "a", "c"]

    async def test_nothing_starves(self, store: Store, clock: VirtualClock) -> None:
        await store.create([new_run("old")])
        clock.forward(2 * MINUTE_MS - 1)
        await store.create([new_run("urgent", priority=2)])
        assert ids(await claim(store, limit=1)) == ["urgent"]
        clock.forward(2)
        await store.create([new_run("late", priority=2)])
        assert ids(await claim(store)) == ["old", "late"]

    async def test_urgency_does_not_make_a_run_due(self, store: Store, clock: VirtualClock) -> None:
        await store.create([new_run("a", priority=1_000, delay_ms=1), new_run("b")])
        assert ids(await claim(store)) == ["b"]
        clock.forward(1)
        assert ids(await claim(store)) == ["a"]

    async def test_an_expired_lease_is_taken_over_and_counted(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store)
        clock.forward(LEASE_MS)
        taken = await claim_one(store, worker="w2")
        assert (taken.run.epoch, taken.run.owner, taken.run.deaths) == (2, "w2", 1)
        assert await commit_one(store, step(epoch=1)) is FENCED
        await commit_all(store, [step(epoch=2, n=0)])
        assert (await store.get(["r1"]))["r1"].deaths == 1
        await commit_all(store, [step(epoch=2)])
        assert (await store.get(["r1"]))["r1"].deaths == 0

    async def test_one_that_claims_its_own_run_again_lives(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store)
        clock.forward(LEASE_MS)
        again = await claim_one(store)
        assert (again.run.epoch, again.run.owner, again.run.deaths) == (2, "w1", 0)
        assert await commit_one(store, step(epoch=1)) is FENCED
        for epoch, worker, deaths in ((3, "w2", 1), (4, "w2", 1), (5, "w1", 2)):
            clock.forward(LEASE_MS)
            again = await claim_one(store, worker=worker)
            assert (again.run.epoch, again.run.deaths) == (epoch, deaths)

    async def test_a_claim_marks_its_epochs(self, store: Store, clock: VirtualClock) -> None:
        """Two claims that find a run in the same state, because the machine of the store has lost
        the first, lease it under two epochs; and each is higher than the one before."""
        await store.create([new_run("a"), new_run("b"), new_run("c")])
        for run_id, mark in (("a", EAGER % 2**32), ("b", 2**32 - 1), ("c", 0)):
            found = await claim_one(store, run_id, limit=1, mark=mark)
            assert found.run.epoch == 2**32 + mark
        assert await commit_one(store, step("a", epoch=2**33 - 1)) is FENCED
        await commit_all(store, [step("a", epoch=EAGER), step("b", epoch=2**33 - 1)])
        for later, epoch in ((0, 2 * 2**32), (3, 3 * 2**32 + 3), (None, 3 * 2**32 + 4)):
            clock.forward(LEASE_MS)
            batch = await claim(store, worker=f"w{later}", mark=later)
            assert {taken.run.epoch for taken in batch.runs} == {epoch}
            assert await commit_one(store, step("a", epoch=epoch - 1, after_seq=1)) is FENCED

    async def test_giving_a_run_back_is_no_death(self, store: Store, clock: VirtualClock) -> None:
        await started(store)
        await commit_all(store, [let_go(due_at_ms=START_MS)])
        assert (await claim_one(store)).run.deaths == 0

    async def test_few_suspects_are_claimed_at_once(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await store.create([new_run("a"), new_run("b")])
        for number in range(4):
            assert ids(await claim(store, worker=f"dead {number}")) == ["a", "b"]
            clock.forward(LEASE_MS)
        await store.create([new_run("c"), new_run("d", priority=-1_000)])
        batch = await claim(store, suspect_deaths=3, suspects=1)
        assert ids(batch) == ["a", "c", "d"]
        assert batch.next_due_ms == clock.now_ms - LEASE_MS + LEASE_MS
        assert batch.runs[0].run.deaths == 4
        none = await claim(store, suspect_deaths=3, suspects=0)
        assert ids(none) == []
        assert none.next_due_ms == clock.now_ms + LEASE_MS
        assert ids(await claim(store, suspect_deaths=4)) == ["b"]

    async def test_a_pinned_run_waits_for_a_worker_that_fits(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [let_go(due_at_ms=START_MS, pin="fp2")])
        batch = await claim(store)
        assert ids(batch) == [] and batch.next_due_ms is None
        two = Kind(workflow="order", version="1", fingerprint="fp2")
        claimed = await claim_one(store, kinds=(KIND, two))
        assert (claimed.run.pin, claimed.run.epoch) == ("fp2", 2)
        await commit_all(store, [let_go(epoch=2, due_at_ms=START_MS)])
        assert (await claim_one(store)).run.pin is None

    async def test_a_message_lifts_the_pin(self, store: Store) -> None:
        await started(store)
        for epoch, reopens in ((1, False), (2, True)):
            await commit_all(store, [let_go(epoch=epoch, pin="fp2", seen=2)])
            assert ids(await claim(store)) == []
            await store.deliver([signal(reopens=reopens)])
            assert (await claim_one(store)).run.pin is None

    async def test_any_worker_may_claim_for_some_messages(self, store: Store) -> None:
        await store.create([new_run("a", workflow="x", queue="q"), new_run("b", workflow="x")])
        await store.deliver([signal("a", anyone=True), signal("b")])
        claimed = await claim_one(store, "a", kinds=())
        assert [message.seq for message in claimed.inbox] == [1]
        await commit_all(store, [let_go("a", due_at_ms=START_MS)])
        assert ids(await claim(store, kinds=())) == []  # that claim was the one
        x = Kind(workflow="x", version="1", fingerprint="fp1")
        assert ids(await claim(store, kinds=(x,), queues=("q",))) == ["a"]

    async def test_a_long_journal_is_cut(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [let_go(n=5, due_at_ms=START_MS)])
        claimed = await claim_one(store, journal_limit=3)
        assert [e.seq for e in claimed.entries] == [1, 2, 3]
        assert claimed.run.entry_count == 5

    async def test_a_status_that_means_something_is_kept(self, store: Store) -> None:
        await started(store)
        await commit_all(
            store, [let_go(due_at_ms=START_MS, status="compensating", waiting="[]", failure="{}")]
        )
        run = (await claim_one(store)).run
        assert (run.status, run.waiting, run.failure) == ("compensating", "[]", "{}")

    async def test_two_claims_at_once_never_share_a_run(self, store: Store) -> None:
        await store.create([new_run(f"r{i}") for i in range(20)])
        batches = await asyncio.gather(*(claim(store, worker=f"w{i}", limit=5) for i in range(5)))
        claimed = [run_id for batch in batches for run_id in ids(batch)]
        assert len(claimed) == len(set(claimed)) == 20


class CommitContract(StoreFixtures):
    """commit, settled, renew, inbox, transaction."""

    async def test_a_commit_writes_its_entries_and_what_changed(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store)
        clock.forward(5)
        entries = (entry(1, meta='{"a":1}', attempt=3), entry(2, unit="", format=2))
        result = await store.commit(
            [step(entries=entries, status="compensating", generation=2, waiting="[1]")]
        )
        assert result.verdicts == (APPLIED,)
        assert (result.now_ms, result.mail) == (START_MS + 5, {})
        assert await store.journal("r1") == entries
        run = (await store.get(["r1"]))["r1"]
        assert (run.status, run.generation, run.waiting) == ("compensating", 2, "[1]")
        assert (run.entry_count, run.updated_at_ms) == (2, START_MS + 5)
        assert (run.owner, run.due_at_ms) == ("w1", START_MS + LEASE_MS)

    async def test_a_commit_that_renews_begins_the_journal_anew(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store)
        await store.create([new_run("other")])
        await claim_one(store, "other")
        await commit_all(store, [step(n=3), step("other", n=2)])
        assert await commit_one(store, step(after_seq=2, renews=True)) is CONFLICT
        assert [e.seq for e in await store.journal("r1")] == [1, 2, 3]
        renewing = step(after_seq=3, n=2, generation=2, renews=True)
        assert await commit_one(store, renewing) is APPLIED
        assert await store.settled([renewing]) == (APPLIED,)
        assert [e.seq for e in await store.journal("r1")] == [4, 5]
        assert [e.seq for e in await store.journal("r1", after_seq=4)] == [5]
        assert [e.seq for e in await store.journal("other")] == [1, 2]
        await commit_all(store, [let_go(after_seq=5, n=1, due_at_ms=START_MS)])
        claimed = await claim_one(store, journal_limit=2)
        assert [e.seq for e in claimed.entries] == [4, 5]
        assert claimed.run.entry_count == 6

    async def test_a_stale_epoch_changes_nothing(self, store: Store, clock: VirtualClock) -> None:
        await started(store)
        await store.deliver([signal()])
        clock.forward(LEASE_MS)
        await claim_one(store, worker="w2")
        before = await store.get(["r1"])
        stale = finish(
            consumed=(1,), children=(new_run("c"),), messages=(signal(),), tokens_opened=("t",)
        )
        for commit in (stale, step(epoch=3), step("nobody")):
            assert await commit_one(store, commit) is FENCED
        assert await store.get(["r1", "c"]) == before
        assert await store.journal("r1") == ()
        assert len((await store.inbox([lease(epoch=2)]))["r1"]) == 1

    async def test_a_run_given_back_takes_no_more_commits(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [let_go()])
        assert await commit_one(store, step()) is FENCED
        renewed = await store.renew([lease()], lease_ms=1)
        assert renewed.lost == {"r1"}

    async def test_an_expired_lease_nobody_took_is_still_good(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store)
        clock.forward(10 * LEASE_MS)
        assert await commit_one(store, step()) is APPLIED

    async def test_a_journal_that_ends_elsewhere_is_a_conflict(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [step()])
        assert await commit_one(store, step(after_seq=0, children=(new_run("c"),))) is CONFLICT
        assert await commit_one(store, step(after_seq=2)) is CONFLICT
        assert [e.seq for e in await store.journal("r1")] == [1]
        assert await store.get(["c"]) == {}

    async def test_an_ended_run_is_final(self, store: Store, clock: VirtualClock) -> None:
        await started(store, attributes={"k": "1"})
        clock.forward(9)
        assert await commit_one(store, finish(failure="{}", waiting="[]")) is APPLIED
        run = (await store.get(["r1"]))["r1"]
        assert (run.status, run.failure, run.waiting) == ("completed", "{}", "[]")
        assert run.finished_at_ms == run.updated_at_ms == START_MS + 9
        assert (run.owner, run.due_at_ms, run.pin) == (None, None, None)
        assert (run.epoch, run.entry_count, run.deaths) == (1, 1, 0)
        assert await commit_one(store, step(after_seq=1)) is FENCED
        assert (await store.renew([lease()], lease_ms=1)).lost == {"r1"}
        clock.forward(LEASE_MS)
        assert ids(await claim(store)) == []
        assert len(await store.journal("r1")) == 1

    async def test_each_commit_of_a_batch_has_its_own_verdict(self, store: Store) -> None:
        for run_id in "abc":
            await started(store, run_id)
        result = await store.commit(
            [step("a"), step("b", epoch=7), step("c", after_seq=3), finish("c"), step("z")]
        )
        assert result.verdicts == (APPLIED, FENCED, CONFLICT, APPLIED, FENCED)

    async def test_a_batch_may_hold_several_commits_of_one_run(self, store: Store) -> None:
        await started(store)
        result = await store.commit(
            [step(), step(after_seq=1, n=2), step(after_seq=1), finish(after_seq=3), step()]
        )
        assert result.verdicts == (APPLIED, APPLIED, CONFLICT, APPLIED, FENCED)
        assert [e.seq for e in await store.journal("r1")] == [1, 2, 3, 4]

    async def test_a_release_sets_when_the_run_goes_on(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store)
        await commit_all(store, [let_go(due_at_ms=START_MS + 50)])
        run = (await store.get(["r1"]))["r1"]
        assert (run.owner, run.due_at_ms, run.status) == (None, START_MS + 50, "suspended")
        assert (await claim(store)).next_due_ms == START_MS + 50
        clock.forward(50)
        assert (await claim_one(store)).run.epoch == 2

    async def test_children_are_created_in_the_same_commit(self, store: Store) -> None:
        await started(store)
        await store.create([new_run("there", digest="mine")])
        children = (
            new_run("c", parent_id="r1", parent_unit="spawn", depth=1, attributes={"a": "1"}),
            new_run("there", parent_id="r1"),
            new_run("c"),
        )
        await commit_all(store, [step(children=children)])
        found = await store.get(["c", "there"])
        assert found["c"].parent_id == "r1" and found["c"].attributes == {"a": "1"}
        assert found["there"].parent_id is None
        assert set(ids(await claim(store))) == {"c", "there"}

    async def test_what_became_of_a_commit_can_be_asked(
        self, store: Store, clock: VirtualClock
    ) -> None:
        for run_id in "abcdefg":
            await started(store, run_id)
        await store.deliver([signal("f")])
        landed = [
            step("a"),
            finish("b"),
            let_go("c"),
            finish("d", n=0),
            step("e", n=0, waiting="[1]"),
            step("f", n=0, consumed=(1,), seen=1),
        ]
        assert set(await store.settled(landed)) == {CONFLICT}
        await commit_all(store, landed)
        assert set(await store.settled(landed)) == {APPLIED}
        clock.forward(LEASE_MS)
        assert ids(await claim(store, worker="w2")) == ["a", "e", "f", "g"]
        lost = [step("g"), step("a", after_seq=1), step("nobody"), step("b", epoch=2, after_seq=1)]
        assert set(await store.settled(lost)) == {FENCED}
        assert (await store.settled([step("a")])) == (APPLIED,)

    async def test_renewing_extends_current_leases_only(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store, "a")
        await started(store, "b")
        clock.forward(1_000)
        renewed = await store.renew(
            [lease("a"), lease("b", epoch=2), lease("nobody")], lease_ms=LEASE_MS
        )
        assert renewed.lost == {"b", "nobody"}
        assert (renewed.mail, renewed.now_ms) == (frozenset(), START_MS + 1_000)
        clock.forward(LEASE_MS - 1_000)
        assert ids(await claim(store, worker="w2")) == ["b"]

    # --- transaction -------------------------------------------------------------------------

    @needs("transaction")
    async def test_a_transaction_commits_the_transition(self, store: Store) -> None:
        await started(store)
        async with store.transaction(lease()) as transaction:
            assert transaction.conn is not None
            assert await transaction.commit(step(children=(new_run("c"),))) is APPLIED
        assert len(await store.journal("r1")) == 1
        assert set(await store.get(["c"])) == {"c"}

    @needs("transaction")
    async def test_a_transaction_left_without_commit_is_undone(self, store: Store) -> None:
        await started(store)
        before = await store.get(["r1"])
        async with store.transaction(lease()):
            pass
        with pytest.raises(ZeroDivisionError):
            async with store.transaction(lease()):
                raise ZeroDivisionError
        assert await store.get(["r1"]) == before
        assert await commit_one(store, step()) is APPLIED

    @needs("transaction")
    async def test_a_transaction_takes_the_fence_first(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store)
        for held in (lease(epoch=2), lease("nobody")):
            with pytest.raises(LeaseLostError):
                async with store.transaction(held):
                    raise AssertionError("the block must not run")
        clock.forward(LEASE_MS)
        await claim_one(store, worker="w2")
        with pytest.raises(LeaseLostError):
            async with store.transaction(lease()):
                raise AssertionError("the block must not run")

    @needs("transaction")
    async def test_a_refused_transaction_leaves_nothing(self, store: Store) -> None:
        await started(store)
        async with store.transaction(lease()) as transaction:
            conflict = step(after_seq=4, children=(new_run("c"),))
            assert await transaction.commit(conflict) is CONFLICT
            with pytest.raises(DurableError):
                await transaction.commit(step())
        assert await store.journal("r1") == ()
        assert await store.get(["c"]) == {}

    @needs("transaction")
    async def test_a_transaction_is_for_one_run(self, store: Store) -> None:
        await started(store)
        await started(store, "r2")
        async with store.transaction(lease()) as transaction:
            with pytest.raises(DurableError):
                await transaction.commit(step("r2"))
        assert await store.journal("r2") == ()
