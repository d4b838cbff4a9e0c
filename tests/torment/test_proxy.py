"""The proxy does what it says: what was cut off before COMMIT is not there, after COMMIT it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from tests.postgres_kit import ALL_MAJORS, dsn, own_schema
from tests.torment.processes import eventually
from tests.torment.proxy import Fault, Frames, Proxy

from durable_core.errors import StoreUnavailableError
from durable_core.store import CommitVerdict
from durable_core.testing.contract_kit import ids, lease, new_run, request, started, step
from durable_core.testing.postgres import NO_POSTGRES
from durable_pg import PgStore

pytestmark = [
    pytest.mark.torment,
    pytest.mark.postgres,
    pytest.mark.skipif(not ALL_MAJORS, reason=NO_POSTGRES),
]

LATE_S = 2.0
SOON_S = 0.3
PATIENCE_S = 30.0


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy(dsn(ALL_MAJORS[0])) as proxy:
        yield proxy


@pytest.fixture
async def direct() -> AsyncIterator[PgStore]:
    """A store that does not go through the proxy."""
    async with own_schema(ALL_MAJORS[0]) as schema:
        store = PgStore(dsn(ALL_MAJORS[0]), schema=schema)
        await store.open(migrate=True)
        yield store
        await store.close()


@pytest.fixture
async def store(proxy: Proxy, direct: PgStore) -> AsyncIterator[PgStore]:
    """One on the same schema that does."""
    store = PgStore(proxy.dsn, schema=direct._schema.name)
    await store.open()
    yield store
    await store.close()


async def journal_of(store: PgStore) -> list[int]:
    return [entry.seq for entry in await store.journal("r1")]


@pytest.mark.parametrize("fault", [Fault.BEFORE, Fault.HALFWAY])
async def test_cut_before_the_commit_nothing_is_there(
    fault: Fault, proxy: Proxy, store: PgStore, direct: PgStore
) -> None:
    await started(store)
    proxy.arm(fault, "commit")
    with pytest.raises(StoreUnavailableError) as caught:
        await store.commit([step()])
    assert caught.value.outcome_unknown
    assert await store.settled([step()]) == (CommitVerdict.CONFLICT,)
    assert await journal_of(direct) == []
    assert (await store.commit([step()])).verdicts == (CommitVerdict.APPLIED,)
    assert proxy.fired == {fault: 1}


async def test_cut_after_the_commit_everything_is_there(
    proxy: Proxy, store: PgStore, direct: PgStore
) -> None:
    await started(store)
    proxy.arm(Fault.AFTER, "commit")
    with pytest.raises(StoreUnavailableError) as caught:
        await store.commit([step()])
    assert caught.value.outcome_unknown
    assert await journal_of(direct) == [1]
    assert await store.settled([step()]) == (CommitVerdict.APPLIED,)
    assert proxy.fired == {Fault.AFTER: 1}


async def test_a_commit_that_arrives_after_its_repetition_changes_nothing(
    proxy: Proxy, store: PgStore, direct: PgStore
) -> None:
    await started(store)
    proxy.arm(Fault.LATE, "commit", pause_s=LATE_S)
    with pytest.raises(StoreUnavailableError):
        await store.commit([step()])
    assert await store.settled([step()]) == (CommitVerdict.CONFLICT,)
    assert (await store.commit([step()])).verdicts == (CommitVerdict.APPLIED,)
    before = await direct.get(["r1"])
    assert proxy.unheard == 0, "too slow a machine to tell"

    async def has_arrived() -> bool:
        return proxy.unheard == 1

    assert await eventually(has_arrived, within_s=PATIENCE_S)
    assert await journal_of(direct) == [1]
    assert await direct.get(["r1"]) == before


async def test_a_late_claim_does_arrive(proxy: Proxy, store: PgStore, direct: PgStore) -> None:
    """The proof that late requests are sent at all."""
    await store.create([new_run()])
    proxy.arm(Fault.LATE, "claim", pause_s=LATE_S)
    with pytest.raises(StoreUnavailableError):
        await store.claim(request())

    async def claimed() -> bool:
        return (await direct.get(["r1"]))["r1"].epoch == 1

    assert not await claimed()
    assert await eventually(claimed, within_s=PATIENCE_S)


async def test_a_delayed_request_is_answered(proxy: Proxy, store: PgStore) -> None:
    await started(store)
    proxy.arm(Fault.DELAY, "commit", pause_s=SOON_S)
    sent_at = time.monotonic()
    assert (await store.commit([step()])).verdicts == (CommitVerdict.APPLIED,)
    assert time.monotonic() - sent_at >= SOON_S


async def test_in_the_dark_nothing_passes_and_nobody_is_told(proxy: Proxy, store: PgStore) -> None:
    await store.create([new_run()])
    proxy.go_dark()
    asking = asyncio.ensure_future(store.claim(request()))
    await asyncio.sleep(SOON_S)
    assert not asking.done()
    proxy.go_light()
    assert ids(await asking) == ["r1"]


async def test_a_fault_waits_for_its_verb(proxy: Proxy, store: PgStore) -> None:
    proxy.arm(Fault.BEFORE, "renew")
    await started(store)
    await store.commit([step()])
    assert (proxy.awaited, proxy.fired) == (["renew"], {})
    with pytest.raises(StoreUnavailableError):
        await store.renew([lease()], lease_ms=1_000)
    assert proxy.hit == {"renew": 1}


@pytest.mark.parametrize("size", [1, 3, 100])
def test_messages_are_put_together_however_they_come(size: int) -> None:
    messages = [b"Q\0\0\0\6ab", b"S\0\0\0\4", b"Z\0\0\0\5I"]
    stream, frames = b"".join(messages), Frames(typed=True)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [frame for piece in pieces for frame in frames.feed(piece)] == messages
