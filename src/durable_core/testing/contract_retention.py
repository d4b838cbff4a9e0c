"""Contract, fourth part: ended runs are removed, wholly or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from ..store import DeliverVerdict, Kind, Message, RunFilter, Store
from .contract_kit import (
    FENCED,
    LEASE_MS,
    StoreFixtures,
    claim,
    claim_one,
    commit_all,
    commit_one,
    finish,
    ids,
    lease,
    let_go,
    needs,
    new_run,
    payload,
    signal,
    started,
    step,
)
from .virtual_clock import START_MS, VirtualClock

EVER_MS = START_MS * 2
"""A moment before which everything has ended."""


async def there(store: Store, run_ids: Iterable[str]) -> str:
    """Which of these runs, with names of one letter, exist."""
    return "".join(sorted(await store.get(list(run_ids))))


async def end(store: Store, *run_ids: str, **changes: str) -> None:
    """Runs that begin and end now."""
    for run_id in run_ids:
        await started(store, run_id, parent_id=changes.get("parent_id"))
    status = changes.get("status", "completed")
    await commit_all(store, [finish(run_id, status=status) for run_id in run_ids])


class RetentionContract(StoreFixtures):
    """prune."""

    @needs("prune")
    async def test_what_ended_before_a_moment_is_removed(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await end(store, "a")
        clock.forward(10)
        await end(store, "b")
        assert await store.prune(before_ms=START_MS) == 0
        assert await store.prune(before_ms=START_MS + 10) == 1
        assert await there(store, "ab") == "b"
        assert await store.prune(before_ms=START_MS + 10) == 0
        assert await store.prune(before_ms=START_MS + 11) == 1
        assert await there(store, "ab") == ""

    @needs("prune")
    async def test_what_has_not_ended_is_never_removed(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store, "a")
        await started(store, "b")
        await commit_all(store, [let_go("b")])
        await store.create([new_run("c"), new_run("d", delay_ms=1_000)])
        clock.forward(100 * LEASE_MS)
        assert await store.prune(before_ms=EVER_MS) == 0
        assert await there(store, "abcd") == "abcd"

    @needs("prune")
    async def test_a_run_opened_again_is_removed_only_after_its_new_end(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await end(store, "a", status="failed")
        clock.forward(10)
        await store.deliver([Message(run_id="a", kind="retry", reopens=True)])
        assert await store.prune(before_ms=EVER_MS) == 0
        await claim_one(store, "a")
        await commit_all(store, [finish("a", epoch=2, after_seq=1, consumed=(1,), seen=1)])
        assert await store.prune(before_ms=START_MS + 10) == 0
        assert await store.prune(before_ms=START_MS + 11) == 1

    @needs("prune")
    async def test_only_runs_of_these_statuses_are_removed(self, store: Store) -> None:
        await end(store, "a")
        await end(store, "b", status="failed")
        await end(store, "c", status="cancelled")
        assert await store.prune(before_ms=EVER_MS, statuses=()) == 0
        assert await store.prune(before_ms=EVER_MS, statuses=("running", "pending")) == 0
        assert await store.prune(before_ms=EVER_MS, statuses=("failed", "cancelled")) == 2
        assert await there(store, "abc") == "a"
        assert await store.prune(before_ms=EVER_MS, statuses=None) == 1

    @needs("prune")
    async def test_the_oldest_end_goes_first(self, store: Store, clock: VirtualClock) -> None:
        for run_id in "abcd":
            await started(store, run_id)
        for batch in ("c", "db", "a"):
            await commit_all(store, [finish(run_id) for run_id in batch])
            clock.forward(1)
        assert await store.prune(before_ms=EVER_MS, limit=2) == 2
        assert await there(store, "abcd") == "ad"
        assert await store.prune(before_ms=EVER_MS, limit=2) == 2
        assert await store.prune(before_ms=EVER_MS, limit=2) == 0

    # --- families ----------------------------------------------------------------------------

    @needs("prune")
    async def test_a_family_goes_from_the_root_down(self, store: Store) -> None:
        await end(store, "c", parent_id="b")
        await end(store, "b", "d", parent_id="a")
        await end(store, "a")
        for left in ("bcd", "c", ""):
            before = len(await store.get(list("abcd")))
            assert await store.prune(before_ms=EVER_MS) == before - len(left)
            assert await there(store, "abcd") == left
        assert await store.prune(before_ms=EVER_MS) == 0

    @needs("prune")
    async def test_a_live_ancestor_keeps_its_whole_family(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store, "a")
        await end(store, "b", parent_id="a")
        await end(store, "c", parent_id="b")
        assert await store.prune(before_ms=EVER_MS) == 0
        clock.forward(10)
        await commit_all(store, [finish("a")])
        assert await store.prune(before_ms=START_MS + 10) == 0
        assert [await store.prune(before_ms=EVER_MS) for _ in range(4)] == [1, 1, 1, 0]

    @needs("prune")
    async def test_a_parent_that_must_stay_keeps_its_children(self, store: Store) -> None:
        await end(store, "a", status="failed")
        await end(store, "b", parent_id="a")
        assert await store.prune(before_ms=EVER_MS, statuses=("completed",)) == 0
        assert await store.prune(before_ms=EVER_MS, statuses=("failed",)) == 1
        assert await store.prune(before_ms=EVER_MS, statuses=("completed",)) == 1

    @needs("prune")
    async def test_live_children_do_not_keep_their_parent(self, store: Store) -> None:
        """A terminated parent does not wait for them. What they send it then is dropped."""
        await started(store, "b", parent_id="a")
        await end(store, "a")
        assert await store.prune(before_ms=EVER_MS) == 1
        await commit_all(store, [finish("b", messages=(signal("a"),))])
        assert await store.prune(before_ms=EVER_MS) == 1

    @needs("prune")
    async def test_a_parent_nobody_knows_keeps_nothing(self, store: Store) -> None:
        await end(store, "a", parent_id="nobody")
        assert await store.prune(before_ms=EVER_MS) == 1

    @needs("prune")
    async def test_runs_that_must_stay_hide_nobody(self, store: Store, clock: VirtualClock) -> None:
        await started(store, "p")
        children = [f"child{n:03}" for n in range(50)]
        await store.create([new_run(run_id, parent_id="p") for run_id in children])
        assert len(ids(await claim(store, limit=100))) == 50
        await commit_all(store, [finish(run_id) for run_id in children])
        clock.forward(1)
        await end(store, "a", "b")
        assert [await store.prune(before_ms=EVER_MS, limit=1) for _ in range(3)] == [1, 1, 0]
        assert len(await store.get(children)) == 50

    # --- wholly ------------------------------------------------------------------------------

    async def _full_life(self, store: Store, run_id: str) -> None:
        """Leaves something in every place a store can keep something of a run."""
        await started(store, run_id, attributes={"who": '"x"', 'o"d d\u00fc\n': '"\U0001f600"'})
        await commit_all(store, [step(run_id, n=2, tokens_opened=("used", "open"))])
        await store.deliver(
            [
                signal(run_id, "1", dedupe="k"),
                signal(run_id, "2", token="used", payload=payload("1")),
                signal(run_id, "3"),
            ]
        )
        await commit_all(store, [finish(run_id, after_seq=2, consumed=(1,), seen=3)])

    @needs("prune")
    async def test_nothing_of_a_removed_run_can_be_found(self, store: Store) -> None:
        await self._full_life(store, "a")
        assert await store.prune(before_ms=EVER_MS) == 1
        assert await store.get(["a"]) == {}
        assert await store.journal("a") == ()
        for query in (
            RunFilter(),
            RunFilter(statuses=("completed",)),
            RunFilter(workflow="order"),
            RunFilter(attributes={"who": '"x"'}),
        ):
            assert await store.find(query) == ()
        assert (await claim(store)).next_due_ms is None
        sent = [signal("a"), signal("a", dedupe="k"), signal("a", token="used")]
        retry = Message(run_id="a", kind="retry", reopens=True)
        assert set(await store.deliver([*sent, retry])) == {DeliverVerdict.UNKNOWN}
        assert await commit_one(store, step("a", after_seq=3)) is FENCED
        assert await store.settled([finish("a", after_seq=3, n=0)]) == (FENCED,)
        assert (await store.renew([lease("a")], lease_ms=1)).lost == {"a"}

    @needs("prune")
    async def test_a_new_run_of_the_same_id_sees_nothing_of_the_old_one(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await self._full_life(store, "a")
        await store.prune(before_ms=EVER_MS)
        clock.forward(10)
        (result,) = await store.create([new_run("a", workflow="refund", digest="other")])
        assert result.created and result.record.created_at_ms == START_MS + 10
        assert (result.record.epoch, result.record.entry_count) == (0, 0)
        assert result.record.attributes == {}
        assert await store.find(RunFilter(attributes={"who": '"x"'})) == ()
        assert await store.find(RunFilter(statuses=("completed",))) == ()
        again = [signal("a", dedupe="k"), signal("a", token="used"), signal("a", token="open")]
        stale = DeliverVerdict.STALE
        assert await store.deliver(again) == (DeliverVerdict.DELIVERED, stale, stale)
        refund = Kind(workflow="refund", version="1", fingerprint="fp1")
        claimed = await claim_one(store, "a", kinds=(refund,))
        assert (claimed.run.epoch, claimed.entries) == (1, ())
        assert [m.seq for m in claimed.inbox] == [1]
        await commit_all(store, [finish("a", consumed=(1,), seen=1)])
        assert [e.seq for e in await store.journal("a")] == [1]

    @needs("prune")
    async def test_the_neighbours_of_a_removed_run_keep_everything(
        self, store: Store, clock: VirtualClock
    ) -> None:
        for run_id in ("a", "ab", "b"):
            await self._full_life(store, run_id)
            clock.forward(1)
        kept = await store.get(["a", "b"])
        journals = [await store.journal(run_id) for run_id in "ab"]
        assert await store.prune(before_ms=START_MS + 1) == 1  # "a"
        await store.create([new_run("a", attributes={"who": '"y"'})])
        assert await store.prune(before_ms=START_MS + 2) == 1  # "ab"
        assert (await store.get(["b"]))["b"] == kept["b"]
        assert await store.journal("b") == journals[1]
        assert [r.run_id for r in await store.find(RunFilter(attributes={"who": '"x"'}))] == ["b"]
        assert [r.run_id for r in await store.find(RunFilter(attributes={"who": '"y"'}))] == ["a"]
        used = signal("b", token="used", payload=payload("1"))
        duplicate = DeliverVerdict.DUPLICATE
        assert await store.deliver([signal("b", dedupe="k"), used]) == (duplicate, duplicate)
        await store.deliver([Message(run_id="b", kind="retry", reopens=True)])
        claimed = next(c for c in (await claim(store)).runs if c.run.run_id == "b")
        assert [m.seq for m in claimed.inbox] == [2, 3, 4]

    @needs("prune")
    async def test_several_who_prune_at_once_remove_each_run_once(self, store: Store) -> None:
        runs = [f"r{n:02}" for n in range(40)]
        await store.create([new_run(run_id) for run_id in runs])
        await claim(store, limit=40)
        await commit_all(store, [finish(run_id) for run_id in runs])
        other = store.twin()
        await other.open()
        try:
            both = (store, other)
            removed = await asyncio.gather(
                *(both[n % 2].prune(before_ms=EVER_MS, limit=7) for n in range(8))
            )
            while more := await store.prune(before_ms=EVER_MS, limit=7):
                removed.append(more)
        finally:
            await other.close()
        assert sum(removed) == 40
        assert await store.get(runs) == {}
