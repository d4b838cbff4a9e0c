"""A process that simulates one schedule after another does not grow."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kit.growth import growth


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells what a process has")
def test_a_process_that_simulates_does_not_grow() -> None:
    (_, warm), (_, after) = list(growth(1_000))[-1], list(growth(2_000))[-1]
    assert after - warm < 2_048, f"{after - warm} KiB more after 2,000 schedules more"
