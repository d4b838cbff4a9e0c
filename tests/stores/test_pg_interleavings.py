"""Interleavings that broke naive forms of the verbs, one test for each, on two sessions or more.

The forms are those of the storage notes: a join as fence, suspending with EXISTS, a claim that
locks and reads in one statement, locks in no order, SKIP LOCKED in a commit, a client's message
that locks the run. ``test_pg_pairs`` has every verb against every verb; here are the meetings that
take more than two verbs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from tests.postgres_kit import MAJORS
from tests.stores import two_sessions
from tests.stores.meetings import RUN, arrange
from tests.stores.two_sessions import PATIENCE_S, PLACES, Arena

from durable_core.errors import LeaseLostError, StoreUnavailableError
from durable_core.store import (
    ClaimBatch,
    ClaimedRun,
    CommitVerdict,
    DeliverVerdict,
    Foreseen,
    Message,
    NewRun,
)
from durable_core.testing.contract_kit import (
    LEASE_MS,
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
    request,
    signal,
    started,
    step,
)
from durable_core.testing.postgres import NO_POSTGRES
from durable_core.testing.virtual_clock import START_MS

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES),
    pytest.mark.asyncio(loop_scope="module"),
]

DELIVERED = DeliverVerdict.DELIVERED
APPLIED, FENCED = CommitVerdict.APPLIED, CommitVerdict.FENCED

every_isolation = pytest.mark.parametrize(
    "isolation", ["read committed", "repeatable read", "serializable"]
)


@pytest_asyncio.fixture(params=PLACES, scope="module", loop_scope="module")
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Arena]:
    """One arena for all."""
    async with two_sessions.arena(**request.param) as arena:
        yield arena


@pytest_asyncio.fixture(loop_scope="module")
async def arena(place: Arena) -> Arena:
    """The arena, empty."""
    await place.clear()
    return place


def retry(run_id: str = RUN) -> Message:
    return Message(run_id=run_id, kind="retry", reopens=True)


def units(claimed: ClaimedRun) -> list[str]:
    return [entry.unit for entry in claimed.entries]


def names(claimed: ClaimedRun) -> list[str]:
    return [message.name for message in claimed.inbox]


# --- the fence -------------------------------------------------------------------------------


async def test_a_takeover_passes_over_an_owner_in_a_transaction(arena: Arena) -> None:
    await started(arena.store)
    arena.clock.forward(LEASE_MS)
    async with arena.store.transaction(lease()) as transaction:
        assert ids(await claim(arena.store)) == []
        assert await transaction.commit(step(entries=(entry(1, unit="late"),))) is APPLIED
    taken = await claim_one(arena.store)
    assert (taken.run.epoch, units(taken)) == (2, ["late"])
    assert await commit_one(arena.store, step(after_seq=1)) is FENCED
    await arena.check()


async def test_an_owner_that_comes_during_its_takeover_has_lost_the_run(arena: Arena) -> None:
    await started(arena.store)
    arena.clock.forward(LEASE_MS)

    async def transact() -> None:
        async with arena.store.transaction(lease()):
            raise AssertionError("the fence was given to a stale owner")

    async with arena.held_open() as other:
        assert ids(await claim(other)) == [RUN]
        late = asyncio.create_task(transact())
        assert await arena.waits(late, other.pid)
        await other.conn.execute("COMMIT")
        with pytest.raises(LeaseLostError):
            await late
    await arena.check()


async def test_a_claim_reads_the_journal_as_it_is_when_it_has_the_run(arena: Arena) -> None:
    """The owner's last commit lands while the claim is under way, before it locks the run."""
    await started(arena.store)
    await arena.store.create([new_run("other", queue="other")])
    arena.clock.forward(LEASE_MS)
    async with arena.held_open() as caller:
        await arena.store.deliver([signal("other")], conn=caller.conn)
        await caller.conn.execute("COMMIT")
    async with gate(arena, "DELETE", "posted") as keeper:  # a claim first puts what was posted
        taking = asyncio.create_task(claim_one(arena.store))
        assert await arena.waits(taking, keeper.get_server_pid())
        await commit_all(arena.store, [step(entries=(entry(1, unit="late"),))])
        await keeper.execute(OPEN_GATE)
        taken = await taking
    assert (taken.run.epoch, taken.run.entry_count, units(taken)) == (2, 1, ["late"])
    await arena.check()


SHUT_GATE = "SELECT pg_advisory_lock(1)"
OPEN_GATE = "SELECT pg_advisory_unlock(1)"


@asynccontextmanager
async def gate(arena: Arena, event: str, table: str) -> AsyncIterator[Any]:
    """Statements of this kind on the table wait, before they do anything, for the session that
    is given, until it says ``OPEN_GATE``."""
    await arena.execute(
        f"""
        CREATE FUNCTION "durable".gate() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NULL; END';
        CREATE TRIGGER gate BEFORE {event} ON "durable".{table}
        FOR EACH STATEMENT EXECUTE FUNCTION "durable".gate();
        """
    )
    try:
        async with arena.connection() as keeper:
            await keeper.execute(SHUT_GATE)
            yield keeper
    finally:
        await arena.execute('DROP FUNCTION "durable".gate() CASCADE')


# --- wake-ups --------------------------------------------------------------------------------


async def test_a_suspending_run_that_waited_for_a_message_is_due_for_it(arena: Arena) -> None:
    await started(arena.store)
    async with arena.held_open() as sender:
        assert await sender.deliver([signal(name="early")]) == (DELIVERED,)
        suspending = asyncio.create_task(commit_one(arena.store, let_go()))
        assert await arena.waits(suspending, sender.pid)
        await sender.conn.execute("COMMIT")
        assert await suspending is APPLIED
    assert (await arena.store.get([RUN]))[RUN].due_at_ms == START_MS
    assert names(await claim_one(arena.store)) == ["early"]


async def test_a_message_that_comes_while_its_run_suspends_wakes_it(arena: Arena) -> None:
    await started(arena.store)
    async with arena.held_open() as owner:
        assert await commit_one(owner, let_go()) is APPLIED
        assert await arena.store.deliver([signal(name="late")]) == (DELIVERED,)
        await owner.conn.execute("COMMIT")
    assert names(await claim_one(arena.store)) == ["late"]
    await arena.check()


async def test_an_owner_hears_of_a_message_that_it_waited_for(arena: Arena) -> None:
    await started(arena.store)
    async with arena.held_open() as sender:
        await sender.deliver([signal(name="early")])
        committing = asyncio.create_task(arena.store.commit([step()]))
        assert await arena.waits(committing, sender.pid)
        await sender.conn.execute("COMMIT")
    assert [message.name for message in (await committing).mail[RUN]] == ["early"]


async def test_messages_that_were_posted_keep_their_order(arena: Arena) -> None:
    await started(arena.store)
    async with arena.held_open() as owner:
        await owner.renew([lease()], lease_ms=LEASE_MS)
        for name in "abc":
            await arena.store.deliver([signal(name=name)])
        await owner.conn.execute("COMMIT")
    await arena.store.deliver([signal(name="d")])
    mail = await arena.store.inbox([lease()])
    assert [message.name for message in mail[RUN]] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("state", ["idle", "over"])
async def test_two_claims_at_one_moment_bring_a_posted_message_once(
    arena: Arena, state: str
) -> None:
    await arrange(arena.store, state)
    async with arena.held_open() as caller:
        await arena.store.deliver([retry()], conn=caller.conn)
        await caller.conn.execute("COMMIT")
    async with arena.held_open() as other, asyncio.timeout(PATIENCE_S):
        assert ids(await claim(other)) == [RUN]
        assert ids(await claim(arena.store)) == []
        await other.conn.execute("COMMIT")
    assert ids(await claim(arena.store)) == []
    assert [m.seq for m in (await arena.store.inbox([lease(epoch=2)]))[RUN]] == [1]
    await arena.check()


async def test_a_message_posted_twice_is_one_and_wakes_nobody_again(arena: Arena) -> None:
    await started(arena.store)
    async with arena.held_open() as one, arena.held_open() as two:
        for caller in (one, two):  # neither sees what the other has posted
            sent = await arena.store.deliver([signal(dedupe="k")], conn=caller.conn)
            assert sent == (DELIVERED,)
        await one.conn.execute("COMMIT")
        assert [m.seq for m in (await arena.store.inbox([lease()]))[RUN]] == [1]
        await commit_all(arena.store, [let_go(consumed=(1,), seen=1)])
        await two.conn.execute("COMMIT")
    assert ids(await claim(arena.store)) == []
    assert (await arena.store.get([RUN]))[RUN].due_at_ms is None
    await arena.check()


async def test_a_claim_that_left_messages_on_their_way_is_to_come_again(arena: Arena) -> None:
    """The run's lock is not to be had, and so its owner may suspend it with nobody knowing."""
    await started(arena.store, delay_ms=0)
    async with arena.held_open() as owner:
        await commit_one(owner, let_go())
        await arena.store.deliver([signal()])
        batch = await claim(arena.store)
        assert ids(batch) == []
        assert batch.next_due_ms is not None
        assert batch.next_due_ms <= START_MS + 1_000
        await owner.conn.execute("COMMIT")
    assert ids(await claim(arena.store)) == [RUN]


async def test_a_claim_does_not_stop_at_a_crowd_of_messages_to_others(arena: Arena) -> None:
    others = [f"other{n:03}" for n in range(300)]
    await arena.store.create([new_run(run_id, queue="other") for run_id in others])
    await started(arena.store)
    await commit_all(arena.store, [let_go()])
    async with arena.held_open() as caller:
        sent = [signal(run_id) for run_id in (*others, RUN)]
        assert set(await arena.store.deliver(sent, conn=caller.conn)) == {DELIVERED}
        await caller.conn.execute("COMMIT")
    batch = await claim(arena.store)
    if not batch.runs:
        assert batch.next_due_ms is not None
        assert batch.next_due_ms <= START_MS
        batch = await claim(arena.store)
    assert ids(batch) == [RUN]


# --- locks and batches -----------------------------------------------------------------------


async def test_a_batch_that_waits_for_its_first_run_holds_none_of_the_others(arena: Arena) -> None:
    for run_id in "abc":
        await started(arena.store, run_id)
    async with arena.held_open() as other, asyncio.timeout(PATIENCE_S):
        await other.renew([lease("a")], lease_ms=LEASE_MS)
        batch = [step(run_id) for run_id in "cba"]
        waiting = asyncio.create_task(arena.store.commit(batch))
        assert await arena.waits(waiting, other.pid)
        leases = [lease("c"), lease("b")]
        assert (await arena.store.renew(leases, lease_ms=LEASE_MS)).lost == frozenset()
        await other.conn.execute("COMMIT")
        assert (await waiting).verdicts == (APPLIED,) * 3
    await arena.check()


async def test_a_commit_drops_no_message_to_a_run_in_other_hands(arena: Arena) -> None:
    for run_id in "ab":
        await started(arena.store, run_id)
    async with arena.held_open() as other, asyncio.timeout(PATIENCE_S):
        await other.renew([lease("b")], lease_ms=LEASE_MS)
        news = [signal("b", name="one"), signal("nobody"), signal("b", name="two")]
        await commit_all(arena.store, [step("a", messages=tuple(news))])
        await other.conn.execute("COMMIT")
    mail = await arena.store.inbox([lease("b")])
    assert [message.name for message in mail["b"]] == ["one", "two"]
    await arena.check()


async def test_a_child_that_somebody_is_about_to_start_is_waited_for(arena: Arena) -> None:
    """What else could be said of it? Only the batch waits, and nothing that it holds is waited
    for by the one who starts."""
    await started(arena.store)
    async with arena.held_open() as caller, asyncio.timeout(PATIENCE_S):
        (made,) = await arena.store.create([new_run("kid")], conn=caller.conn)
        committing = asyncio.create_task(
            commit_one(arena.store, step(children=(new_run("kid"), new_run("other kid"))))
        )
        assert await arena.waits(committing, caller.pid)
        await arena.store.deliver([signal()], conn=caller.conn)
        await caller.conn.execute("COMMIT")
        assert (made.created, await committing) == (True, APPLIED)
    assert sorted(await arena.store.get(["kid", "other kid"])) == ["kid", "other kid"]
    await claim(arena.store)
    await arena.check()


async def test_claims_at_one_moment_share_what_is_due(arena: Arena) -> None:
    runs = [f"r{n}" for n in range(6)]
    await arena.store.create([new_run(run_id) for run_id in runs])
    async with arena.held_open() as other:
        theirs = ids(await claim(other, limit=3))
        ours = ids(await claim(arena.store, limit=3, worker="w2"))
        await other.conn.execute("COMMIT")
    assert sorted(theirs + ours) == runs
    await arena.check()


async def test_a_renewal_that_waits_for_a_transaction_holds_no_other_run(arena: Arena) -> None:
    for run_id in "abc":
        await started(arena.store, run_id)
    store = arena.store
    async with store.transaction(lease("b")) as transaction, asyncio.timeout(PATIENCE_S):
        arena.clock.forward(1)
        pid = transaction.conn.get_server_pid()
        renewing = asyncio.create_task(
            store.renew([lease("c"), lease("b"), lease("a"), lease("d")], lease_ms=LEASE_MS)
        )
        assert await arena.waits(renewing, pid)
        await commit_all(store, [step("a"), step("c")])
        runs = await store.get("abc")
        until = START_MS + LEASE_MS
        assert [runs[run_id].due_at_ms for run_id in "abc"] == [until + 1, until, until + 1]
        assert await transaction.commit(step("b")) is APPLIED
        result = await renewing
    assert (result.lost, result.mail) == (frozenset("d"), frozenset())
    assert (await store.get("b"))["b"].due_at_ms == until + 1
    await arena.check()


async def test_a_token_that_waits_for_its_run_holds_no_other(arena: Arena) -> None:
    for run_id in "abc":
        await started(arena.store, run_id)
    store = arena.store
    await commit_all(store, [step("b", tokens_opened=("t",))])
    async with store.transaction(lease("b")) as transaction, asyncio.timeout(PATIENCE_S):
        pid = transaction.conn.get_server_pid()
        sending = asyncio.create_task(
            store.deliver([signal("a"), signal("b", token="t"), signal("c")])
        )
        assert await arena.waits(sending, pid)
        await commit_all(store, [step("a"), step("c")])
        assert await transaction.commit(step("b", after_seq=1)) is APPLIED
        assert await sending == (DELIVERED,) * 3
    assert list(await store.inbox([lease(run_id) for run_id in "abc"])) == ["a", "b", "c"]
    await arena.check()


async def test_a_run_with_very_many_messages_keeps_nobody_elses(arena: Arena) -> None:
    for run_id in "ab":
        await started(arena.store, run_id)
    await commit_all(arena.store, [let_go("b")])
    async with arena.held_open() as caller:
        crowd = [signal("a")] * 300
        await arena.store.deliver([*crowd, signal("b")], conn=caller.conn)
        await caller.conn.execute("COMMIT")
    async with arena.store.transaction(lease("a")):
        assert ids(await claim(arena.store)) == ["b"]
    assert len((await arena.store.inbox([lease("a")]))["a"]) == 300


# --- a caller's transaction ------------------------------------------------------------------


@every_isolation
@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
async def test_a_callers_open_transaction_freezes_nobody(
    arena: Arena, isolation: str, ending: str
) -> None:
    runs = [f"r{n:02}" for n in range(33)]
    store = arena.store
    await store.create([new_run(run_id) for run_id in runs])
    await claim(store, limit=33)
    async with arena.held_open(isolation) as caller, asyncio.timeout(PATIENCE_S):
        sent = [signal(run_id) for run_id in runs]
        assert set(await store.deliver(sent, conn=caller.conn)) == {DELIVERED}
        await commit_all(store, [step(run_id) for run_id in runs])
        renewed = await store.renew([lease(run_id) for run_id in runs], lease_ms=LEASE_MS)
        assert (renewed.lost, renewed.mail) == (frozenset(), frozenset())
        assert await store.inbox([lease(run_id) for run_id in runs]) == {}
        async with store.transaction(lease(runs[0])) as transaction:
            assert await transaction.commit(step(runs[0], after_seq=1)) is APPLIED
        await commit_all(store, [let_go(run_id, after_seq=1) for run_id in runs[1:]])
        await store.deliver([signal(run_id, name="wake") for run_id in runs[1:]])
        assert ids(await claim(store, limit=33)) == runs[1:]
        await caller.conn.execute(ending)
    leases = [lease(runs[0]), *(lease(run_id, epoch=2, seen=1) for run_id in runs[1:])]
    mail = await store.inbox(leases)
    assert list(mail) == (runs if ending == "COMMIT" else [])
    assert {message.name for messages in mail.values() for message in messages} <= {"go"}
    await arena.check()


@every_isolation
async def test_a_caller_need_not_see_what_became_of_the_run(arena: Arena, isolation: str) -> None:
    """Under REPEATABLE READ its view is older than everything that happens to the run."""
    await started(arena.store)
    async with arena.held_open(isolation) as caller:
        await caller.conn.execute(SOME_READING)
        await commit_all(arena.store, [let_go(n=1)])
        await arena.store.deliver([signal(name="first")])
        assert names(await claim_one(arena.store)) == ["first"]
        sent = await arena.store.deliver([signal(name="second")], conn=caller.conn)
        assert sent == (DELIVERED,)
        await commit_all(arena.store, [let_go(epoch=2, after_seq=1, consumed=(1,), seen=1)])
        await caller.conn.execute("COMMIT")
    assert names(await claim_one(arena.store)) == ["second"]
    await arena.check()


SOME_READING = "SELECT count(*) FROM pg_class"
"""Settles what a REPEATABLE READ transaction sees."""


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_a_caller_with_an_old_view_is_sent_back_for_a_start_it_cannot_see(
    arena: Arena, isolation: str
) -> None:
    async with arena.held_open(isolation) as caller:
        await caller.conn.execute(SOME_READING)
        await arena.store.create([new_run()])
        with pytest.raises(StoreUnavailableError, match="might succeed when it is tried again"):
            await arena.store.create([new_run()], conn=caller.conn)
    async with arena.held_open(isolation) as caller:
        (result,) = await arena.store.create([new_run()], conn=caller.conn)
        await caller.conn.execute("COMMIT")
    assert not result.created
    await arena.check()


# --- retention -------------------------------------------------------------------------------


async def test_a_run_is_not_removed_before_a_retry_on_its_way_has_come(arena: Arena) -> None:
    await arrange(arena.store, "over")
    async with arena.held_open() as caller:
        assert await arena.store.deliver([retry()], conn=caller.conn) == (DELIVERED,)
        assert await prune(arena) == 0
        await caller.conn.execute("COMMIT")
    assert await prune(arena) == 0
    assert ids(await claim(arena.store)) == [RUN]
    await arena.check()


async def test_a_retry_given_up_keeps_nothing(arena: Arena) -> None:
    await arrange(arena.store, "over")
    async with arena.held_open() as caller:
        await arena.store.deliver([retry()], conn=caller.conn)
    assert await prune(arena) == 1
    await arena.check()


@pytest.mark.parametrize("committed", [False, True])
async def test_a_run_whose_retry_is_on_its_way_leaves_room_for_others(
    arena: Arena, committed: bool
) -> None:
    for run_id in "ab":
        await started(arena.store, run_id)
        await commit_all(arena.store, [finish(run_id)])
        arena.clock.forward(1)
    async with arena.held_open() as caller:
        await arena.store.deliver([retry("a")], conn=caller.conn)
        if committed:
            await caller.conn.execute("COMMIT")
        assert await arena.store.prune(before_ms=arena.clock.now_ms, limit=1) == 1
    assert list(await arena.store.get(["a", "b"])) == ["a"]


async def test_nothing_reaches_a_run_that_was_meant_for_the_one_before(arena: Arena) -> None:
    """A message to a run that ends before the message is committed, and is removed."""
    await arrange(arena.store, "held")
    async with arena.held_open() as caller:
        await arena.store.deliver([signal(RUN)], conn=caller.conn)
        await commit_all(arena.store, [finish(RUN, after_seq=1)])
        assert await prune(arena) == 0
        await caller.conn.execute("COMMIT")
    assert await prune(arena) == 1
    await arena.store.create([new_run(RUN)])
    assert names(await claim_one(arena.store)) == []
    await arena.check()


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_a_caller_with_an_old_view_is_sent_back_for_a_run_that_is_gone(
    arena: Arena, isolation: str
) -> None:
    await arrange(arena.store, "over")
    async with arena.held_open(isolation) as caller:
        await caller.conn.execute(SOME_READING)
        assert await prune(arena) == 1
        with pytest.raises(StoreUnavailableError, match="might succeed when it is tried again"):
            await arena.store.deliver([retry()], conn=caller.conn)
    await arena.check()


async def prune(arena: Arena) -> int:
    return await arena.store.prune(before_ms=START_MS + 1)


async def test_time_does_not_decide_past_a_message_on_its_way(arena: Arena) -> None:
    """It was posted, because the run was locked, and is in no inbox yet."""
    await started(arena.store)
    async with arena.held_open() as owner:
        await owner.renew([lease()], lease_ms=LEASE_MS)
        await arena.store.deliver([signal()])
        await owner.conn.execute("COMMIT")
    fired = step(not_before_ms=START_MS)
    assert await commit_one(arena.store, fired) is CommitVerdict.UNHEARD
    assert [message.seq for message in (await arena.store.inbox([lease()]))[RUN]] == [1]
    assert await commit_one(arena.store, step(not_before_ms=START_MS, seen=1)) is APPLIED
    await arena.check()


async def test_what_time_decides_waits_for_a_delivery_that_came_first(arena: Arena) -> None:
    """It was not acknowledged before the moment, but it is there when the run can be locked."""
    await started(arena.store)
    async with arena.held_open() as sender:
        await sender.deliver([signal()])
        deciding = asyncio.create_task(commit_one(arena.store, step(not_before_ms=START_MS)))
        assert await arena.waits(deciding, sender.pid)
        await sender.conn.execute("COMMIT")
    assert await deciding is CommitVerdict.UNHEARD
    await arena.check()


# --- delivered and claimed in one ------------------------------------------------------------


async def test_a_locked_run_is_posted_to_and_not_claimed(arena: Arena) -> None:
    """Its owner gives it back meanwhile: whoever claims it next has the message, and no other."""
    for run_id in (RUN, "free"):
        await started(arena.store, run_id)
    await commit_all(arena.store, [let_go("free")])
    async with arena.held_open() as other:
        await commit_all(other, [let_go(RUN)])
        sent = [signal(RUN, "a"), signal("free", "b")]
        delivering = arena.store.deliver_and_claim(sent, request(worker="w2"))
        delivery = await asyncio.wait_for(delivering, PATIENCE_S)
        assert delivery.verdicts == (DELIVERED, DELIVERED)
        assert [one.run.run_id for one in delivery.runs] == ["free"]
        await other.conn.execute("COMMIT")
    later = await arena.store.deliver_and_claim([signal(RUN, "c")], request(worker="w2"))
    assert [names(one) for one in later.runs] == [["a", "c"]]
    await arena.check()


@pytest.mark.parametrize("children", [(), (new_run("child"),)], ids=["alone", "with a child"])
async def test_what_is_foreseen_of_a_locked_run_waits_for_nobody(
    arena: Arena, children: tuple[NewRun, ...]
) -> None:
    """Who has locked it may be waiting for the sender: a handler in its transaction."""
    await started(arena.store)
    await commit_all(arena.store, [let_go()])
    async with arena.held_open() as other:
        (claimed,) = (await claim_by(other, "w3")).runs
        assert claimed.run.run_id == RUN
        commit = step(epoch=2**32 + 7, consumed=(2,), seen=2, children=children, not_before_ms=0)
        delivering = arena.store.deliver_and_claim(
            [signal(RUN, "b")],
            request(worker="w2", mark=7),
            foreseen=Foreseen(commit=commit, after_epoch=1),
        )
        delivery = await asyncio.wait_for(delivering, PATIENCE_S)
        assert (delivery.verdicts, delivery.runs) == ((DELIVERED,), ())
        assert delivery.foreseen is FENCED
        await other.conn.execute("COMMIT")
    assert await arena.store.get(["child"]) == {}
    assert list(await arena.store.inbox([lease(RUN, claimed.run.epoch)])) == [RUN]
    await arena.check()


async def claim_by(store: Any, worker: str) -> ClaimBatch:
    """A run that waits gets a message, and is claimed; neither is committed yet."""
    await store.deliver([signal(RUN, "a")])
    return await claim(store, worker=worker)


async def test_a_delivery_with_a_token_waits_and_claims_what_was_given_back(arena: Arena) -> None:
    await started(arena.store)
    await commit_all(arena.store, [step(tokens_opened=("t",))])
    async with arena.held_open() as other:
        await commit_all(other, [let_go(after_seq=1)])
        sent = [signal(token="t")]
        waiting = asyncio.create_task(arena.store.deliver_and_claim(sent, request(worker="w2")))
        assert await arena.waits(waiting, other.pid)
        await other.conn.execute("COMMIT")
        (claimed,) = (await waiting).runs
    assert (claimed.run.epoch, claimed.run.owner) == (2, "w2")
    assert (units(claimed), names(claimed)) == (["step1"], ["go"])
    await arena.check()


async def test_a_claim_and_a_delivery_that_claims_never_share_a_run(arena: Arena) -> None:
    await started(arena.store)
    await commit_all(arena.store, [let_go(due_at_ms=START_MS)])
    async with arena.held_open() as other:
        delivery = await other.deliver_and_claim([signal()], request(worker="w2"))
        assert [one.run.epoch for one in delivery.runs] == [2]
        assert ids(await claim(arena.store, worker="w3")) == []
        await other.conn.execute("COMMIT")
    assert ids(await claim(arena.store, worker="w3")) == []
    assert (await arena.store.get([RUN]))[RUN].owner == "w2"
    await arena.check()
