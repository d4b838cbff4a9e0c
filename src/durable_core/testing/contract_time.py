"""Contract, fifth part: commits that time decided, before and at their moment."""

from __future__ import annotations

from ..store import CommitVerdict, Store
from .contract_kit import (
    APPLIED,
    CONFLICT,
    FENCED,
    LEASE_MS,
    StoreFixtures,
    claim,
    claim_one,
    commit_all,
    commit_one,
    ids,
    lease,
    let_go,
    signal,
    started,
    step,
)
from .virtual_clock import START_MS, VirtualClock

EARLY, UNHEARD = CommitVerdict.EARLY, CommitVerdict.UNHEARD
MOMENT_MS = START_MS + 5


class TimeContract(StoreFixtures):
    """commit and settled, with ``not_before_ms``."""

    async def test_what_time_decides_is_early_until_its_moment(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store)
        before = await store.get(["r1"])
        clock.forward(4)
        fired = step(not_before_ms=MOMENT_MS, waiting="[1]")
        assert await commit_one(store, fired) is EARLY
        assert (await store.get(["r1"]), await store.journal("r1")) == (before, ())
        clock.forward(1)
        assert await commit_one(store, fired) is APPLIED
        assert (await store.get(["r1"]))["r1"].waiting == "[1]"
        assert len(await store.journal("r1")) == 1

    async def test_nor_does_it_pass_over_a_message_that_was_not_heard(self, store: Store) -> None:
        await started(store)
        await store.deliver([signal(), signal(name="stop")])
        before = await store.get(["r1"])
        for seen in (0, 1):
            fired = step(not_before_ms=START_MS, seen=seen, consumed=(1,))
            assert await commit_one(store, fired) is UNHEARD
        assert (await store.get(["r1"]), await store.journal("r1")) == (before, ())
        assert await commit_one(store, step(not_before_ms=START_MS, seen=2)) is APPLIED

    async def test_nor_one_that_is_too_early_besides(self, store: Store) -> None:
        await started(store)
        await store.deliver([signal()])
        assert await commit_one(store, step(not_before_ms=MOMENT_MS)) is EARLY
        assert await commit_one(store, step(not_before_ms=MOMENT_MS, epoch=2)) is FENCED
        assert await commit_one(store, step(not_before_ms=MOMENT_MS, after_seq=1)) is CONFLICT

    async def test_what_was_consumed_under_earlier_epochs_counts_as_heard(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store)
        await store.deliver([signal()])
        await commit_all(store, [step(seen=1, consumed=(1,))])
        await commit_all(store, [let_go(after_seq=1, n=0, due_at_ms=START_MS)])
        again = await claim_one(store)
        assert again.inbox == ()
        fired = step(epoch=2, after_seq=1, not_before_ms=START_MS)
        assert await commit_one(store, fired) is APPLIED

    async def test_of_a_batch_only_what_is_untimely_is_refused(self, store: Store) -> None:
        for run_id in "abc":
            await started(store, run_id)
        await store.deliver([signal("c")])
        batch = [
            step("a", not_before_ms=START_MS, messages=(signal("b"),)),
            step("b", not_before_ms=MOMENT_MS, messages=(signal("a"), signal("c"))),
            step("c", not_before_ms=START_MS, messages=(signal("a"),)),
        ]
        result = await store.commit(batch)
        assert result.verdicts == (APPLIED, EARLY, UNHEARD)
        assert {len(await store.journal(run_id)) for run_id in "bc"} == {0}
        # What is left of its consequences: none of the refused, all of the applied one's.
        assert set(await store.inbox([lease(run_id) for run_id in "abc"])) == {"b", "c"}

    async def test_whether_it_landed_is_known_where_it_left_something_behind(
        self, store: Store, clock: VirtualClock
    ) -> None:
        for run_id in "abc":
            await started(store, run_id)
        commits = [
            step("a", not_before_ms=START_MS),
            step("b", n=0, not_before_ms=START_MS),
            let_go("c", n=0, not_before_ms=START_MS),
        ]
        assert await store.settled(commits) == (CONFLICT, CONFLICT, CONFLICT)
        await commit_all(store, commits)
        # The second may be sent again: whether it had been refused, nobody could say.
        assert await store.settled(commits) == (APPLIED, CONFLICT, APPLIED)
        clock.forward(LEASE_MS)
        assert ids(await claim(store, worker="w2")) == ["a", "b"]
        assert (await store.settled(commits))[1] is FENCED
