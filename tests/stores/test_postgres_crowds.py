"""Ten thousand runs of dead workers, due at one moment: taken over in large bites, each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from tests.stores.pg_kit import Place, on_postgres

from durable_core.testing.contract import VirtualClock
from durable_core.testing.contract_kit import LEASE_MS, claim, ids, new_run
from durable_pg import PgStore

pytestmark = on_postgres

RUNS = 10_000
BITE = 100
WORKERS = 4


@pytest.fixture
async def stores(place: Place, clock: VirtualClock) -> AsyncIterator[list[PgStore]]:
    """One for each worker."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(place.opened(clock=clock, listen=False))
            for _ in range(WORKERS)
        ]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


async def test_a_crowd_is_taken_over_once_and_in_few_claims(
    stores: list[PgStore], clock: VirtualClock
) -> None:
    for start in range(0, RUNS, 1_000):
        await stores[0].create([new_run(f"r{n:05}") for n in range(start, start + 1_000)])
    while ids(await claim(stores[0], worker="dead", limit=1_000)):
        pass
    clock.forward(LEASE_MS)
    claims = 0

    async def take_over(number: int) -> list[str]:
        nonlocal claims
        taken: list[str] = []
        while True:
            claims += 1
            batch = await claim(stores[number], worker=f"w{number}", limit=BITE)
            assert all(claimed.run.deaths == 1 for claimed in batch.runs)
            if not batch.runs:
                return taken
            taken += ids(batch)

    shares = await asyncio.gather(*(take_over(number) for number in range(WORKERS)))
    assert sorted(run_id for share in shares for run_id in share) == [
        f"r{n:05}" for n in range(RUNS)
    ]
    assert claims <= 1.1 * RUNS / BITE + WORKERS, "they hardly come in each other's way"
    assert all(shares)
