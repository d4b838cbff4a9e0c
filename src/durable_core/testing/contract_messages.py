"""Contract, third part: messages, tokens, wake-ups, runs opened again."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs

from ..store import CommitVerdict, DeliverVerdict, Message, Store
from .contract_kit import (
    APPLIED,
    LEASE_MS,
    StoreFixtures,
    claim,
    claim_one,
    commit_all,
    finish,
    ids,
    lease,
    let_go,
    new_run,
    payload,
    signal,
    started,
    step,
)
from .virtual_clock import START_MS, VirtualClock

DELIVERED, DUPLICATE = DeliverVerdict.DELIVERED, DeliverVerdict.DUPLICATE
CONFLICT, STALE = DeliverVerdict.CONFLICT, DeliverVerdict.STALE
FINISHED, UNKNOWN, FULL = DeliverVerdict.FINISHED, DeliverVerdict.UNKNOWN, DeliverVerdict.FULL


async def deliver_one(store: Store, message: Message, **options: int) -> DeliverVerdict:
    """Deliver one message; its verdict."""
    (verdict,) = await store.deliver([message], **options)
    return verdict


class MessageContract(StoreFixtures):
    """deliver, inbox, wait_for_work, and the messages of commits."""

    async def test_messages_come_whole_and_in_order(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store)
        clock.forward(3)
        first = signal(payload=payload("1"), meta='{"m":1}')
        assert await store.deliver([first, signal(name="b")]) == (DELIVERED, DELIVERED)
        await store.deliver([signal(name="c")])
        mail = (await store.inbox([lease()]))["r1"]
        assert [(m.seq, m.name) for m in mail] == [(1, "go"), (2, "b"), (3, "c")]
        assert (mail[0].kind, mail[0].payload, mail[0].meta) == ("signal", payload("1"), '{"m":1}')
        assert mail[0].at_ms == START_MS + 3
        assert (mail[1].payload, mail[1].meta) == (None, None)

    async def test_only_unseen_messages_of_held_runs_are_mail(self, store: Store) -> None:
        await started(store, "a")
        await started(store, "b")
        await store.create([new_run("c", delay_ms=1)])
        await store.deliver([signal("a"), signal("a"), signal("c")])
        asked = [lease("a", seen=1), lease("b"), lease("c", epoch=0), lease("x")]
        found = await store.inbox(asked)
        assert {run_id: [m.seq for m in mail] for run_id, mail in found.items()} == {"a": [2]}
        assert await store.inbox([lease("a", epoch=2)]) == {}
        renewed = await store.renew([lease("a", seen=1), lease("b")], lease_ms=1)
        assert renewed.mail == {"a"}
        assert (await store.renew([lease("a", seen=2)], lease_ms=1)).mail == frozenset()
        result = await store.commit([step("a", seen=1), step("b")])
        assert {run_id: [m.seq for m in mail] for run_id, mail in result.mail.items()} == {"a": [2]}
        assert (await store.commit([step("a", after_seq=1, seen=2)])).mail == {}

    async def test_a_claim_brings_the_whole_inbox(self, store: Store) -> None:
        await store.create([new_run()])
        await store.deliver([signal(name=name) for name in "abc"])
        assert [m.name for m in (await claim_one(store)).inbox] == ["a", "b", "c"]

    async def test_a_consumed_message_is_gone(self, store: Store) -> None:
        await started(store)
        await store.deliver([signal(name=name) for name in "abc"])
        await commit_all(store, [let_go(consumed=(1, 3), seen=3, due_at_ms=START_MS)])
        assert [m.seq for m in (await claim_one(store)).inbox] == [2]
        await store.deliver([signal()])
        assert [m.seq for m in (await store.inbox([lease(epoch=2)]))["r1"]] == [2, 4]

    async def test_unknown_and_ended_runs_take_nothing(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [finish()])
        assert await store.deliver([signal(), signal("nobody")]) == (FINISHED, UNKNOWN)
        assert await deliver_one(store, signal("nobody", reopens=True, token="t")) is UNKNOWN

    async def test_a_full_inbox_takes_nothing_more(self, store: Store) -> None:
        await started(store)
        assert await store.deliver([signal()] * 3, inbox_limit=2) == (DELIVERED, DELIVERED, FULL)
        await commit_all(store, [step(consumed=(1,), seen=2)])
        assert await deliver_one(store, signal(), inbox_limit=2) is DELIVERED
        assert await deliver_one(store, signal(dedupe="k"), inbox_limit=2) is FULL
        assert await deliver_one(store, signal(dedupe="k")) is DELIVERED

    # --- the same message again --------------------------------------------------------------

    async def test_a_dedupe_key_is_taken_once(self, store: Store) -> None:
        await started(store, "a")
        await started(store, "b")
        keyed = signal("a", dedupe="k")
        assert await store.deliver([keyed, keyed]) == (DELIVERED, DUPLICATE)
        assert await deliver_one(store, signal("b", dedupe="k")) is DELIVERED
        await commit_all(store, [step("a", consumed=(1,), seen=1)])
        assert await deliver_one(store, signal("a", dedupe="k", payload=payload("2"))) is DUPLICATE
        await commit_all(store, [finish("a", after_seq=1)])
        assert await deliver_one(store, keyed) is DUPLICATE
        assert await deliver_one(store, signal("a", dedupe="k2")) is FINISHED

    async def test_a_duplicate_wakes_nobody(self, store: Store) -> None:
        await started(store)
        await store.deliver([signal(dedupe="k")])
        await commit_all(store, [let_go(consumed=(1,), seen=1)])
        assert await deliver_one(store, signal(dedupe="k")) is DUPLICATE
        assert (await store.get(["r1"]))["r1"].due_at_ms is None

    async def test_an_open_token_is_used_once(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [step(tokens_opened=("t", "u"))])
        used = signal(token="t", payload=payload("1"))
        assert await deliver_one(store, used) is DELIVERED
        assert await deliver_one(store, used) is DUPLICATE
        assert await deliver_one(store, signal(token="t", payload=payload("2"))) is CONFLICT
        assert await deliver_one(store, signal(token="t")) is CONFLICT
        assert await deliver_one(store, signal(token="foreign")) is STALE
        await commit_all(store, [step(after_seq=1, consumed=(1,), seen=1, tokens_closed=("t",))])
        assert await deliver_one(store, used) is DUPLICATE
        assert await deliver_one(store, signal(token="u")) is DELIVERED
        assert await deliver_one(store, signal(token="u")) is DUPLICATE
        await commit_all(store, [finish(after_seq=2)])
        assert await deliver_one(store, used) is DUPLICATE
        assert await deliver_one(store, signal(token="u", payload=payload("3"))) is CONFLICT
        assert await deliver_one(store, signal(token="v")) is FINISHED

    async def test_a_closed_token_is_stale(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [step(tokens_opened=("t", "u"))])
        await commit_all(store, [step(after_seq=1, tokens_closed=("t",))])
        assert await deliver_one(store, signal(token="t")) is STALE
        await commit_all(store, [finish(after_seq=2)])
        assert await deliver_one(store, signal(token="u", reopens=True)) is STALE

    # --- no lost wake-up ---------------------------------------------------------------------

    async def test_a_message_makes_an_unowned_run_due(
        self, store: Store, clock: VirtualClock
    ) -> None:
        for run_id in "ab":
            await started(store, run_id)
        await commit_all(store, [let_go("a"), let_go("b", due_at_ms=START_MS + 500)])
        clock.forward(5)
        await store.deliver([signal("a"), signal("b")])
        dues = {run.due_at_ms for run in (await store.get(["a", "b"])).values()}
        assert dues == {START_MS + 5}
        assert ids(await claim(store)) == ["a", "b"]

    async def test_a_message_never_makes_a_run_due_later(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await store.create([new_run()])
        clock.forward(100)
        await store.deliver([signal()])
        assert (await store.get(["r1"]))["r1"].due_at_ms == START_MS

    async def test_a_message_does_not_take_a_held_run_away(self, store: Store) -> None:
        await started(store)
        await store.deliver([signal()])
        assert (await store.get(["r1"]))["r1"].due_at_ms == START_MS + LEASE_MS
        assert ids(await claim(store, worker="w2")) == []

    async def test_a_release_beside_an_unseen_message_is_due_at_once(
        self, store: Store, clock: VirtualClock
    ) -> None:
        for run_id in "abcd":
            await started(store, run_id)
        await store.deliver([signal(run_id) for run_id in "abcd"])
        clock.forward(5)
        commits = [
            let_go("a"),
            let_go("b", due_at_ms=START_MS + 500),
            let_go("c", seen=1),
            let_go("d", due_at_ms=START_MS + 1),
        ]
        await commit_all(store, commits)
        runs = await store.get(list("abcd"))
        dues = [runs[run_id].due_at_ms for run_id in "abcd"]
        assert dues == [START_MS + 5, START_MS + 5, None, START_MS + 1]

    async def test_what_others_consumed_is_no_mail(self, store: Store) -> None:
        """A new holder begins with an empty inbox, so with ``seen`` 0: that must not spin."""
        await started(store)
        await store.deliver([signal(), signal()])
        await commit_all(store, [let_go(consumed=(1, 2), seen=2, due_at_ms=START_MS)])
        assert (await claim_one(store)).inbox == ()
        assert (await store.renew([lease(epoch=2)], lease_ms=LEASE_MS)).mail == frozenset()
        assert await store.inbox([lease(epoch=2)]) == {}
        assert (await store.commit([step(epoch=2)])).mail == {}
        await commit_all(store, [let_go(epoch=2, after_seq=1)])
        assert (await store.get(["r1"]))["r1"].due_at_ms is None

    async def test_a_message_of_the_same_batch_is_not_slept_over(self, store: Store) -> None:
        for run_id in "abc":
            await started(store, run_id)
        await commit_all(
            store, [let_go("a"), step("b", messages=(signal("a"), signal("c"))), let_go("c")]
        )
        runs = await store.get(["a", "c"])
        assert {run.due_at_ms for run in runs.values()} == {START_MS}

    # --- messages of commits -----------------------------------------------------------------

    async def test_messages_of_a_commit_are_delivered_with_it(self, store: Store) -> None:
        await started(store, "a")
        await started(store, "b")
        messages = (
            signal("b", dedupe="k"),
            signal("b", dedupe="k"),
            signal("nobody"),
            signal("b", token="t"),
            signal("a", name="own"),
        )
        result = await store.commit([step("a", messages=messages)])
        assert result.verdicts == (APPLIED,)
        assert [m.name for m in result.mail["a"]] == ["own"]
        assert [m.seq for m in (await store.inbox([lease("b")]))["b"]] == [1]

    async def test_a_message_to_a_child_of_the_same_commit_arrives(self, store: Store) -> None:
        await started(store)
        await commit_all(store, [finish(children=(new_run("c"),), messages=(signal("c"),))])
        assert [m.name for m in (await claim_one(store, "c")).inbox] == ["go"]

    async def test_a_message_arrives_though_a_later_commit_creates_its_run(
        self, store: Store
    ) -> None:
        await started(store, "a")
        await started(store, "b")
        await commit_all(
            store, [step("a", messages=(signal("c"),)), step("b", children=(new_run("c"),))]
        )
        assert [m.name for m in (await claim_one(store, "c")).inbox] == ["go"]

    async def test_the_first_commit_that_names_a_child_creates_it(self, store: Store) -> None:
        for run_id in "ab":
            await started(store, run_id)
        first, second = new_run("c", parent_id="a"), new_run("c", parent_id="b")
        await commit_all(store, [step("a", children=(first,)), finish("b", children=(second,))])
        assert (await store.get(["c"]))["c"].parent_id == "a"

    async def test_messages_of_a_batch_arrive_in_the_order_of_its_commits(
        self, store: Store
    ) -> None:
        for run_id in "abc":
            await started(store, run_id)
        await commit_all(
            store,
            [
                finish("a", messages=(signal("c", "1"), signal("c", "2"))),
                step("c"),
                step("b", messages=(signal("c", "3", dedupe="k"), signal("c", "4", dedupe="k"))),
            ],
        )
        assert [m.name for m in (await store.inbox([lease("c")]))["c"]] == ["1", "2", "3"]

    async def test_a_message_is_too_late_for_a_run_that_ends_in_the_same_batch(
        self, store: Store
    ) -> None:
        """Wherever in the batch it ends: so it makes no difference in which order they came."""
        for run_id in "abc":
            await started(store, run_id)
        late = (signal("a", dedupe="k"), signal("c", dedupe="k"))
        await commit_all(store, [finish("a"), step("b", messages=late), finish("c")])
        runs = await store.get(["a", "c"])
        assert {run.status for run in runs.values()} == {"completed"}
        assert await store.deliver(list(late)) == (FINISHED, FINISHED)
        for run_id in "ac":
            await store.deliver([Message(run_id=run_id, kind="retry", reopens=True)])
        for claimed in (await claim(store)).runs:
            assert [(m.seq, m.kind) for m in claimed.inbox] == [(1, "retry")]

    async def test_a_message_opens_a_run_again_that_ends_in_the_same_batch(
        self, store: Store
    ) -> None:
        for run_id in "abc":
            await started(store, run_id)
        undo = tuple(Message(run_id=run_id, kind="rollback", reopens=True) for run_id in "ac")
        await commit_all(
            store, [finish("a", failure="{}"), step("b", messages=undo), finish("c", failure="{}")]
        )
        for run in (await store.get(["a", "c"])).values():
            assert (run.status, run.due_at_ms) == ("pending", START_MS)
            assert (run.finished_at_ms, run.failure) == (None, None)
        for claimed in (await claim(store)).runs:
            assert [(m.seq, m.kind) for m in claimed.inbox] == [(1, "rollback")]

    async def test_a_token_of_the_same_batch_is_open_for_its_messages(self, store: Store) -> None:
        for run_id in "abc":
            await started(store, run_id)
        await commit_all(store, [step("c", tokens_opened=("old",))])
        asked = tuple(signal("c", token, token=token) for token in ("old", "new"))
        await commit_all(
            store,
            [
                step("a", messages=asked),
                step("c", after_seq=1, tokens_opened=("new",), tokens_closed=("old",)),
            ],
        )
        assert [m.name for m in (await store.inbox([lease("c")]))["c"]] == ["new"]

    async def test_only_applied_commits_have_children_and_messages(self, store: Store) -> None:
        await started(store, "a")
        await started(store, "b")
        extras: dict[str, Any] = {"children": (new_run("c"),), "messages": (signal("b"),)}
        result = await store.commit(
            [step("a", epoch=9, **extras), step("a"), step("a", after_seq=5, **extras)]
        )
        assert result.verdicts == (CommitVerdict.FENCED, APPLIED, CommitVerdict.CONFLICT)
        assert await store.get(["c"]) == {}
        assert await store.inbox([lease("b")]) == {}

    async def test_mail_of_a_batch_includes_its_own_messages(self, store: Store) -> None:
        await started(store, "a")
        await started(store, "b")
        result = await store.commit([step("a"), step("b", messages=(signal("a"),))])
        assert {run_id: [m.seq for m in mail] for run_id, mail in result.mail.items()} == {"a": [1]}

    async def test_a_commit_is_not_held_up_by_a_full_inbox(self, store: Store) -> None:
        await started(store, "a")
        await started(store, "b")
        await store.deliver([signal("b")] * 2, inbox_limit=2)
        await commit_all(store, [step("a", messages=(signal("b"),))])
        assert len((await store.inbox([lease("b")]))["b"]) == 3

    async def test_mail_of_a_batch_is_what_the_last_commit_has_not_seen(self, store: Store) -> None:
        await started(store)
        await store.deliver([signal()] * 3)
        result = await store.commit([step(seen=2), step(after_seq=1, seen=1, consumed=(1,))])
        assert [m.seq for m in result.mail["r1"]] == [3]

    # --- opened again ------------------------------------------------------------------------

    async def test_an_ended_run_can_be_opened_again(
        self, store: Store, clock: VirtualClock
    ) -> None:
        await started(store, attributes={"k": "1"})
        await store.deliver([signal(), signal(name="left")])
        end = finish(status="failed", failure="{}", consumed=(1,), seen=2, generation=2)
        await commit_all(store, [end])
        clock.forward(50)
        retry = Message(run_id="r1", kind="retry", reopens=True)
        assert await deliver_one(store, retry) is DELIVERED
        run = (await store.get(["r1"]))["r1"]
        assert (run.status, run.generation, run.epoch, run.entry_count) == ("pending", 2, 1, 1)
        unset = (run.failure, run.waiting, run.finished_at_ms, run.owner)
        assert set(unset) == {None}
        assert run.due_at_ms == run.updated_at_ms == START_MS + 50
        assert run.created_at_ms == START_MS
        claimed = await claim_one(store)
        assert (claimed.run.epoch, claimed.run.deaths, len(claimed.entries)) == (2, 0, 1)
        assert [(m.seq, m.name) for m in claimed.inbox] == [(2, "left"), (3, "")]
        await commit_all(store, [finish(epoch=2, after_seq=1, consumed=(2, 3), seen=3)])
        assert await deliver_one(store, signal()) is FINISHED

    async def test_anyone_may_claim_what_was_opened_again_for_anyone(self, store: Store) -> None:
        await started(store)
        await store.deliver([signal(anyone=True)])
        await commit_all(store, [finish()])
        retry = Message(run_id="r1", kind="retry", reopens=True)
        await store.deliver([retry])
        assert ids(await claim(store, kinds=())) == []
        await commit_all(store, [finish(epoch=(await claim_one(store)).run.epoch, after_seq=1)])
        await store.deliver([attrs.evolve(retry, anyone=True)])
        assert ids(await claim(store, kinds=())) == ["r1"]

    async def test_an_end_does_not_swallow_what_would_open_the_run_again(
        self, store: Store
    ) -> None:
        await started(store)
        await store.deliver([signal(), Message(run_id="r1", kind="rollback", reopens=True)])
        await commit_all(store, [finish(seen=1)])
        run = (await store.get(["r1"]))["r1"]
        assert (run.status, run.due_at_ms, run.finished_at_ms) == ("pending", START_MS, None)
        claimed = await claim_one(store)
        assert len(claimed.inbox) == 2 and claimed.run.epoch == 2
        await commit_all(store, [finish(epoch=2, after_seq=1, seen=2)])
        assert (await store.get(["r1"]))["r1"].status == "completed"

    # --- waiting -----------------------------------------------------------------------------

    async def test_waiting_ends_when_somebody_else_changes_something(self, store: Store) -> None:
        other = store.twin()
        await other.open()
        try:
            while await store.wait_for_work(0):
                pass
            assert not await store.wait_for_work(20)
            await other.create([new_run()])
            assert await store.wait_for_work(10_000)  # it came before the wait
            waiting = asyncio.ensure_future(store.wait_for_work(None))
            await asyncio.sleep(0)
            assert await deliver_one(other, signal()) is DELIVERED
            assert await asyncio.wait_for(waiting, 10)
            while await store.wait_for_work(0):
                pass
            assert not await store.wait_for_work(20)
        finally:
            await other.close()

    async def test_a_wait_can_be_given_up(self, store: Store) -> None:
        while await store.wait_for_work(0):
            pass
        waiting = asyncio.ensure_future(store.wait_for_work(None))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        assert not await store.wait_for_work(0)
