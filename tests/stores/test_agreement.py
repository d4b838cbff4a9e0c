"""MemoryStore, SqliteStore and PgStore answer every sequence of verbs equally."""

from __future__ import annotations

from hypothesis import Phase, settings
from tests.postgres_kit import MAJORS, dsn

from durable_core.testing.agreement import StoreAgreement
from durable_core.testing.contract import VirtualClock
from durable_core.testing.postgres_schema import unused_schema
from durable_pg import PgStore
from durable_sqlite import SqliteStore

SCHEMA = unused_schema()
"""Of this test process; the server ends with it."""

EMPTY = """
TRUNCATE "durable".run, "durable".lease, "durable".outcome, "durable".entry, "durable".inbox,
    "durable".posted, "durable".dedupe, "durable".token, "durable".attribute
"""


class EmptyPgStore(PgStore):
    """Empty whenever it is opened."""

    async def open(self, *, migrate: bool | None = None) -> None:
        await super().open(migrate=True)
        assert self._link is not None
        await self._link.connections.fetch(EMPTY.replace("durable", SCHEMA))


def sqlite_in_memory(clock: VirtualClock) -> SqliteStore:
    return SqliteStore(":memory:", clock=clock, synchronous="OFF")


def postgres(clock: VirtualClock) -> PgStore:
    return EmptyPgStore(dsn(MAJORS[0]), schema=SCHEMA, clock=clock)


def plain_postgres(clock: VirtualClock) -> PgStore:
    return EmptyPgStore(dsn(MAJORS[-1]), schema=SCHEMA, clock=clock, plain=True, listen=False)


class SqliteAgreement(StoreAgreement):
    make_stores = (sqlite_in_memory,)


class ThreeStoresAgreement(StoreAgreement):
    make_stores = (sqlite_in_memory, postgres) if MAJORS else (sqlite_in_memory,)


TestSqliteAgreement = SqliteAgreement.TestCase
TestSqliteAgreement.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)

TestThreeStoresAgreement = ThreeStoresAgreement.TestCase
TestThreeStoresAgreement.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    phases=set(Phase) - {Phase.explain},  # it traces every line, a driver's too
)
if MAJORS:

    class PlainPostgresAgreement(StoreAgreement):
        make_stores = (plain_postgres,)

    TestPlainPostgresAgreement = PlainPostgresAgreement.TestCase
    TestPlainPostgresAgreement.settings = settings(
        TestThreeStoresAgreement.settings, max_examples=20
    )
