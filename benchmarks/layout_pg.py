"""What the layout of the Postgres adapter costs, verb by verb: the figures of decision 9.

Not a part of ``make bench``, as it takes some minutes: ``python -m benchmarks.layout_pg``.
Everything is called through ``PgStore``, as a worker does, but for ``columns_pg``; the ways to
commit take turns.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import attrs

from benchmarks import columns_pg
from benchmarks.finished_pg import add_finished
from benchmarks.ground_pg import PgGround, pg_ground
from benchmarks.report import Row, emit, machine, table
from benchmarks.stored import LEASE_MS, claim, create, new_runs, step
from durable_core.store import CommitVerdict, Lease
from durable_core.testing.postgres_schema import own_schema
from durable_pg import PgStore

T = TypeVar("T")

CLAIM = 100
"""Runs in one claim, unless the size of the claim is what is measured."""
STEPS = 5
WARM = 5
"""Calls before those that count: by then each connection knows the statement."""

WITHOUT_SET = """
DO $$
DECLARE f regprocedure;
BEGIN
    FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = '{schema}'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s RESET ALL', f);
    END LOOP;
END $$
"""
VACUUM_AS_INSTALLED = """
ALTER TABLE {schema}.lease RESET (
    autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold, autovacuum_vacuum_cost_delay,
    autovacuum_analyze_scale_factor
)
"""
OFTEN = ("ALTER SYSTEM SET autovacuum_naptime = '5s'", "SELECT pg_reload_conf()")
"""Else autovacuum looks once a minute."""
FILL = "ALTER TABLE {{schema}}.lease SET (fillfactor = {percent})"
UPDATES = """
SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
WHERE schemaname = $1 AND relname = 'lease'
"""


@attrs.frozen(slots=True, kw_only=True)
class Sizes:
    """How much is measured; ``live`` runs are stepped at random for the share of HOT updates."""

    batches: Sequence[int] = (1, 32, 100)
    renewals: Sequence[int] = (100, 1_000)
    rounds: int = 50
    finished: int = 1_000_000
    prune: int = 1_000
    due: int = 100_000
    claimers: Sequence[int] = (1, 4)
    live: int = 10_000
    waiting: int = 200_000
    churn_s: float = 45


# --- runs ------------------------------------------------------------------------------------


async def hold(store: PgStore, prefix: str, count: int) -> list[str]:
    """The ids of new runs, claimed."""
    await create(store, prefix, count)
    run_ids: list[str] = []
    while claimed := await claim(store, CLAIM):
        run_ids += claimed
    return run_ids


# --- measuring -------------------------------------------------------------------------------


@asynccontextmanager
async def opened(
    ground: PgGround, *, alter: str = "", finished: int = 0, **options: Any
) -> AsyncIterator[tuple[str, PgStore]]:
    """A schema of its own and an open store on it. ``alter`` is SQL that changes the schema."""
    async with own_schema(ground.dsn) as schema:
        if finished:
            await add_finished(ground.dsn, schema, finished, steps=1)
        store = PgStore(ground.dsn, schema=schema, **options)
        await store.open(migrate=True)
        try:
            if alter:
                await ground.conn.execute(alter.format(schema=schema))
            yield schema, store
        finally:
            await store.close()


class Calls:
    """Calls of one verb in one way, for so many rows each."""

    def __init__(self, ground: PgGround, verb: str, how: str, rows: int) -> None:
        self._ground = ground
        self._what: Row = {"verb": verb, "how": how, "rows": rows}
        self._taken_ms: list[float] = []
        self._wal_bytes_per_row: list[float] = []

    async def make(self, call: Awaitable[T], *, counts: bool = True) -> T:
        """Await it, and take its time."""
        before = (await self._ground.counts())["wal_bytes"]
        at = time.perf_counter()
        result = await call
        taken = time.perf_counter() - at
        after = (await self._ground.counts())["wal_bytes"]
        if counts:
            self._taken_ms.append(taken * 1e3)
            self._wal_bytes_per_row.append((after - before) / self._what["rows"])
        return result

    def row(self) -> Row:
        row = {
            **self._what,
            "ms": statistics.median(self._taken_ms),
            "least_ms": min(self._taken_ms),
            "wal_bytes_per_row": statistics.median(self._wal_bytes_per_row),
        }
        emit("pg_layout", row)
        return row


WAYS: Mapping[str, Mapping[str, Any]] = {
    "function": {},
    "function without SET": {"alter": WITHOUT_SET},
    "pooler=True": {"pooler": True},
    "plain=True": {"plain": True},
}


async def commits(ground: PgGround, sizes: Sizes) -> list[Row]:
    """Small steps of different runs, in every way there is to write them, in turns."""
    rows = []
    async with AsyncExitStack() as stack:
        stores = {
            how: (await stack.enter_async_context(opened(ground, **options)))[1]
            for how, options in WAYS.items()
        }
        for batch in sizes.batches:
            held = {how: await hold(store, f"b{batch}", batch) for how, store in stores.items()}
            calls = {how: Calls(ground, "commit", how, batch) for how in stores}
            for number in range(WARM + sizes.rounds):
                for how, store in stores.items():
                    steps = [step(run_id, number) for run_id in held[how]]
                    result = await calls[how].make(store.commit(steps), counts=number >= WARM)
                    assert set(result.verdicts) == {CommitVerdict.APPLIED}
            rows += [those.row() for those in calls.values()]
    return rows


async def claims(ground: PgGround, store: PgStore, how: str, sizes: Sizes) -> list[Row]:
    """Claims of runs with a journal, each of as many as there are due; and of none."""
    rows = []
    for batch in sizes.batches:
        calls = Calls(ground, "claim", how, batch)
        for number in range(WARM + sizes.rounds):
            await store.create(new_runs(f"c{batch}-{number}", batch, STEPS))
            run_ids = await calls.make(claim(store, batch), counts=number >= WARM)
            assert len(run_ids) == batch
            await store.commit([step(run_id, STEPS, finished=True) for run_id in run_ids])
        rows.append(calls.row())
    idle = Calls(ground, "claim, nothing due", how, 1)
    for _ in range(sizes.rounds):
        await idle.make(claim(store, CLAIM))
    return [*rows, idle.row()]


async def renewals(ground: PgGround, store: PgStore, sizes: Sizes) -> list[Row]:
    rows = []
    for count in sizes.renewals:
        calls = Calls(ground, "renew", "", count)
        leases = [Lease(run_id=run_id, epoch=1) for run_id in await hold(store, f"r{count}", count)]
        for _ in range(sizes.rounds):
            result = await calls.make(store.renew(leases, lease_ms=LEASE_MS))
            assert not result.lost
        rows.append(calls.row())
    return rows


async def prunes(ground: PgGround, store: PgStore, how: str, sizes: Sizes) -> list[Row]:
    calls = Calls(ground, "prune", how, sizes.prune)
    for _ in range(sizes.rounds):
        removed = await calls.make(store.prune(before_ms=1 << 60, limit=sizes.prune))
        assert removed == sizes.prune
    return [calls.row()]


async def drains(ground: PgGround, sizes: Sizes) -> list[Row]:
    """All that is due, taken by so many claimers at once until nothing is left."""
    rows = []
    for claimers in sizes.claimers:
        async with opened(ground) as (_, store):
            await create(store, "d", sizes.due)

            async def drain(store: PgStore = store) -> int:
                taken = 0
                while claimed := await claim(store, CLAIM):
                    taken += len(claimed)
                return taken

            calls = Calls(ground, "drain", f"{claimers} claimers", sizes.due)
            taken = await calls.make(asyncio.gather(*(drain() for _ in range(claimers))))
            assert sum(taken) == sizes.due
            rows.append(calls.row())
    return rows


async def fills(ground: PgGround, sizes: Sizes) -> list[Row]:
    """How many of the updates that steps make are HOT, by the fillfactor of the table "lease"."""
    rows = []
    for percent in (50, 70, 100):
        async with opened(ground, alter=FILL.format(percent=percent)) as (schema, store):
            run_ids = await hold(store, "f", sizes.live)
            before, at = await ground.counts(), time.perf_counter()
            for number in range(STEPS):
                random.shuffle(run_ids)
                for start in range(0, sizes.live, CLAIM):
                    await store.commit(
                        [step(run_id, number) for run_id in run_ids[start : start + CLAIM]]
                    )
            seconds, after = time.perf_counter() - at, await ground.counts()
            await store.close()  # connections tell what they did when they end
            steps = sizes.live * STEPS
            rows.append(
                {
                    "fillfactor": percent,
                    "hot_share": await hot_updates(ground, schema, steps + sizes.live) / steps,
                    "us_per_step": seconds / steps * 1e6,
                    "wal_bytes_per_step": (after["wal_bytes"] - before["wal_bytes"]) / steps,
                }
            )
            emit("pg_fill", rows[-1])
    return rows


async def hot_updates(ground: PgGround, schema: str, updates: int) -> int:
    """Of this many, which are all that were made."""
    for _ in range(100):
        made, hot = await ground.conn.fetchrow(UPDATES, schema)
        if made == updates:
            return int(hot)
        await asyncio.sleep(0.1)
    raise AssertionError(f"the server knows of {made} updates, not of {updates}")


async def churns(ground: PgGround, sizes: Sizes) -> list[Row]:
    """Claims while runs come and go for a while beside many that wait, by how soon the table
    "lease" is vacuumed; of the last two fifths of the time."""
    for statement in OFTEN:
        await ground.conn.execute(statement)
    rows = []
    for how, alter in (("ours", ""), ("as installed", VACUUM_AS_INSTALLED)):
        async with opened(ground, alter=alter) as (_, store):
            waiting = new_runs("w", sizes.waiting)
            for start in range(0, sizes.waiting, 1_000):
                some = waiting[start : start + 1_000]
                await store.create([attrs.evolve(run, delay_ms=1 << 40) for run in some])
            calls = Calls(ground, "claim, in a churn", f"autovacuum {how}", CLAIM)
            begin, number = time.monotonic(), 0
            while (passed := time.monotonic() - begin) < sizes.churn_s or number < WARM:
                await store.create(new_runs(f"n{number}", CLAIM))
                late = passed >= 0.6 * sizes.churn_s
                run_ids = await calls.make(claim(store, CLAIM), counts=late)
                for after in range(3):
                    await store.commit([step(one, after, finished=after == 2) for one in run_ids])
                number += 1
            rows.append(calls.row())
    return rows


async def measure_all(sizes: Sizes) -> list[Row]:
    async with pg_ground() as ground:
        on = machine(postgres=await ground.version())
        calls = await commits(ground, sizes)
        async with opened(ground) as (_, store):
            calls += await claims(ground, store, "no finished runs", sizes)
            calls += await renewals(ground, store, sizes)
        async with opened(ground, finished=sizes.finished) as (_, store):
            how = f"{sizes.finished:,} finished runs"
            calls += await claims(ground, store, how, sizes)
            calls += await prunes(ground, store, how, sizes)
        calls += await drains(ground, sizes)
        calls += await churns(ground, sizes)
        table(f"Postgres, calls of the store's verbs, {on}", calls)
        payloads = await columns_pg.payloads(ground, sizes.rounds)
        table(f"Postgres, {columns_pg.ROWS} payloads a statement", payloads)
        states = await columns_pg.tables(ground, sizes.rounds, STEPS)
        table(f"Postgres, {columns_pg.ROWS} runs a statement, by where their state stands", states)
        filled = await fills(ground, sizes)
        table(f"Postgres, {sizes.live:,} live runs stepped at random", filled)
    return [*calls, *payloads, *states, *filled]


def main(sizes: Sizes | None = None) -> list[Row]:
    return asyncio.run(measure_all(sizes or Sizes()))


if __name__ == "__main__":
    main()
