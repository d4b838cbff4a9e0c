"""Committer: every commit is answered once, and nothing is written twice or by guess."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.engine.stage import FaultyStore

from durable_core.engine.clock import StoreClock
from durable_core.engine.worker.committer import Committer
from durable_core.errors import StoreUnavailableError
from durable_core.kernel.value import NULL
from durable_core.store import (
    ClaimRequest,
    Commit,
    CommitVerdict,
    EntryRecord,
    Kind,
    NewRun,
)

DOWN = StoreUnavailableError("the store is down")
UNKNOWN = StoreUnavailableError("the connection broke", outcome_unknown=True)
KINDS = (Kind(workflow="w", version="1", fingerprint="f"),)


@pytest.fixture
async def store() -> AsyncIterator[FaultyStore]:
    """A store with three claimed runs."""
    store = FaultyStore()
    await store.open()
    await store.create(
        [
            NewRun(
                run_id=run_id,
                workflow="w",
                version="1",
                fingerprint="f",
                queue="default",
                input=NULL,
                digest="d",
            )
            for run_id in "abc"
        ]
    )
    await store.claim(
        ClaimRequest(worker="w", lease_ms=60_000, limit=10, queues=("default",), kinds=KINDS)
    )
    yield store
    await store.close()


def commit(run_id: str, epoch: int = 1) -> Commit:
    entry = EntryRecord(seq=1, kind="unit_completed", unit="a", attempt=1, at_ms=0, payload=NULL)
    return Commit(
        run_id=run_id,
        epoch=epoch,
        after_seq=0,
        status="running",
        generation=1,
        entries=(entry,),
    )


def committer_of(store: FaultyStore, patience_s: float = 5.0) -> Committer:
    return Committer(
        store,
        StoreClock(),
        entropy=bytes,
        patience_s=patience_s,
        on_mail=lambda mail, epochs: None,
    )


async def verdicts(
    store: FaultyStore, *commits: Commit, patience_s: float = 5.0
) -> list[CommitVerdict | None]:
    committer = committer_of(store, patience_s)
    answers: list[asyncio.Future[CommitVerdict | None]] = []
    for one in commits:
        answer: asyncio.Future[CommitVerdict | None] = asyncio.get_running_loop().create_future()
        answers.append(answer)
        committer.submit(one, answer.set_result)
    return list(await asyncio.gather(*answers))


async def test_commits_of_one_turn_are_one_batch(store: FaultyStore) -> None:
    assert set(await verdicts(store, *map(commit, "abc"))) == {CommitVerdict.APPLIED}
    assert store.batches == [["a", "b", "c"]]


async def test_each_commit_has_its_own_verdict(store: FaultyStore) -> None:
    assert await verdicts(store, commit("a"), commit("b", epoch=7)) == [
        CommitVerdict.APPLIED,
        CommitVerdict.FENCED,
    ]


async def test_what_was_not_written_is_tried_again(store: FaultyStore) -> None:
    store.faults = [DOWN, DOWN]
    assert await verdicts(store, commit("a")) == [CommitVerdict.APPLIED]
    assert (len(store.batches), store.settled_calls) == (3, 0)


@pytest.mark.parametrize("after", [False, True], ids=["lost", "landed"])
async def test_after_an_unknown_outcome_the_store_is_asked(store: FaultyStore, after: bool) -> None:
    store.faults, store.after = [UNKNOWN], after
    assert await verdicts(store, commit("a"), commit("b")) == [CommitVerdict.APPLIED] * 2
    assert store.settled_calls == 1
    assert len(store.batches) == (1 if after else 2)
    assert len(await store.journal("a")) == 1


async def test_nothing_is_sent_again_while_the_outcome_is_unknown(store: FaultyStore) -> None:
    store.faults, store.after = [UNKNOWN], True
    store.settled_faults = [DOWN, ValueError("odd"), UNKNOWN]
    assert await verdicts(store, commit("a")) == [CommitVerdict.APPLIED]
    assert (store.settled_calls, store.batches) == (4, [["a"]])


async def test_a_store_that_stays_away_is_given_up(store: FaultyStore) -> None:
    store.faults = [DOWN] * 1_000
    assert await verdicts(store, commit("a"), patience_s=0.1) == [None]


async def test_a_failing_batch_is_split_until_the_culprit_stands_alone(
    store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.refuses = lambda one: one.run_id == "b"
    assert await verdicts(store, *map(commit, "abc")) == [
        CommitVerdict.APPLIED,
        None,
        CommitVerdict.APPLIED,
    ]
    assert "the commit of run b was refused" in caplog.text


async def test_what_comes_when_all_is_over_is_left_alone(store: FaultyStore) -> None:
    """As what ends the lease of a run that was claimed for a worker which is gone."""
    committer = committer_of(store)
    answers: list[CommitVerdict | None] = []
    committer.submit(commit("a"), answers.append)
    await committer.close(5.0)
    committer.submit(commit("b"), answers.append)
    await committer.idle()
    assert answers == [CommitVerdict.APPLIED]
    assert store.batches == [["a"]]
