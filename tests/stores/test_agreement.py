"""MemoryStore and SqliteStore answer every sequence of verbs equally."""

from __future__ import annotations

from hypothesis import settings

from durable_core.testing.agreement import StoreAgreement
from durable_core.testing.contract import HandClock
from durable_sqlite import SqliteStore


def sqlite_in_memory(clock: HandClock) -> SqliteStore:
    return SqliteStore(":memory:", clock=clock, synchronous="OFF")


class SqliteAgreement(StoreAgreement):
    make_store = sqlite_in_memory


TestSqliteAgreement = SqliteAgreement.TestCase
TestSqliteAgreement.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
