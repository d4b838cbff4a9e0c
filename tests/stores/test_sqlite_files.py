"""The file beneath a SqliteStore: its permissions, and every way in which it can be unusable."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from pathlib import Path

import pytest
from tests.stores.sqlite_kit import locked, nobody_holds_the_lock, opened, plain

from durable_core.errors import (
    DurableError,
    EncodingError,
    LimitExceededError,
    SchemaVersionError,
    StoreUnavailableError,
)
from durable_core.kernel.value import Payload
from durable_core.testing.contract_kit import claim, commit_one, finish, ids, new_run, step
from durable_sqlite import SqliteStore
from durable_sqlite.connection import in_thread
from durable_sqlite.translate import UNAVAILABLE, translated


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_the_file_and_its_companions_are_the_owners_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        await store.create([new_run()])
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in files_in(tmp_path)}
    assert modes == dict.fromkeys(["a.db", "a.db-shm", "a.db-wal"], 0o600)


async def test_the_mode_of_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.touch(mode=0o640)
    path.chmod(0o640)
    async with opened(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_a_relative_path_means_one_file_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("a.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await store.open()
    await store.close()
    assert (tmp_path / "a.db").exists()


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"nowhere.*directory exists"):
        await SqliteStore(tmp_path / "nowhere" / "a.db").open()


async def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="is a file"):
        await SqliteStore(tmp_path).open()


async def test_a_foreign_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    text = "dear diary, " * 1_000
    path.write_text(text)
    with pytest.raises(StoreUnavailableError, match="not a SQLite database"):
        await SqliteStore(path).open()
    assert path.read_text() == text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_read_only_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path):
        pass
    path.chmod(0o400)
    with pytest.raises(StoreUnavailableError, match="permissions"):
        await SqliteStore(path).open()


async def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as store:
        await store.create([new_run(f"r{i}", input=Payload(b"x" * 500)) for i in range(100)])
    data = bytearray(path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 64] = b"\xff" * 64
    path.write_bytes(bytes(data))
    store = SqliteStore(path)
    with pytest.raises(StoreUnavailableError, match=r"damaged.*integrity_check"):
        await store.open()


async def test_a_full_disk_undoes_the_batch_and_is_survived(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as store:
        await store.create([new_run("small")])
        await claim(store)
        link = store._checked()
        ((pages,),) = await link.writer.execute_fetchall("PRAGMA page_count")
        await link.writer.execute_fetchall(f"PRAGMA max_page_count = {pages}")
        big = Payload(b"x" * 200_000)
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match="no space") as caught:
                await store.create([new_run("a"), new_run("big", input=big)])
            assert not caught.value.outcome_unknown
            assert set(await store.get(["a", "big", "small"])) == {"small"}
            assert nobody_holds_the_lock(path)
        assert await commit_one(store, step("small")) is not None
        await link.writer.execute_fetchall("PRAGMA max_page_count = 1000000")
        assert [result.created for result in await store.create([new_run("big", input=big)])]


async def test_a_lock_held_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path, patience_ms=30) as store:
        await store.create([new_run()])
        with locked(path):
            with pytest.raises(StoreUnavailableError, match="locked") as caught:
                await store.create([new_run("r2")])
            assert not caught.value.outcome_unknown
            assert set(await store.get(["r1", "r2"])) == {"r1"}, "readers do not wait"
        assert (await store.create([new_run("r2")]))[0].created


async def test_a_lock_held_shortly_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with opened(path) as store:
        with locked(path) as other:
            creating = asyncio.ensure_future(store.create([new_run()]))
            assert await store.get(["r1"]) == {}
            other.execute("COMMIT")
            assert (await creating)[0].created


async def test_opening_a_locked_database_waits(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with plain(path) as other:  # not yet in WAL mode: readers are shut out as well
        other.execute("CREATE TABLE mine (x)")
        other.execute("BEGIN EXCLUSIVE")
        impatient = SqliteStore(path, patience_ms=20)
        with pytest.raises(StoreUnavailableError, match="locked"):
            await impatient.open()
        opening = asyncio.ensure_future(impatient.twin().open())
        await asyncio.wait({opening})
        assert isinstance(opening.exception(), StoreUnavailableError)
        other.execute("COMMIT")
        await impatient.open()
        await impatient.close()


async def test_two_stores_on_one_file_agree(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as one, opened(tmp_path / "a.db") as two:
        await one.create([new_run(f"r{i}") for i in range(20)])
        claimed = await asyncio.gather(
            *(claim(store, worker=f"w{i}", limit=3) for i, store in enumerate([one, two] * 4))
        )
        taken = [run_id for batch in claimed for run_id in ids(batch)]
        assert sorted(taken) == sorted(f"r{i}" for i in range(20))
        await asyncio.gather(
            *(commit_one(store, finish(r)) for store, r in zip([one, two] * 10, taken, strict=True))
        )
        runs = await two.get(taken)
        assert {run.status for run in runs.values()} == {"completed"}


async def test_values_the_driver_cannot_take_are_the_callers_fault(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        with pytest.raises(EncodingError, match="Unicode"):
            await store.create([new_run("ok"), new_run("bad", workflow="\ud800")])
        with pytest.raises(EncodingError, match="64 bits"):
            await store.create([new_run("ok"), new_run("bad", priority=2**63)])
        link = store._checked()
        await in_thread(link.writer, lambda c: c.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000))
        with pytest.raises(LimitExceededError, match="too large"):
            await store.create([new_run("ok"), new_run("bad", input=Payload(b"x" * 20_000))])
        assert await store.get(["ok"]) == {}
        assert (await store.create([new_run("ok")]))[0].created


async def test_what_should_never_happen_is_no_driver_error_either(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as store:
        await store.create([new_run()])
        await claim(store)
        with pytest.raises(DurableError, match="UNIQUE"):
            await commit_one(store, step(entries=step().entries * 2))
        assert await store.journal("r1") == ()


@pytest.mark.parametrize("code", sorted(UNAVAILABLE))
def test_every_reason_names_the_database(code: int) -> None:
    error = sqlite3.OperationalError("text of the driver")
    error.sqlite_errorcode = code
    ours = translated(error, "'/data/app.db'", committing=True)
    assert isinstance(ours, StoreUnavailableError)
    assert "/data/app.db" in str(ours) and "text of the driver" in str(ours)
    assert ours.outcome_unknown is (code == sqlite3.SQLITE_IOERR or code not in (5, 6, 13))


def test_a_synchronous_mode_that_does_not_exist_is_refused() -> None:
    with pytest.raises(DurableError, match="FULL"):
        SqliteStore("a.db", synchronous="SOMETIMES")


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a.db")
    for _ in range(2):
        with pytest.raises(DurableError, match="not open"):
            await store.get(["r1"])
        await store.open()
        await store.open()
        await store.close()
    with pytest.raises(SchemaVersionError):
        await SqliteStore(tmp_path / "b.db").open(migrate=False)
