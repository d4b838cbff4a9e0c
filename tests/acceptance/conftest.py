"""Acceptance cases run on every store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.acceptance.stage import Calls, Stage
from tests.postgres_databases import migrated_database
from tests.postgres_kit import MAJORS

from durable_core.testing.postgres import NO_POSTGRES


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """A database to run on: in memory, a real file, a real server."""
    if request.param != "postgres":
        yield Stage(request.param, tmp_path)
    elif MAJORS:
        with migrated_database() as dsn:
            yield Stage(request.param, tmp_path, dsn)
    else:
        pytest.skip(NO_POSTGRES)


@pytest.fixture
def engine_url(stage: Stage) -> str:
    """The URL of a store of the stage's kind."""
    return stage.url


@pytest.fixture
def calls() -> Calls:
    """Handlers that note their calls."""
    return Calls()
