"""The stage that every test here plays on: one database in memory, and one on SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.flaws.stage import Stage


@pytest.fixture(params=["memory", "sqlite"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    return Stage(request.param, tmp_path)
