"""The benchmarks run and print what they say, with sizes that take no time; nothing is timed."""

from __future__ import annotations

import json

import pytest
from benchmarks.bench_sqlite import Case

from benchmarks import bench_kernel, bench_sqlite


def test_kernel_rows(capsys: pytest.CaptureFixture[str]) -> None:
    rows = bench_kernel.main(lengths=(2, 5), steps=10, repeats=2)
    assert [(row["shape"], row["steps"]) for row in rows] == [
        ("straight", 2),
        ("straight", 5),
        ("all", 2),
        ("all", 5),
    ]
    printed = capsys.readouterr()
    assert [json.loads(line)["steps"] for line in printed.out.splitlines()] == [2, 5, 2, 5]
    assert "us_per_step" in printed.err


def test_sqlite_rows(capsys: pytest.CaptureFixture[str]) -> None:
    cases = (Case(2, 1, 3), Case(2, 3, 6), Case(2, 3, 6, queued=True))
    rows = bench_sqlite.main(cases, repeats=2)
    assert [row["case"] for row in rows] == [case.name for case in cases]
    assert all(row["of_floor"] > 0 and row["cpu_us_per_step"] > 0 for row in rows)
    assert [row["p50_ms"] is None for row in rows] == [False, False, True]
    printed = capsys.readouterr()
    assert [json.loads(line)["case"] for line in printed.out.splitlines()] == [
        case.name for case in cases
    ]
