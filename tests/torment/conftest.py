"""What these tests stand on: one database of each kind, and a Postgres server to be cruel to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres_kit import ALL_MAJORS, own_database

from durable_core.testing.postgres import NO_POSTGRES, PostgresServer
from durable_core.testing.postgres_binaries import find_binaries


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database; nobody kills its server."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'torment.db'}"
    elif ALL_MAJORS:
        with own_database(ALL_MAJORS[0]) as dsn:
            yield dsn
    else:
        pytest.skip(NO_POSTGRES)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server of one's own, of the newest version."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(NO_POSTGRES)
    with PostgresServer(binaries) as server:
        yield server
