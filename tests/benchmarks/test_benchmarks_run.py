"""The benchmarks run and print what they say, with sizes that take no time; nothing is timed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

import pytest
from benchmarks.waking_pg import Sending
from benchmarks.whole_engine import Case
from tests.postgres_kit import MAJORS

from benchmarks import bench_kernel, bench_pg, bench_sqlite, layout_pg
from durable_core.testing.postgres import NO_POSTGRES

Test = TypeVar("Test", bound=Callable[..., None])


def on_postgres(test: Test) -> Test:
    """It starts a server of its own."""
    for mark in (
        pytest.mark.slow,
        pytest.mark.postgres,
        pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES),
    ):
        test = mark(test)
    return test


CASES = (Case(2, 1, 3), Case(2, 3, 6), Case(2, 3, 6, queued=True))


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
    rows = bench_sqlite.main(CASES, repeats=2)
    assert [row["case"] for row in rows] == [case.name for case in CASES]
    assert all(row["of_floor"] > 0 and row["cpu_us_per_step"] > 0 for row in rows)
    assert [row["p50_ms"] is None for row in rows] == [False, False, True]
    printed = capsys.readouterr()
    assert [json.loads(line)["case"] for line in printed.out.splitlines()] == [
        case.name for case in CASES
    ]


@on_postgres
def test_postgres_rows(capsys: pytest.CaptureFixture[str]) -> None:
    sendings = (Sending(True, 2, 2), Sending(False, 1, 2))
    rows = bench_pg.main(CASES, sendings, repeats=1)
    assert [row["case"] for row in rows] == [case.name for case in (*CASES, *sendings)]
    whole, waking = rows[:3], rows[3:]
    assert all(row["of_floor"] > 0 and row["wal_bytes_per_step"] > 0 for row in whole)
    assert all(row["commits_per_step"] > 0 for row in whole)
    for case, row in zip(CASES, whole, strict=True):
        more = row["commits_per_step"] - row["round_trips_per_step"]
        # Counted when it ends and when it begins: one may be under way when both are looked at.
        assert round(more * case.steps * case.runs) <= 1
    assert all(row["times_floor"] > 0 for row in waking)
    printed = capsys.readouterr()
    assert [json.loads(line)["benchmark"] for line in printed.out.splitlines()] == [
        *["pg"] * 3,
        *["pg_waking"] * 2,
    ]


@on_postgres
def test_postgres_layout_rows(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = layout_pg.Sizes(
        batches=(1, 3),
        renewals=(2,),
        rounds=2,
        finished=20,
        prune=2,
        due=6,
        claimers=(2,),
        live=3,
        waiting=3,
        churn_s=0,
    )
    rows = layout_pg.main(sizes)
    calls, payloads, states, fills = rows[:-23], rows[-23:-11], rows[-11:-3], rows[-3:]
    assert {row["verb"] for row in calls} == {
        "commit",
        "claim",
        "claim, nothing due",
        "renew",
        "prune",
        "drain",
        "claim, in a churn",
    }
    assert all(row["ms"] > 0 for row in [*calls, *payloads, *states])
    assert {row["payload"] for row in payloads} == {"bytea", "text", "jsonb"}
    assert [row["fillfactor"] for row in fills] == [50, 70, 100]
    assert all(0 <= row["hot_share"] <= 1 for row in fills)
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
