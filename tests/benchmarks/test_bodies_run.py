"""The benchmark of bodies prints a row a shape and length, with the ratio to read."""

from __future__ import annotations

import json

import pytest

from benchmarks import bench_bodies


def test_body_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rows = bench_bodies.main(lengths=(2, 5), total=10, repeats=2)
    assert [(row["shape"], row["steps"]) for row in rows] == [
        ("straight", 2),
        ("straight", 5),
        ("all at once", 2),
        ("all at once", 5),
    ]
    assert all(row["of_declared"] > 0 and row["replay_ms"] > 0 for row in rows)
    assert len([json.loads(line) for line in capsys.readouterr().out.splitlines()]) == 4
