"""Contract, seventh part: foreseen commits, which land with the message that they take in."""

from __future__ import annotations

from typing import Any

import attrs

from ..store import (
    ClaimedRun,
    Commit,
    CommitVerdict,
    DeliverVerdict,
    Delivery,
    Foreseen,
    Message,
    Store,
)
from .contract_eager import taken
from .contract_kit import (
    APPLIED,
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
    new_run,
    payload,
    request,
    signal,
    started,
    step,
)
from .virtual_clock import START_MS, VirtualClock

MARK = 77
EPOCH = 2**32 + MARK
"""Of the lease that a call with this mark gives after the first epochs."""


async def waiting(store: Store, run_id: str = "r1", **changes: Any) -> None:
    """A run that waits for a message, with a journal of two entries and one message consumed."""
    await started(store, run_id, **changes)
    await store.deliver([signal(run_id)])
    await commit_all(store, [let_go(run_id, n=2, seen=1, consumed=(1,))])


def foreseen(run_id: str = "r1", **changes: Any) -> Commit:
    """What a waiting run makes of its second message, if nothing has come between."""
    facts: dict[str, Any] = {"epoch": EPOCH, "after_seq": 2, "consumed": (2,), "seen": 2}
    return step(run_id, **{**facts, "not_before_ms": 0, **changes})


async def foresee(
    store: Store,
    one: Commit,
    *messages: Message,
    after_epoch: int = 1,
    before_ms: int | None = None,
    inbox_limit: int = 10_000,
    **changes: Any,
) -> Delivery:
    """Deliver these, or one signal to its run, with this commit."""
    return await store.deliver_and_claim(
        messages or [signal(one.run_id)],
        request(**{"mark": MARK, **changes}),
        inbox_limit=inbox_limit,
        foreseen=Foreseen(commit=one, after_epoch=after_epoch, before_ms=before_ms),
    )


async def claim_one_that_waits(store: Store) -> ClaimedRun:
    """By another worker, for a message that it leaves where it is."""
    await store.deliver([signal()])
    return await claim_one(store, worker="w2")


class ForeseenContract(StoreFixtures):
    """deliver_and_claim with a commit."""

    async def test_message_lease_and_commit_are_one(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await waiting(store)
        clock.forward(5)
        one = foreseen(waiting="[]")
        delivery = await foresee(store, one, signal(payload=payload("1"), dedupe="k"))
        assert delivery == Delivery(
            verdicts=(DeliverVerdict.DELIVERED,),
            runs=(),
            now_ms=START_MS + 5,
            foreseen=APPLIED,
        )
        run = (await store.get(["r1"]))["r1"]
        assert (run.epoch, run.owner, run.status, run.waiting) == (EPOCH, "w1", "running", "[]")
        assert (run.entry_count, run.due_at_ms) == (3, START_MS + 5 + LEASE_MS)
        assert [each.seq for each in await store.journal("r1")] == [1, 2, 3]
        assert await store.inbox([lease(epoch=EPOCH)]) == {}
        assert ids(await claim(store, worker="w2")) == []
        again = await foresee(store, foreseen(epoch=2 * 2**32 + MARK), signal(dedupe="k"))
        assert again.verdicts == (DeliverVerdict.DUPLICATE,)
        assert await commit_one(store, step(epoch=EPOCH, after_seq=3)) is APPLIED

    async def test_it_may_give_the_run_back_or_end_it(self, store: Store) -> None:
        for run_id in ("a", "b"):
            await waiting(store, run_id)
        back = let_go("a", EPOCH, 2, n=1, consumed=(2,), seen=2, due_at_ms=START_MS + 50)
        assert (await foresee(store, back)).foreseen is APPLIED
        over = finish("b", EPOCH, 2, consumed=(2,), seen=2, not_before_ms=0)
        assert (await foresee(store, over)).foreseen is APPLIED
        runs = await store.get(["a", "b"])
        assert (runs["a"].owner, runs["a"].due_at_ms) == (None, START_MS + 50)
        assert (runs["b"].status, runs["b"].finished_at_ms) == ("completed", START_MS)
        gone = await foresee(store, attrs.evolve(over, after_seq=3))
        assert (gone.verdicts, gone.foreseen) == ((DeliverVerdict.FINISHED,), FENCED)

    async def test_it_may_have_consequences(self, store: Store) -> None:
        await waiting(store)
        await store.create([new_run("other")])
        one = foreseen(
            children=(new_run("child", parent_id="r1", parent_unit="c", depth=1),),
            messages=(signal("other"),),
            tokens_opened=("t",),
        )
        delivery = await foresee(store, one)
        assert (delivery.foreseen, delivery.runs) == (APPLIED, ())
        assert sorted(ids(await claim(store, worker="w2"))) == ["child", "other"]
        assert len((await store.inbox([lease("other")]))["other"]) == 1
        used = await store.deliver([signal(token="t")])
        assert used == (DeliverVerdict.DELIVERED,)

    async def test_one_that_has_consequences_may_be_refused(self, store: Store) -> None:
        await waiting(store)
        one = foreseen(after_seq=1, children=(new_run("child"),), tokens_opened=("t",))
        delivery = await foresee(store, one)
        assert (delivery.foreseen, taken(delivery)) == (CommitVerdict.CONFLICT, ["r1"])
        assert await store.get(["child"]) == {}
        await commit_all(store, [let_go(epoch=EPOCH, after_seq=2, seen=2)])
        delivery = await foresee(store, one, kinds=())
        assert (delivery.foreseen, delivery.runs) == (FENCED, ())
        assert await store.get(["child"]) == {}

    async def test_where_a_message_came_between_the_run_is_only_claimed(self, store: Store) -> None:
        await waiting(store)
        await store.deliver([signal(name="between")])
        delivery = await foresee(store, foreseen())
        assert delivery.verdicts == (DeliverVerdict.DELIVERED,)
        assert delivery.foreseen is CommitVerdict.UNHEARD
        (claimed,) = delivery.runs
        assert [(m.seq, m.name) for m in claimed.inbox] == [(2, "between"), (3, "go")]
        assert (claimed.run.epoch, claimed.run.entry_count) == (EPOCH, 2)
        assert len(claimed.entries) == 2
        consuming = step(epoch=EPOCH, after_seq=2, consumed=(2, 3), seen=3)
        assert await commit_one(store, consuming) is APPLIED

    async def test_where_the_run_was_leased_meanwhile_it_is_only_claimed(
        self, store: Store
    ) -> None:
        """Even where the journal is as long as it was: it may be that of another run by now."""
        await waiting(store)
        claimed = await claim_one_that_waits(store)
        await commit_all(store, [let_go(epoch=claimed.run.epoch, after_seq=2, seen=2)])
        one = foreseen(consumed=(2, 3), seen=3)
        for after_epoch in (1, claimed.run.epoch + 1):
            delivery = await foresee(store, one, after_epoch=after_epoch)
            assert (delivery.foreseen, taken(delivery)) == (FENCED, ["r1"])
            await commit_all(store, [let_go(epoch=delivery.runs[0].run.epoch, after_seq=2)])

    async def test_where_the_run_is_not_as_foreseen_it_is_only_claimed(self, store: Store) -> None:
        await waiting(store)
        delivery = await foresee(store, foreseen(after_seq=3))
        assert (delivery.foreseen, taken(delivery)) == (CommitVerdict.CONFLICT, ["r1"])
        await commit_all(store, [let_go(epoch=EPOCH, after_seq=2, seen=2)])
        late = foreseen(epoch=EPOCH + 2**32, seen=3, not_before_ms=START_MS + 1)
        delivery = await foresee(store, late, after_epoch=EPOCH)
        assert (delivery.foreseen, taken(delivery)) == (CommitVerdict.EARLY, ["r1"])
        assert (await store.get(["r1"]))["r1"].entry_count == 2

    async def test_a_run_that_the_message_opens_again_may_be_foreseen(self, store: Store) -> None:
        for run_id in ("a", "b"):
            await started(store, run_id)
            await commit_all(store, [finish(run_id, status="failed")])
        for run_id, children in (("a", ()), ("b", (new_run("child"),))):
            one = step(run_id, EPOCH, 1, consumed=(1,), seen=1, children=children)
            delivery = await foresee(store, one, signal(run_id, reopens=True))
            assert (delivery.foreseen, delivery.runs) == (APPLIED, ())
            run = (await store.get([run_id]))[run_id]
            assert (run.epoch, run.status, run.entry_count) == (EPOCH, "running", 2)

    async def test_a_message_that_comes_too_late_is_only_delivered(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await waiting(store, "a")
        await waiting(store, "b")
        clock.forward(10)
        in_time = await foresee(store, foreseen("a"), before_ms=START_MS + 11)
        assert in_time.foreseen is APPLIED
        late = await foresee(store, foreseen("b"), before_ms=START_MS + 10)
        assert (late.foreseen, taken(late)) == (FENCED, ["b"])
        late = await foresee(
            store,
            foreseen("a", epoch=EPOCH + 2**32, children=(new_run("child"),)),
            after_epoch=EPOCH,
            before_ms=START_MS + 10,
        )
        assert late.foreseen is FENCED

    async def test_a_run_that_is_not_leased_is_left_as_it_is(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await waiting(store)
        for changes in ({"limit": 0}, {"queues": ()}, {"kinds": ()}):
            delivery = await foresee(store, foreseen(), signal(dedupe="k"), **changes)
            assert (delivery.foreseen, delivery.runs) == (FENCED, ())
        assert (await store.get(["r1"]))["r1"].entry_count == 2
        clock.forward(1)
        held = await claim_one(store, worker="w2")
        one = foreseen(epoch=held.run.epoch, consumed=(2, 3), seen=3)
        for worker in ("w1", "w2"):  # not under a lease that it has already
            delivery = await foresee(store, one, worker=worker)
            assert (delivery.foreseen, delivery.runs) == (FENCED, ())
        assert (await store.get(["r1"]))["r1"].entry_count == 2

    async def test_what_was_not_delivered_is_not_taken_in(self, store: Store) -> None:
        await waiting(store)
        await store.deliver([signal(dedupe="k")])
        for message, limit, verdict in (
            (signal(dedupe="k"), 10, DeliverVerdict.DUPLICATE),
            (signal(), 1, DeliverVerdict.FULL),
            (signal(token="t"), 10, DeliverVerdict.STALE),
        ):
            delivery = await foresee(store, foreseen(), message, inbox_limit=limit)
            assert (delivery.verdicts, delivery.foreseen) == ((verdict,), FENCED)
        unknown = await foresee(store, foreseen("nobody"))
        assert (unknown.verdicts, unknown.foreseen) == ((DeliverVerdict.UNKNOWN,), FENCED)

    async def test_the_others_are_claimed_beside_it(self, store: Store) -> None:
        for run_id in ("a", "b", "c"):
            await waiting(store, run_id)
        sent = [signal(run_id) for run_id in ("a", "b", "c")]
        delivery = await foresee(store, foreseen("b"), *sent)
        assert (delivery.foreseen, taken(delivery)) == (APPLIED, ["a", "c"])
        assert [len(claimed.inbox) for claimed in delivery.runs] == [1, 1]

    async def test_the_others_are_claimed_as_the_commit_leaves_them(self, store: Store) -> None:
        """Found by the agreement of stores: what the commit sends to them is in their inboxes."""
        for run_id in ("a", "b"):
            await waiting(store, run_id)
        one = foreseen("b", messages=(signal("a", name="sent"),))
        delivery = await foresee(store, one, signal("a"), signal("b"))
        assert (delivery.foreseen, taken(delivery)) == (APPLIED, ["a"])
        (claimed,) = delivery.runs
        assert [(m.seq, m.name) for m in claimed.inbox] == [(2, "go"), (3, "sent")]
        assert await commit_one(store, step("a", EPOCH, 2, consumed=(2, 3), seen=3)) is APPLIED
