"""The stage that every test here plays on: one database of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flaws.stage import Stage
from tests.postgres_databases import migrated_database
from tests.postgres_kit import MAJORS

from durable_core.testing.postgres import NO_POSTGRES


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """One database of each kind."""
    if request.param != "postgres":
        yield Stage(request.param, tmp_path)
    elif MAJORS:
        with migrated_database() as dsn:
            yield Stage(request.param, tmp_path, dsn)
    else:
        pytest.skip(NO_POSTGRES)
