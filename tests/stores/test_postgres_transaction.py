"""Store.transaction on Postgres: the user's rows and the journal entry are one commit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from tests.stores.pg_kit import Place, at_peace, impatient, on_postgres, until

from durable_core.errors import DurableError, LeaseLostError, StoreUnavailableError
from durable_core.store import CommitVerdict
from durable_core.testing.contract_kit import (
    claim,
    commit_one,
    finish,
    ids,
    lease,
    new_run,
    signal,
    started,
    step,
)
from durable_pg import PgStore

pytestmark = on_postgres

APPLIED, CONFLICT = CommitVerdict.APPLIED, CommitVerdict.CONFLICT

INSERT = "INSERT INTO mine VALUES ($1)"


@pytest.fixture(params=[False, True], ids=["functions", "plain"])
async def store(place: Place, request: pytest.FixtureRequest) -> AsyncIterator[PgStore]:
    async with place.opened(plain=request.param) as store:
        await started(store)
        yield store


async def test_the_users_rows_and_the_entry_are_one_commit(store: PgStore, place: Place) -> None:
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, 1)
        await transaction.conn.executemany(INSERT, [(2,), (3,)])
        assert await transaction.conn.fetchval("SELECT count(*) FROM mine") == 3
        assert await place.mine() == []
        assert await store.journal("r1") == ()
        assert await transaction.commit(step()) is APPLIED
        assert await place.mine() == [1, 2, 3]
    assert len(await store.journal("r1")) == 1


async def test_without_the_commit_the_users_rows_are_gone(store: PgStore, place: Place) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.transaction(lease()) as transaction:
            await transaction.conn.execute(INSERT, 1)
            raise ZeroDivisionError
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, 1)
        assert await transaction.commit(step(after_seq=7)) is CONFLICT
        assert await place.mine() == []
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, 1)
    assert await place.mine() == []
    assert await place.at_rest(), "what was undone is undone when the block is left"


async def test_it_needs_the_lease(store: PgStore, place: Place) -> None:
    for lost in (lease(epoch=2), lease("nobody")):
        with pytest.raises(LeaseLostError):
            async with store.transaction(lost):
                raise AssertionError("the block must not run")
    assert await place.at_rest()


async def test_nobody_waits_for_it_but_who_would_take_the_run_over(
    store: PgStore, place: Place
) -> None:
    async with store.transaction(lease()) as transaction:
        await store.create([new_run("r2")])
        await store.deliver([signal()])
        assert ids(await claim(store)) == ["r2"]
        assert await commit_one(store, step("r2")) is APPLIED
        renewing = asyncio.ensure_future(store.renew([lease()], lease_ms=1_000))
        assert not (await asyncio.wait({renewing}, timeout=0.02))[0]
        await transaction.commit(step())
    assert not (await renewing).lost


# --- the user's statements -------------------------------------------------------------------

ENDINGS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "COMMIT": lambda conn: conn.execute("COMMIT"),
    "ROLLBACK": lambda conn: conn.fetch("ROLLBACK"),
    "COMMIT AND CHAIN": lambda conn: conn.execute("COMMIT AND CHAIN"),
    "another one": lambda conn: conn.execute("ROLLBACK; BEGIN; INSERT INTO mine VALUES (9)"),
    "close": lambda conn: conn.close(),
    "terminate": lambda conn: asyncio.sleep(0, conn.terminate()),
}


@pytest.mark.parametrize("how", ENDINGS)
async def test_the_user_cannot_end_it(store: PgStore, place: Place, how: str) -> None:
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, 1)
        await ENDINGS[how](transaction.conn)
        for _ in range(2):
            with pytest.raises(DurableError, match=r"ended by the store alone|was closed"):
                await transaction.commit(step())
    assert await store.journal("r1") == (), "no entry without the rows"
    assert await place.mine() == ([1] if how.startswith("COMMIT") else [])
    if how in ("close", "terminate"):  # the server may hear of it after us
        await place.comes_to_rest()
    assert await place.at_rest()
    async with store.transaction(lease()) as transaction:
        assert await transaction.commit(step()) is APPLIED


async def test_a_second_begin_changes_nothing(store: PgStore, place: Place) -> None:
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, 1)
        await transaction.conn.execute("BEGIN")
        await transaction.commit(step())
    assert await place.mine() == [1]


async def test_savepoints_are_fine(store: PgStore, place: Place) -> None:
    async with store.transaction(lease()) as transaction:
        conn = transaction.conn
        async with conn.transaction():
            await conn.execute(INSERT, 1)
        with pytest.raises(asyncpg.UniqueViolationError):
            async with conn.transaction():
                await conn.execute(INSERT, 2)
                await conn.execute(INSERT, 2)
        await conn.execute("SAVEPOINT mine")
        await conn.execute(INSERT, 3)
        await conn.execute("ROLLBACK TO mine")
        await transaction.commit(step())
    assert await place.mine() == [1]


async def test_a_statement_that_failed_is_named_at_the_commit(store: PgStore, place: Place) -> None:
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, 1)
        with pytest.raises(asyncpg.UniqueViolationError):
            await transaction.conn.execute(INSERT, 1)
        with pytest.raises(DurableError, match=r"statement .*failed.*conn\.transaction") as caught:
            await transaction.commit(step())
        assert not isinstance(caught.value, StoreUnavailableError)
    assert await place.mine() == []
    assert await store.journal("r1") == ()


async def test_a_row_that_is_refused_at_the_commit_is_the_users(
    store: PgStore, place: Place
) -> None:
    await place.eyes.execute(
        "CREATE TABLE late (x bigint REFERENCES mine (x) DEFERRABLE INITIALLY DEFERRED)"
    )
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute("INSERT INTO late VALUES (1)")
        with pytest.raises(DurableError, match=r"deferred constraint: .*foreign key") as caught:
            await transaction.commit(step())
        assert "report" not in str(caught.value)
    assert await store.journal("r1") == ()
    assert await place.at_rest()


async def test_a_statement_still_under_way_is_named_at_the_commit(
    store: PgStore, place: Place
) -> None:
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, 1)
        forgotten = asyncio.ensure_future(transaction.conn.execute("SELECT pg_sleep(1000)"))
        await asyncio.sleep(0)
        with pytest.raises(DurableError, match="under way") as caught:
            await transaction.commit(step())
        assert not isinstance(caught.value, StoreUnavailableError)
    await asyncio.wait({forgotten})
    assert forgotten.exception() is not None
    assert await place.mine() == []
    await place.comes_to_rest()


@pytest.mark.parametrize("how", ["it is forgotten", "its handler is cancelled"])
async def test_a_statement_that_cannot_be_cancelled_ends_with_its_session(
    store: PgStore, place: Place, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A request to cancel it may overtake it, and is then forgotten by the server."""

    async def overtakes(**_: Any) -> None:
        pass

    async def transact() -> None:
        async with store.transaction(lease()) as transaction:
            sleeping = asyncio.ensure_future(transaction.conn.execute("SELECT pg_sleep(1000)"))
            if how == "it is forgotten":
                await asyncio.sleep(0)
                with pytest.raises(DurableError, match="under way"):
                    await transaction.commit(step())
            await sleeping

    monkeypatch.setattr(asyncpg.connect_utils, "_cancel", overtakes)
    task = asyncio.ensure_future(transact())
    await until(lambda: somebody_sleeps(place))
    task.cancel()
    await asyncio.wait({task})
    await place.comes_to_rest()
    async with store.transaction(lease()) as transaction:
        assert await transaction.commit(step()) is APPLIED


async def somebody_sleeps(place: Place) -> Any:
    return await place.eyes.fetch("SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'")


async def test_nothing_can_be_written_when_it_is_over(store: PgStore, place: Place) -> None:
    async with store.transaction(lease()) as transaction:
        conn = transaction.conn
        await transaction.commit(step())
        with pytest.raises(asyncpg.InterfaceError):
            await conn.execute(INSERT, 1)
        with pytest.raises(DurableError, match="is over"):
            await transaction.commit(step(after_seq=1))
    async with store.transaction(lease()) as transaction:
        conn = transaction.conn
        await transaction.commit(step(after_seq=7))
        with pytest.raises(asyncpg.InterfaceError):
            await conn.execute(INSERT, 2)
    async with store.transaction(lease()) as transaction:
        conn = transaction.conn
    async with store.transaction(lease()):  # which may well use the same connection
        with pytest.raises(asyncpg.InterfaceError):
            await conn.execute(INSERT, 3)
    assert await place.mine() == []


async def test_what_a_handler_leaves_on_its_session_ends_with_it(
    store: PgStore, place: Place
) -> None:
    for number in range(3):
        async with store.transaction(lease()) as transaction:
            conn = transaction.conn
            assert await conn.fetchval("SELECT current_setting('app.tenant', true)") in ("", None)
            assert await conn.fetchval("SHOW search_path") == place.schema
            assert await conn.fetchval("SELECT pg_try_advisory_lock(1)")
            await conn.execute("SET app.tenant = 'a'; SET search_path = pg_catalog; LISTEN x")
            await transaction.commit(step(after_seq=number))
    async with place.connected() as other:
        assert await other.fetchval("SELECT pg_try_advisory_lock(1)")


async def test_a_commit_is_heard_by_others(place: Place) -> None:
    async with place.opened() as store, place.opened() as other:
        await started(store)
        await at_peace(store, other)
        async with store.transaction(lease()) as transaction:
            await transaction.commit(step())
        assert not await other.wait_for_work(20), "a mere step concerns nobody else"
        async with store.transaction(lease()) as transaction:
            await transaction.commit(finish(after_seq=1, children=(new_run("c"),)))
        assert await other.wait_for_work(10_000)


# --- what comes to it from outside -----------------------------------------------------------


async def test_a_lock_held_too_long_is_named(place: Place) -> None:
    async with place.opened() as store, place.connected() as other:
        await started(store)
        async with other.transaction():
            await other.execute("SELECT FROM lease FOR UPDATE")
            with (
                impatient(store, 0.2),
                pytest.raises(StoreUnavailableError, match=r"'r1'.*locked") as caught,
            ):
                async with store.transaction(lease()):
                    raise AssertionError("the block must not run")
            assert not caught.value.outcome_unknown
            await until(lambda: nobody_waits_for_a_lock(place))
        async with store.transaction(lease()) as transaction:
            assert await transaction.commit(step()) is APPLIED


async def nobody_waits_for_a_lock(place: Place) -> bool:
    return not await place.eyes.fetch("SELECT FROM pg_locks WHERE NOT granted")


async def test_cancelling_at_any_moment_leaves_no_lock(store: PgStore, place: Place) -> None:
    done = 0

    async def transact(number: int) -> None:
        nonlocal done
        after = len(await store.journal("r1", limit=1_000))
        async with store.transaction(lease()) as transaction:
            await transaction.conn.execute(INSERT, number)
            await transaction.commit(step(after_seq=after))
        done += 1

    chance = random.Random(7)
    for number in range(150):
        task = asyncio.ensure_future(transact(number))
        for _ in range(chance.randrange(25)):
            await asyncio.wait({task}, timeout=0.0002)
        task.cancel()
        await asyncio.wait({task})
        await place.comes_to_rest()
        assert len(await place.mine()) == len(await store.journal("r1", limit=1_000))
    assert 10 < done <= len(await place.mine()) < 150


async def test_cancelling_ends_the_statement_that_is_under_way(
    store: PgStore, place: Place
) -> None:
    """Else the server would go on with it, and hold the fence, though nobody waits any more."""

    async def transact() -> None:
        async with store.transaction(lease()) as transaction:
            await transaction.conn.execute(INSERT, 1)
            await transaction.conn.execute("SELECT pg_sleep(1000)")

    task = asyncio.ensure_future(transact())
    await until(lambda: somebody_sleeps(place))
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert await place.at_rest()


async def test_cancelling_the_commit_does_not_lose_its_verdict(
    store: PgStore, place: Place
) -> None:
    """Whoever is cancelled there leaves the block when it is known what became of it."""
    for number in range(20):
        committing = asyncio.Event()

        async def transact(number: int = number, begins: asyncio.Event = committing) -> None:
            async with store.transaction(lease()) as transaction:
                await transaction.conn.execute(INSERT, number)
                begins.set()
                await transaction.commit(step(after_seq=number))

        task = asyncio.ensure_future(transact())
        await committing.wait()
        for _ in range(number % 5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert len(await store.journal("r1")) == number + 1, "what was asked for was done"
        assert await place.at_rest()


async def test_a_connection_killed_in_the_middle_leaves_nothing(
    store: PgStore, place: Place
) -> None:
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, 1)
        await killed(place, transaction.conn)
        with pytest.raises(DurableError, match=r"Nothing was written|cannot be reached") as caught:
            await transaction.commit(step())
        assert not getattr(caught.value, "outcome_unknown", False)
    assert await place.mine() == []
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, 2)
        assert await transaction.commit(step()) is APPLIED
    assert await place.mine() == [2]


async def killed(place: Place, conn: Any) -> None:
    pid = conn.get_server_pid()
    assert await place.eyes.fetchval("SELECT pg_terminate_backend($1, 10000)", pid)


KILLING_AT_COMMIT = """
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql
AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON mine DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION die()
"""


async def test_a_connection_killed_at_the_commit_leaves_it_open_what_became_of_it(
    store: PgStore, place: Place
) -> None:
    await place.eyes.execute(KILLING_AT_COMMIT)
    async with store.transaction(lease()) as transaction:
        await transaction.conn.execute(INSERT, 1)
        with pytest.raises(StoreUnavailableError) as caught:
            await transaction.commit(step())
        assert caught.value.outcome_unknown
    assert await store.settled([step()]) == (CONFLICT,)
    assert await place.mine() == []
    await place.comes_to_rest()
