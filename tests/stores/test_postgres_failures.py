"""What becomes of verbs when the server, the way to it, or what they are given is not right."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
import traceback

import pytest
from tests.stores.pg_kit import (
    Place,
    impatient,
    on_postgres,
    own_place,
    silence,
    somebody_waits,
    until,
)
from tests.torment.proxy import Fault, Proxy

from durable_core import Engine
from durable_core.errors import DurableError, EncodingError, StoreUnavailableError
from durable_core.store import Commit, CommitVerdict, DeliverVerdict, StoreTransaction
from durable_core.testing.contract_kit import claim, lease, new_run, signal, started, step
from durable_core.testing.postgres import PostgresServer
from durable_core.testing.postgres_binaries import find_binaries
from durable_pg import PgStore

pytestmark = on_postgres


async def test_a_server_that_never_answers_is_named_in_time() -> None:
    async with silence() as dsn:
        store = PgStore(f"{dsn}?sslmode=disable", timeout_s=0.2)
        before = time.monotonic()
        with pytest.raises(StoreUnavailableError, match=r"'shop' .*does not answer"):
            await store.open()
        assert time.monotonic() - before < 2


async def test_a_lock_held_too_long_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server gives up before we do: so it is known that nothing was written, and nobody goes
    on waiting there."""
    monkeypatch.setattr("durable_pg.connection.LOCK_SHARE", 0.01)
    async with place.opened() as store, place.connected() as other:
        await started(store)
        async with other.transaction():
            await other.execute("SELECT FROM lease FOR UPDATE")
            with pytest.raises(StoreUnavailableError, match=r"lock .*in time: find who") as caught:
                await store.commit([step()])
            assert not caught.value.outcome_unknown
            assert not await somebody_waits(place)
        assert (await store.commit([step()])).verdicts == (CommitVerdict.APPLIED,)


async def test_a_verb_that_takes_too_long_is_ended_by_the_server(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_pg.connection.STATEMENT_SHARE", 0.02)
    async with place.opened() as store:
        await place.eyes.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql "
            "AS 'BEGIN PERFORM pg_sleep(1000); RETURN new; END';"
            "CREATE TRIGGER slow BEFORE INSERT ON run FOR EACH ROW EXECUTE FUNCTION slow()"
        )
        with pytest.raises(StoreUnavailableError, match="statement_timeout") as caught:
            await store.create([new_run()])
        assert not caught.value.outcome_unknown
        assert await place.at_rest()


async def test_what_others_make_us_repeat_is_repeated(place: Place) -> None:
    async with place.opened() as store:
        await place.eyes.execute(SERIALIZATION_FAILURES)
        assert (await store.create([new_run("r3")]))[0].created
        assert await place.eyes.fetchval("SELECT last_value FROM tries") == 3
        with pytest.raises(StoreUnavailableError, match="when it is tried again") as caught:
            await store.create([new_run("never")])
        assert not caught.value.outcome_unknown
        assert set(await store.get(["r3", "never"])) == {"r3"}


SERIALIZATION_FAILURES = """
CREATE SEQUENCE tries;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('tries') < 3 OR new.run_id = 'never' THEN
        RAISE EXCEPTION 'could not serialize' USING ERRCODE = '40001';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER fail BEFORE INSERT ON run FOR EACH ROW EXECUTE FUNCTION fail()
"""


async def test_a_deadlock_is_survived(place: Place) -> None:
    """Ours is undone, as it looks first, and is repeated when the other is through."""
    quick, slow = (f"{place.dsn}&deadlock_timeout={ms}ms" for ms in (200, 60_000))
    lock = "SELECT FROM lease WHERE run_id = $1 FOR UPDATE"
    async with place.opened(dsn=quick) as store, place.connected(dsn=slow) as other:
        await started(store, "a")
        await started(store, "b")
        async with other.transaction():
            await other.execute(lock, "b")
            committing = asyncio.ensure_future(store.commit([step("a"), step("b")]))
            await until(lambda: somebody_waits(place))
            await other.execute(lock, "a")
        assert [verdict.value for verdict in (await committing).verdicts] == ["applied"] * 2


async def test_values_the_driver_cannot_take_are_the_callers_fault(place: Place) -> None:
    async with place.opened() as store:
        for bad in ({"workflow": "\ud800"}, {"workflow": "a\0b"}, {"priority": 2**63}):
            with pytest.raises(EncodingError, match=r"Unicode without NUL.*64 bits"):
                await store.create([new_run("ok"), new_run("bad", **bad)])
        assert await store.get(["ok"]) == {}
        assert (await store.create([new_run("ok")]))[0].created


async def test_what_should_never_happen_is_no_driver_error_either(place: Place) -> None:
    async with place.opened() as store:
        await started(store)
        with pytest.raises(DurableError, match=r"(?s)SQLSTATE 23505.*report it") as caught:
            await store.commit([step(entries=step().entries * 2)])
        assert not isinstance(caught.value, StoreUnavailableError)
        assert await store.journal("r1") == ()
        assert (await store.deliver([signal()])) == (DeliverVerdict.DELIVERED,)


# --- dead lines and killed servers -----------------------------------------------------------


async def test_a_line_that_goes_dead_is_named_in_time(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("CLOSE_S", "UNDO_S"):
        monkeypatch.setattr(f"durable_pg.connection.{limit}", 0.2)
    with Proxy(place.dsn) as proxy:
        async with place.opened(dsn=proxy.dsn) as store:
            await started(store)
            await asyncio.gather(*(store.get(["r1"]) for _ in range(4)))
            async with store.transaction(lease()) as transaction:
                await transaction.conn.execute("INSERT INTO mine VALUES (1)")
                with impatient(store, 0.2):
                    proxy.go_dark()
                    await finds_out(store, transaction)
                    proxy.go_light()
            await place.comes_to_rest()
            assert await store.settled([step()]) == (CommitVerdict.CONFLICT,)
            assert (await store.commit([step()])).verdicts == (CommitVerdict.APPLIED,)
    assert await place.mine() == []


async def finds_out(store: PgStore, transaction: StoreTransaction) -> None:
    """Every verb says in time that nobody answers, and what may have been written."""
    before = time.monotonic()
    verbs = {
        store.get(["r1"]): False,
        store.create([new_run("r2")]): True,
        store.settled([step()]): False,
        transaction.commit(step()): False,
    }
    errors = await asyncio.gather(*verbs, return_exceptions=True)
    assert time.monotonic() - before < 5
    for error, unknown in zip(errors, verbs.values(), strict=True):
        assert isinstance(error, StoreUnavailableError)
        assert "did not answer in time" in str(error)
        assert error.outcome_unknown is unknown
    with pytest.raises(StoreUnavailableError, match="does not answer") as caught:
        async with store.transaction(lease()):
            raise AssertionError("the block must not run")
    assert not caught.value.outcome_unknown


async def test_a_commit_that_was_cut_off_can_be_asked_about(place: Place) -> None:
    with Proxy(place.dsn) as proxy:
        async with place.opened(dsn=proxy.dsn) as store:
            await started(store)
            for number, (fault, landed) in enumerate(
                [(Fault.BEFORE, False), (Fault.AFTER, True), (Fault.AFTER, True)]
            ):
                after = len(await store.journal("r1"))
                async with store.transaction(lease()) as transaction:
                    await transaction.conn.execute(f"INSERT INTO mine VALUES ({number})")
                    proxy.arm(fault, "COMMIT")
                    with pytest.raises(StoreUnavailableError) as caught:
                        await transaction.commit(step(after_seq=after))
                    assert caught.value.outcome_unknown
                verdict = CommitVerdict.APPLIED if landed else CommitVerdict.CONFLICT
                assert await store.settled([step(after_seq=after)]) == (verdict,)
                assert (number in await place.mine()) is landed


async def test_what_a_killed_server_said_is_true_when_it_is_back() -> None:
    binaries = find_binaries()
    assert binaries is not None
    with PostgresServer(binaries) as server:
        async with own_place(server.dsn()) as place, place.opened(timeout_s=5) as store:
            runs = [f"held-{number}" for number in range(4)]
            await store.create([new_run(run_id) for run_id in runs])
            await claim(store)
            for _ in range(3):
                await load_until_killed(store, server, runs)


async def load_until_killed(store: PgStore, server: PostgresServer, runs: list[str]) -> None:
    """What was acknowledged is there, what was refused is not, and the rest can be asked about."""
    entries = {run_id: len(await store.journal(run_id)) for run_id in runs}
    acknowledged, refused, busy = set(), set(), asyncio.Event()

    async def create(name: str) -> None:
        for number in itertools.count():
            run_id = f"{name}-{number}"
            try:
                await store.create([new_run(run_id)])
            except StoreUnavailableError as error:
                if not error.outcome_unknown:
                    refused.add(run_id)
                return
            acknowledged.add(run_id)
            if number == 20:
                busy.set()

    async def commit(run_id: str) -> tuple[Commit, bool]:
        """The first commit that failed, and whether that left open what became of it."""
        while True:
            one = step(run_id, after_seq=entries[run_id])
            try:
                assert (await store.commit([one])).verdicts == (CommitVerdict.APPLIED,)
            except StoreUnavailableError as error:
                return one, error.outcome_unknown
            entries[run_id] += 1

    turn = secrets.token_hex(4)
    creating = [asyncio.ensure_future(create(f"{turn}-{worker}")) for worker in range(4)]
    committing = [asyncio.ensure_future(commit(run_id)) for run_id in runs]
    await busy.wait()
    server.kill_all()
    await asyncio.gather(*creating)
    failed = await asyncio.gather(*committing)
    server.restart()
    there = set(await store.get([*acknowledged, *refused]))
    assert there == acknowledged
    for (one, unknown), verdict in zip(
        failed, await store.settled([one for one, _ in failed]), strict=True
    ):
        landed = len(await store.journal(one.run_id)) - entries[one.run_id]
        assert landed == (verdict is CommitVerdict.APPLIED)
        assert unknown or not landed
        if not landed:
            assert (await store.commit([one])).verdicts == (CommitVerdict.APPLIED,)


# --- secrets ---------------------------------------------------------------------------------

CANARY = "c4n4ry"
DSNS = [
    "postgresql://ada:{}@127.0.0.1:1/shop",
    "postgresql://ada:{}@no-such-host.invalid/shop",
    "postgresql://ada:{}@127.0.0.1:1/shop?sslmode=often",
    "postgresql:///shop?user=ada&password={}&host=127.0.0.1&port=1",
    "postgresql+asyncpg://ada:{}@127.0.0.1:1/shop",
    "host=127.0.0.1 port=1 user=ada password={}",
    # What must be escaped in a password, and is not.
    *(f"postgresql://ada:{{}}{sign}1@127.0.0.1:1/shop" for sign in "/?#@:[% "),
    *(f"postgresql://ada:1{sign}{{}}@127.0.0.1:1/shop" for sign in "/?#@:[% "),
]


@pytest.mark.parametrize("dsn", DSNS)
async def test_no_message_holds_a_password(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = dsn.format(CANARY)
    store = PgStore(url, timeout_s=1)

    async def enter() -> None:
        async with Engine(url):
            pass

    for opening in (store.open(), enter()):
        with pytest.raises(DurableError) as caught:
            await opening
        assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert CANARY not in caplog.text + repr(store) + repr(store._address)


NO_PORTS = ["99999999", "65536", "0", "-1", "abc", "1_0", "１２", "9" * 5_000]


@pytest.mark.parametrize("port", NO_PORTS)
@pytest.mark.parametrize(
    "dsn", ["postgresql://127.0.0.1:{}/db", "postgresql://h:{}/db", "postgresql://a:1,b:{}/db"]
)
async def test_what_is_no_port_is_said_before_it_is_tried(dsn: str, port: str) -> None:
    with pytest.raises(StoreUnavailableError, match="number up to 65535") as caught:
        await PgStore(dsn.format(port)).open()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://127.0.0.1:/db?connect_timeout=1",
        "postgresql://:1/db",
        "postgresql://127.0.0.1:1",
        "postgresql://%00/db",
        "postgresql://[::1/db",
        "postgresql:///db?host=127.0.0.1&port=99999999",
        "postgresql:///db?host=127.0.0.1&port=abc",
        "postgresql:///db?host=a..b",
        "postgresql:///db?host=127.0.0.1,::1&port=1,2,3",
    ],
)
async def test_whatever_else_is_wrong_with_a_dsn_is_our_error(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    with pytest.raises(StoreUnavailableError, match=r"cannot be (reached|used)"):
        await PgStore(dsn, timeout_s=5).open()
