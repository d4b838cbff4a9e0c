"""Each question asked of both stores runs at sizes that take no time; nothing is timed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
from benchmarks.bench_lateness import Case as Waiting
from benchmarks.bench_timers import Case as Timers
from benchmarks.report import Row
from benchmarks.whole_engine import Case
from tests.postgres_kit import MAJORS

from benchmarks import (
    bench_collector,
    bench_durability,
    bench_finished,
    bench_jitter,
    bench_journal,
    bench_lateness,
    bench_map,
    bench_memory,
    bench_recovery,
    bench_timers,
)
from durable_core.testing.postgres import NO_POSTGRES

Ask = Callable[[Sequence[str]], list[Row]]

QUESTIONS: dict[str, tuple[Ask, int]] = {
    "jitter": (lambda stores: bench_jitter.main([Case(2, 3, 6)], stores), 1),
    "lateness": (lambda stores: bench_lateness.main([Waiting(3, 1, 0.05)], stores), 2),
    "finished": (lambda stores: bench_finished.main((0, 9), [Case(2, 3, 6)], stores, 1), 2),
    "journal": (lambda stores: bench_journal.main((2, 5), 20, stores), 2),
    "map": (lambda stores: bench_map.main((2, 5), stores), 2),
    "recovery": (lambda stores: bench_recovery.main((5,), stores, lease_ms=400), 1),
    "memory": (lambda stores: bench_memory.main(20, stores), 2),
    "timers": (lambda stores: bench_timers.main([Timers(700, 50, 3)], stores), 1),
    "collector": (lambda stores: bench_collector.main([Case(2, 3, 6)], stores, 1), 1),
    "durability": (lambda stores: bench_durability.main([Case(2, 1, 3)], stores, 1), 1),
}
"""And how many rows it has for each store."""


@pytest.mark.parametrize(
    "store",
    [
        "sqlite",
        pytest.param(
            "postgres",
            marks=[
                pytest.mark.slow,
                pytest.mark.postgres,
                pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES),
            ],
        ),
    ],
)
@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_a_question_is_answered(
    question: str, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ask, count = QUESTIONS[question]
    rows = ask([store])
    assert [row["store"] for row in rows] == [store] * count
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert [line.pop("benchmark") for line in lines] == [question] * count
    assert [list(line) for line in lines] == [list(row) for row in rows]
    figures = [item for row in rows for item in row.items() if isinstance(item[1], float)]
    # The server's processor is counted in ticks of 10 ms, and this may take none.
    ticks = [value for name, value in figures if name.startswith("server_cpu")]
    assert all(value >= 0 for value in ticks)
    others = [value for name, value in figures if not name.startswith("server_cpu")]
    assert all(value > 0 for value in others) or question == "memory"
