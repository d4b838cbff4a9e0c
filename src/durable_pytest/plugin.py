"""The pytest plugin ``durable``: fixtures for the tests of an application, and clearer reports.

::

    async def test_an_order_is_shipped(durable_engine):
        async with durable_engine([order]) as engine, engine.worker():
            ...

It is loaded in every run of pytest where this package is installed, so it imports what a fixture
needs when the fixture is asked for; ``-p no:durable`` turns it off. A test that fails over a
``Simulation``, or with the kit's own counterexample, is reported with its plan and timeline.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

SIMULATION = "durable_core.testing.simulation"
SHOWN_MAX = 2
"""How many simulations of a failed test are shown."""

# --- fixtures ------------------------------------------------------------------------------------


@pytest.fixture
def durable_engine(tmp_path: Path) -> Callable[..., Any]:
    """Makes engines on a SQLite file of the test's own: ``durable_engine(workflows, **options)``.

    Options are those of ``Engine``. The engine is not entered yet; several share the file.
    """
    from durable_core import Engine
    from durable_sqlite import SqliteStore

    def make(workflows: Sequence[Any], **options: Any) -> Engine:
        return Engine(SqliteStore(tmp_path / "durable.db"), workflows, **options)

    return make


@pytest.fixture
def virtual_clock() -> Any:
    """A clock for stores that moves only when it is told to: ``SqliteStore(path, clock=...)``,
    ``MemoryStore(clock=...)``. ``now_ms`` is the time, ``forward(ms)`` lets it pass."""
    from durable_core.testing.virtual_clock import VirtualClock

    return VirtualClock()


@pytest.fixture(scope="session")
def durable_pg_dsn() -> str:
    """Where a Postgres for tests is: one server a test process; skips if there is none.

    See ``durable_core.testing.postgres.postgres_for_tests`` for where it comes from.
    """
    from durable_core.testing.postgres import NO_POSTGRES, postgres_for_tests

    dsn = postgres_for_tests()
    if dsn is None:
        pytest.skip(NO_POSTGRES)
    return dsn


@pytest.fixture
def durable_pg(durable_pg_dsn: str) -> Iterator[Any]:
    """A Postgres store of the test's own: migrated, not opened, dropped after the test."""
    from durable_core.testing.postgres_schema import drop_schema, unused_schema
    from durable_pg import PgStore

    async def migrate() -> None:
        store = PgStore(durable_pg_dsn, schema=schema)
        await store.open(migrate=True)
        await store.close()

    schema = unused_schema()
    try:
        _run_apart(migrate())
        yield PgStore(durable_pg_dsn, schema=schema)
    finally:
        _run_apart(drop_schema(durable_pg_dsn, schema))


def _run_apart(work: Coroutine[Any, Any, None]) -> None:
    """Run it in another thread, for in this one an event loop may be running."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(asyncio.run, work).result()


# --- reports -------------------------------------------------------------------------------------


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Two simulations that are compared: what each came to."""
    kind = _simulation()
    if kind is None or not isinstance(left, kind) or not isinstance(right, kind):
        return None
    return [f"{_brief(left)} {op} {_brief(right)}", "traces: " + f"{left.trace} {op} {right.trace}"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the simulations a failed test was about."""
    report = yield
    if report.failed and call.excinfo is not None and _simulation() is not None:
        for simulation in _simulations(call.excinfo):
            report.sections.append((f"durable: {_brief(simulation)}", simulation.timeline()))
    return report


def _simulation() -> type[Any] | None:
    """The class, if anybody has simulated anything."""
    module = sys.modules.get(SIMULATION)
    return None if module is None else module.Simulation


def _simulations(excinfo: pytest.ExceptionInfo[BaseException]) -> list[Any]:
    """What was simulated in the function that is nearest to the failure: its local variables."""
    kind = _simulation()
    assert kind is not None
    for entry in reversed(excinfo.traceback):
        found = [value for value in entry.locals.values() if isinstance(value, kind)]
        if found:
            return list({id(one): one for one in found}.values())[-SHOWN_MAX:]
    return []


def _brief(simulation: Any) -> str:
    return f"{simulation.status} under {simulation.plan!r}"
