"""The connections that verbs are sent on: lent from a list, the last one used first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from tests.stores.pg_kit import PATIENCE_S, Place, on_postgres

from durable_core.errors import DurableError
from durable_pg import queries, verb_pool
from durable_pg.verb_pool import Connection, VerbPool

pytestmark = on_postgres


class Counting:
    """Connects to a place, and says how often."""

    def __init__(self, place: Place) -> None:
        self.times = 0
        self.fails = False
        self.may = asyncio.Event()
        self.may.set()
        self.made: list[Connection] = []
        self.made_one = asyncio.Event()
        self._dsn = place.dsn

    async def __call__(self) -> Connection:
        if self.fails:
            raise ConnectionRefusedError
        self.times += 1
        conn = await asyncpg.connect(self._dsn)
        self.made.append(conn)
        self.made_one.set()
        await self.may.wait()
        return conn


@asynccontextmanager
async def pool_of(connecting: Counting, size: int = 2) -> AsyncIterator[VerbPool]:
    pool = VerbPool(connecting, size)
    try:
        yield pool
    finally:
        await asyncio.wait_for(pool.close(), PATIENCE_S)


def ended(conn: Connection) -> asyncio.Event:
    """Set when the connection is no more."""
    over = asyncio.Event()
    conn.add_termination_listener(lambda conn: over.set())
    return over


async def ready(turns: int = 5) -> None:
    """Let whoever can go on do so."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def test_the_connection_used_last_is_lent_first(place: Place) -> None:
    connecting = Counting(place)
    async with pool_of(connecting, 3) as pool:
        conns = [await pool.acquire(timeout=1) for _ in range(3)]
        for conn in conns:
            await pool.release(conn)
        again = [await pool.acquire(timeout=1) for _ in range(3)]
        assert again == conns[::-1]
        assert connecting.times == 3
        for conn in again:
            await pool.release(conn)


async def test_who_comes_when_all_are_lent_waits_in_turn_or_is_told(place: Place) -> None:
    async with pool_of(Counting(place), 1) as pool:
        conn = await pool.acquire(timeout=1)
        with pytest.raises(TimeoutError):
            await pool.acquire(timeout=0.01)
        served: list[int] = []

        async def wants(number: int) -> None:
            mine = await pool.acquire(timeout=PATIENCE_S)
            served.append(number)
            await asyncio.sleep(0)
            await pool.release(mine)

        waiting = [asyncio.create_task(wants(number)) for number in range(4)]
        await ready()
        waiting[1].cancel()
        await ready()
        assert not served
        await pool.release(conn)
        await asyncio.wait(waiting)
        assert served == [0, 2, 3]


async def test_a_broken_connection_is_replaced(place: Place) -> None:
    connecting = Counting(place)
    async with pool_of(connecting) as pool:
        lent, idle = await pool.acquire(timeout=1), await pool.acquire(timeout=1)
        await pool.release(idle)
        broken = [ended(conn) for conn in (lent, idle)]
        for conn in (lent, idle):
            await place.eyes.fetchval(
                "SELECT pg_terminate_backend($1, 5000)", conn.get_server_pid()
            )
        async with asyncio.timeout(PATIENCE_S):
            for each in broken:
                await each.wait()
        await pool.release(lent)
        both = [await pool.acquire(timeout=1) for _ in range(2)]
        assert [await conn.fetchval("SELECT 1") for conn in both] == [1, 1]
        assert connecting.times == 4
        for conn in both:
            await pool.release(conn)


async def test_who_cannot_connect_leaves_the_place_to_others(place: Place) -> None:
    connecting = Counting(place)
    async with pool_of(connecting, 1) as pool:
        connecting.fails = True
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                await pool.acquire(timeout=1)
        connecting.fails = False
        await pool.release(await pool.acquire(timeout=1))


async def test_what_nobody_needs_is_closed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb_pool, "IDLE_S", 0.02)
    async with pool_of(Counting(place)) as pool:
        needed, unneeded = await pool.acquire(timeout=1), await pool.acquire(timeout=1)
        await pool.release(unneeded)
        await pool.release(needed)
        async with asyncio.timeout(PATIENCE_S):
            over = ended(needed)
            while not unneeded.is_closed():
                assert await pool.acquire(timeout=1) is needed
                await asyncio.sleep(0.001)
                await pool.release(needed)
            await over.wait()


async def test_closing_waits_for_what_is_lent_and_tells_who_waits(place: Place) -> None:
    pool = VerbPool(Counting(place), 1)
    conn = await pool.acquire(timeout=1)
    waiting = [asyncio.create_task(pool.acquire(timeout=PATIENCE_S)) for _ in range(2)]
    await ready()
    closing = asyncio.create_task(pool.close())
    await ready()
    assert not closing.done()
    assert await conn.fetchval("SELECT 1") == 1
    await pool.release(conn)
    await asyncio.wait_for(closing, PATIENCE_S)
    assert conn.is_closed()
    for task in waiting:
        with pytest.raises(asyncpg.InterfaceError):
            await task
    with pytest.raises(asyncpg.InterfaceError):
        await pool.acquire(timeout=1)


async def test_it_can_hang_up_on_what_is_lent(place: Place) -> None:
    pool = VerbPool(Counting(place), 2)
    lent, idle = await pool.acquire(timeout=1), await pool.acquire(timeout=1)
    await pool.release(idle)
    pool.terminate()
    assert lent.is_closed()
    assert idle.is_closed()
    await pool.release(lent)
    await asyncio.wait_for(pool.close(), PATIENCE_S)


async def test_what_comes_back_in_the_middle_of_a_transaction_is_not_lent_again(
    place: Place,
) -> None:
    """The server may refuse to end one: COMMIT can be cancelled as any statement."""
    connecting = Counting(place)
    async with pool_of(connecting) as pool:
        conn = await pool.acquire(timeout=1)
        await conn.execute("BEGIN")
        with pytest.raises(asyncpg.UndefinedTableError):
            await conn.execute("SELECT * FROM nothing_of_this_name")
        await pool.release(conn)
        assert conn.is_closed()
        other = await pool.acquire(timeout=1)
        assert await other.fetchval("SELECT 1") == 1
        await pool.release(other)


async def test_a_store_goes_on_when_a_commit_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place.opened(pooler=True) as store:
        with monkeypatch.context() as patch:
            patch.setattr(queries, "COMMIT", "SELECT 1 / 0")
            with pytest.raises(DurableError):
                await store.now_ms()
        assert await store.now_ms() > 0


async def test_connecting_takes_no_longer_than_is_waited(place: Place) -> None:
    connecting = Counting(place)
    connecting.may.clear()
    async with pool_of(connecting, 1) as pool:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await pool.acquire(timeout=0.05)
        connecting.may.set()
        await pool.release(await pool.acquire(timeout=PATIENCE_S))
    for conn in connecting.made:
        conn.terminate()


async def test_who_has_no_patience_to_close_leaves_nothing_open(place: Place) -> None:
    connecting = Counting(place)
    pool = VerbPool(connecting, 3)
    lent, idle = await pool.acquire(timeout=1), await pool.acquire(timeout=1)
    await pool.release(idle)
    closing = asyncio.create_task(pool.close())
    await ready()
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    assert lent.is_closed()
    assert idle.is_closed()
    await pool.release(lent)
    await asyncio.wait_for(pool.close(), PATIENCE_S)


async def test_a_connection_that_comes_too_late_is_hung_up_on(place: Place) -> None:
    connecting = Counting(place)
    connecting.may.clear()
    pool = VerbPool(connecting, 1)
    wanting = asyncio.create_task(pool.acquire(timeout=PATIENCE_S))
    async with asyncio.timeout(PATIENCE_S):
        await connecting.made_one.wait()
        pool.terminate()
        connecting.may.set()
        with pytest.raises(asyncpg.InterfaceError):
            await wanting
    assert connecting.made[0].is_closed()


async def test_a_connection_is_given_back_once(place: Place) -> None:
    async with pool_of(Counting(place)) as pool:
        conn = await pool.acquire(timeout=1)
        await pool.release(conn)
        with pytest.raises(KeyError):
            await pool.release(conn)
