"""The benchmark of the simulator runs and prints what it says, with sizes that take no time."""

from __future__ import annotations

import json

import pytest

from benchmarks import bench_simulator
from durable_core import Workflow


def test_simulator_rows(capsys: pytest.CaptureFixture[str]) -> None:
    small = Workflow("small").step("a", bench_simulator.handler)
    case = bench_simulator.Case("small", small, {})
    (row,) = bench_simulator.main([case], schedules=5, repeats=1)
    assert row["simulate_per_s"] > 0 and row["checked_per_s"] > 0 and row["explore_per_s"] > 0
    assert row["schedules"] >= row["points"] > 20
    printed = capsys.readouterr()
    assert [json.loads(line)["case"] for line in printed.out.splitlines()] == ["small"]
    assert "grown_bytes" in printed.err
