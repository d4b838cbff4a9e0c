"""Acceptance cases run on every store that needs no server."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.acceptance.stage import Calls, Stage


@pytest.fixture(params=["memory", "sqlite"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    """A database to run on: in memory, or a real file."""
    return Stage(request.param, tmp_path)


@pytest.fixture
def engine_url(stage: Stage) -> str:
    """The URL of a store of the stage's kind."""
    return stage.url


@pytest.fixture
def calls() -> Calls:
    """Handlers that note their calls."""
    return Calls()
