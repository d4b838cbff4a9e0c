"""What the network is asked: one round trip a verb, however many rows it is about."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tests.serving import serving
from tests.stores.pg_kit import Place, on_postgres

from durable_core.store import ClaimedRun, Commit, Store
from durable_core.testing.contract_kit import (
    LEASE_MS,
    claim,
    commit_all,
    finish,
    ids,
    lease,
    let_go,
    new_run,
    request,
    signal,
    step,
)

pytestmark = on_postgres

T = TypeVar("T")

MANY = 40


class Wire:
    """Passes everything on, and counts how often the client spoke after the server had."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self.trips = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, asks = await asyncio.open_connection(*self._server)
        answered = True

        async def forth() -> None:
            nonlocal answered
            while data := await reader.read(1 << 20):
                self.trips += answered
                answered = False
                asks.write(data)
            asks.close()

        async def back() -> None:
            nonlocal answered
            while data := await answers.read(1 << 20):
                answered = True
                writer.write(data)
            writer.close()

        await asyncio.gather(forth(), back(), return_exceptions=True)


def numbered(prefix: str) -> list[str]:
    return [f"{prefix}{number:03}" for number in range(MANY)]


def let_go_again(claimed: ClaimedRun) -> Commit:
    """Gives the run back, until a message comes."""
    run, inbox = claimed.run, claimed.inbox
    seen = max((message.seq for message in inbox), default=0)
    return let_go(run.run_id, run.epoch, run.entry_count, seen=seen)


async def lives(store: Store, prefix: str, trips: Callable[[], int]) -> dict[str, int]:
    """Many runs through all that they do under way: the round trips of each verb."""
    run_ids, counts = numbered(prefix), {}

    async def counted(name: str, verb: Awaitable[T]) -> T:
        before = trips()
        result = await verb
        counts[name] = trips() - before
        return result

    await counted("create", store.create([new_run(run_id) for run_id in run_ids]))
    await counted("deliver", store.deliver([signal(run_id) for run_id in run_ids]))
    await counted("claim", claim(store, limit=MANY))
    await counted("steps", commit_all(store, [step(run_id, consumed=(1,)) for run_id in run_ids]))
    await counted("renew", store.renew([lease(one) for one in run_ids], lease_ms=LEASE_MS))
    mixed: Sequence[str] = run_ids[1:]
    children = tuple(new_run(f"{prefix}-child{number}") for number in range(MANY))
    parting = step(
        run_ids[0], after_seq=1, children=children, messages=tuple(signal(one) for one in mixed)
    )
    await counted(
        "everything",
        commit_all(store, [parting, *(let_go(one, after_seq=1, due_at_ms=0) for one in mixed)]),
    )
    batch = await counted("claim with journals and inboxes", claim(store, limit=3 * MANY))
    assert len(ids(batch)) == 2 * MANY - 1
    waiting, kind = list(map(let_go_again, batch.runs[: MANY // 2])), request(limit=MANY)
    await commit_all(store, waiting)
    sent = [signal(one.run_id) for one in waiting]
    delivery = await counted("deliver and claim", store.deliver_and_claim(sent, kind))
    assert len(delivery.runs) == MANY // 2
    await counted("settled", store.settled([step(one) for one in run_ids]))
    await counted("ends", commit_all(store, [finish(run_ids[0], after_seq=2)]))
    return counts


async def test_each_verb_is_one_round_trip(place: Place) -> None:
    """On a new connection it is one more, for the statement to be prepared. Where others listen, a
    ring for them follows a verb, which nobody waits for."""
    address = place.dsn.partition("@")[2].partition("/")[0]
    host, _, port = address.partition(":")
    wire = Wire(host, int(port))
    async with serving(wire.serve) as through:
        dsn = place.dsn.replace(address, f"127.0.0.1:{through}")
        async with place.opened(dsn=dsn, listen=False) as store:
            first = await lives(store, "warm", lambda: wire.trips)
            counts = await lives(store, "run", lambda: wire.trips)
    del first["settled"]
    assert max(first.values()) == 2, first
    assert counts.pop("settled") <= 5, "a transaction that reads; it is rarely needed"
    assert set(counts.values()) == {1}, counts
