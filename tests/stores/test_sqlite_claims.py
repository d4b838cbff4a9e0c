"""Claims on SQLite look at what they take, however much else is due."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.stores.sqlite_kit import opened, plain

from durable_core.testing.contract_kit import new_run
from durable_sqlite import queries

FEW, MANY = 10, 3_000
LATER_MS = 1 << 60


def steps_of(connection: sqlite3.Connection, sql: str, facts: tuple[Any, ...]) -> int:
    """How many instructions of SQLite's machine it takes."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.set_progress_handler(count, 1)
    connection.execute(sql, facts).fetchall()
    connection.set_progress_handler(None, 1)
    return steps


@pytest.mark.parametrize(
    ("sql", "behind"),
    [
        (queries.NEXT_GROUP, ()),
        (queries.READY, (LATER_MS, 3, 5)),
        (queries.NEXT_DUE, (3,)),
    ],
    ids=["groups", "ready", "next due"],
)
async def test_a_claim_does_not_walk_over_what_is_due(
    tmp_path: Path, sql: str, behind: tuple[Any, ...]
) -> None:
    taken = []
    for many in (FEW, MANY):
        path = tmp_path / f"{many}.db"
        runs = [new_run(f"r{number}") for number in range(many)]
        async with opened(path) as store:
            await store.create(runs)
        one = runs[0]
        group = (one.queue, one.workflow, one.version, "", one.priority)
        with plain(path) as connection:
            taken.append(steps_of(connection, sql, (*group, *behind)))
    assert taken[1] == taken[0]
