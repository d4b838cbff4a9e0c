"""Engine tests run on every store that needs no server."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engine.stage import Stage


@pytest.fixture(params=["memory", "sqlite"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Stage:
    """One database of each kind."""
    return Stage(request.param, tmp_path)
