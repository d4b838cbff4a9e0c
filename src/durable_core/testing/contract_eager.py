"""Contract, sixth part: eager deliveries, which lease the runs that their messages wake."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import attrs

from ..store import ClaimedRun, DeliverVerdict, Delivery, Kind, Message, Store
from .contract_kit import (
    APPLIED,
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
    new_run,
    payload,
    request,
    signal,
    started,
    step,
)
from .virtual_clock import START_MS, VirtualClock

DELIVERED, DUPLICATE = DeliverVerdict.DELIVERED, DeliverVerdict.DUPLICATE
FINISHED, UNKNOWN, FULL = DeliverVerdict.FINISHED, DeliverVerdict.UNKNOWN, DeliverVerdict.FULL
MARK = 2**32 - 2
"""By which a call knows its leases."""


async def hand_over(
    store: Store,
    messages: Sequence[Message],
    *,
    inbox_limit: int = 10_000,
    **changes: Any,
) -> Delivery:
    """Deliver these and claim with ``request``."""
    return await store.deliver_and_claim(messages, request(**changes), inbox_limit=inbox_limit)


def taken(delivery: Delivery) -> list[str]:
    """Ids of the claimed runs, in the order they came."""
    return [claimed.run.run_id for claimed in delivery.runs]


async def idle(store: Store, run_id: str = "r1", **changes: Any) -> None:
    """A run that waits for a message, with a journal of two entries and one message left."""
    await started(store, run_id, **changes)
    await store.deliver([signal(run_id, name="left")])
    await commit_all(store, [let_go(run_id, n=2, seen=1)])


class EagerContract(StoreFixtures):
    """deliver_and_claim."""

    async def test_a_run_that_gets_a_message_is_claimed_with_it(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await idle(store)
        clock.forward(5)
        sent = signal(payload=payload("1"), meta="{}")
        delivery = await hand_over(store, [sent, signal(name="b")])
        assert delivery.verdicts == (DELIVERED, DELIVERED)
        assert delivery.now_ms == START_MS + 5
        (claimed,) = delivery.runs
        run = claimed.run
        assert (run.epoch, run.owner, run.status, run.deaths) == (2, "w1", "running", 0)
        assert run.due_at_ms == START_MS + 5 + LEASE_MS
        assert run.updated_at_ms == START_MS + 5
        assert claimed.entries == (entry(1), entry(2)) and run.entry_count == 2
        assert [(m.seq, m.name) for m in claimed.inbox] == [(1, "left"), (2, "go"), (3, "b")]
        assert (claimed.inbox[1].payload, claimed.inbox[1].at_ms) == (payload("1"), START_MS + 5)
        assert (await store.get(["r1"]))["r1"] == run
        nobody = await claim(store, worker="w2")
        assert ids(nobody) == [] and nobody.next_due_ms == run.due_at_ms
        assert await commit_one(store, step(epoch=1, after_seq=2)) is FENCED
        consuming = step(epoch=2, after_seq=2, consumed=(1, 2, 3), seen=3)
        assert await commit_one(store, consuming) is APPLIED
        assert (await store.renew([lease(epoch=2)], lease_ms=LEASE_MS)).lost == frozenset()

    async def test_it_is_as_if_it_had_been_delivered_and_claimed(self, store: Store) -> None:
        for run_id in ("a", "b"):
            await idle(store, run_id, attributes={"k": "1"}, priority=3)
        await store.deliver([signal("a")])
        one = await claim_one(store, "a")
        (other,) = (await hand_over(store, [signal("b")])).runs
        assert isinstance(other, ClaimedRun)
        assert attrs.evolve(other, run=attrs.evolve(other.run, run_id="a")) == one

    async def test_no_other_run_is_claimed(self, store: Store) -> None:
        await store.create([new_run("due"), new_run("later", delay_ms=50)])
        delivery = await hand_over(store, [signal("later"), signal("nobody")])
        assert delivery.verdicts == (DELIVERED, UNKNOWN)
        assert taken(delivery) == ["later"]
        assert delivery.runs[0].run.due_at_ms == START_MS + LEASE_MS
        assert ids(await claim(store, worker="w2")) == ["due"]

    async def test_runs_in_other_hands_are_left_there(
        self, store: Store, clock: VirtualClock
    ) -> None:
        for run_id in ("a", "b"):
            await started(store, run_id)
        delivery = await hand_over(store, [signal("a")], worker="w2")
        assert delivery.verdicts == (DELIVERED,) and delivery.runs == ()
        assert [m.seq for m in (await store.inbox([lease("a")]))["a"]] == [1]
        clock.forward(LEASE_MS)  # they have expired: that is for a claim, which counts it
        for worker in ("w1", "w2"):
            delivery = await hand_over(store, [signal("b")], worker=worker)
            assert delivery.verdicts == (DELIVERED,) and delivery.runs == ()
        runs = await store.get(["a", "b"])
        assert {(run.owner, run.epoch, run.deaths) for run in runs.values()} == {("w1", 1, 0)}

    async def test_only_what_is_within_reach_is_claimed(self, store: Store) -> None:
        await store.create(
            [
                new_run("a"),
                new_run("b", queue="slow"),
                new_run("c", version="2"),
                new_run("d", workflow="other"),
                new_run("e", fingerprint="older"),
            ]
        )
        everybody = [signal(run_id) for run_id in "abcde"]
        assert taken(await hand_over(store, everybody, kinds=())) == []
        assert taken(await hand_over(store, everybody, queues=())) == []
        assert taken(await hand_over(store, everybody, limit=0)) == []
        assert taken(await hand_over(store, everybody)) == ["a", "e"]
        two = Kind(workflow="order", version="2", fingerprint="fp2")
        both = await hand_over(store, everybody, queues=("slow", "default"), kinds=(KIND, two))
        assert taken(both) == ["b", "c"]
        assert len(both.runs[0].inbox) == 5

    async def test_a_message_lifts_the_pin(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [let_go(pin="fp2")])
        (claimed,) = (await hand_over(store, [signal()])).runs
        assert (claimed.run.pin, len(claimed.inbox)) == (None, 1)

    async def test_for_some_messages_any_worker_may_have_the_run_once(self, store: Store) -> None:
        await store.create([new_run("a", workflow="x", queue="q")])
        assert taken(await hand_over(store, [signal("a", anyone=True)], kinds=())) == ["a"]
        await commit_all(store, [let_go("a", seen=1)])
        assert taken(await hand_over(store, [signal("a")], kinds=())) == []

    async def test_suspects_are_left_to_claims(self, store: Store, clock: VirtualClock) -> None:
        await store.create([new_run()])
        for worker in ("w1", "w2", "w3"):
            await claim_one(store, worker=worker)
            clock.forward(LEASE_MS)
        await claim_one(store, worker="w4")
        await commit_all(store, [let_go(epoch=4)])
        assert (await store.get(["r1"]))["r1"].deaths == 3
        assert taken(await hand_over(store, [signal()], suspect_deaths=3, suspects=1)) == []
        (claimed,) = (await hand_over(store, [signal()], suspect_deaths=4, suspects=0)).runs
        assert (claimed.run.deaths, claimed.run.epoch, len(claimed.inbox)) == (3, 5, 2)

    async def test_the_best_come_first_where_there_is_not_room_for_all(self, store: Store) -> None:
        await store.create(
            [new_run("a"), new_run("b", priority=1), new_run("c", priority=-1), new_run("d")]
        )
        sent = [signal(run_id) for run_id in "dacb"]
        assert taken(await hand_over(store, sent, limit=2)) == ["b", "a"]
        assert taken(await hand_over(store, sent)) == ["d", "c"]

    async def test_a_run_is_claimed_once_however_many_messages_it_gets(self, store: Store) -> None:
        await store.create([new_run()])
        keyed = signal(dedupe="k")
        delivery = await hand_over(store, [keyed, keyed, signal(), signal()], inbox_limit=2)
        assert delivery.verdicts == (DELIVERED, DUPLICATE, DELIVERED, FULL)
        (claimed,) = delivery.runs
        assert (claimed.run.epoch, [m.seq for m in claimed.inbox]) == (1, [1, 2])

    async def test_who_gets_nothing_is_not_claimed(self, store: Store) -> None:
        await started(store, "c")
        await commit_all(store, [finish("c")])
        await store.create([new_run("a"), new_run("b")])
        await store.deliver([signal("a", dedupe="k"), signal("b")])
        sent = [signal("a", dedupe="k"), signal("b"), signal("c"), signal("nobody")]
        delivery = await hand_over(store, sent, inbox_limit=1)
        assert delivery.verdicts == (DUPLICATE, FULL, FINISHED, UNKNOWN)
        assert delivery.runs == ()
        assert await hand_over(store, []) == Delivery(verdicts=(), runs=(), now_ms=START_MS)

    async def test_a_token_is_used_and_its_run_claimed(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [let_go(n=1, tokens_opened=("t",))])
        used = signal(token="t", payload=payload("1"))
        delivery = await hand_over(store, [used])
        assert (delivery.verdicts, taken(delivery)) == ((DELIVERED,), ["r1"])
        again = await hand_over(store, [used], worker="w2")
        assert (again.verdicts, again.runs) == ((DUPLICATE,), ())

    async def test_a_run_that_is_opened_again_is_claimed(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [finish(status="failed", failure="{}")])
        retry = Message(run_id="r1", kind="retry", reopens=True)
        (claimed,) = (await hand_over(store, [retry])).runs
        run = claimed.run
        assert (run.status, run.epoch, run.failure, run.finished_at_ms) == (
            "running",
            2,
            None,
            None,
        )
        assert (len(claimed.entries), [m.kind for m in claimed.inbox]) == (1, ["retry"])

    async def test_a_status_that_means_something_is_kept(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [let_go(status="compensating", waiting="[]", failure="{}")])
        (claimed,) = (await hand_over(store, [signal()])).runs
        run = claimed.run
        assert (run.status, run.waiting, run.failure) == ("compensating", "[]", "{}")

    async def test_a_long_journal_is_cut(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [let_go(n=5)])
        (claimed,) = (await hand_over(store, [signal()], journal_limit=3)).runs
        assert [e.seq for e in claimed.entries] == [1, 2, 3]
        assert claimed.run.entry_count == 5

    async def test_a_call_may_mark_the_epochs_it_leases_under(
        self, store: Store, clock: VirtualClock
    ) -> None:
        """Marked or not, an epoch is higher than the one before."""
        await idle(store)
        epochs = []
        for mark in (MARK, 0, 7, None):
            (claimed,) = (await hand_over(store, [signal()], mark=mark)).runs
            epoch = claimed.run.epoch
            epochs.append(epoch)
            assert await commit_one(store, step(epoch=epoch - 1, after_seq=2)) is FENCED
            await commit_all(store, [let_go(epoch=epoch, after_seq=2, seen=9)])
        assert epochs == [2**32 + MARK, 2 * 2**32, 3 * 2**32 + 7, 3 * 2**32 + 8]
        await hand_over(store, [signal()], mark=MARK)
        clock.forward(LEASE_MS)
        again = await claim_one(store, worker="w2")
        assert (again.run.epoch, again.run.deaths) == (4 * 2**32 + MARK + 1, 1)

    async def test_two_calls_at_once_never_share_a_run(self, store: Store) -> None:
        runs = [f"r{i}" for i in range(10)]
        await store.create([new_run(run_id) for run_id in runs])
        deliveries = await asyncio.gather(
            *(hand_over(store, [signal(one) for one in runs], worker=f"w{i}") for i in range(5)),
        )
        got = [run_id for delivery in deliveries for run_id in taken(delivery)]
        got += ids(await claim(store))
        assert sorted(got) == runs
        held = (await store.get(runs)).values()
        leases = [lease(run.run_id, run.epoch) for run in held]
        inboxes = await store.inbox(leases)
        assert {len(inbox) for inbox in inboxes.values()} == {5}
