"""Each question asked of us and the peers runs at sizes that take no time; nothing is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from benchmarks.bench_peers import Live
from benchmarks.peer import ENGINES, is_installed
from benchmarks.peer_turns import Figure, side_by_side
from benchmarks.report import Row
from tests.postgres_kit import MAJORS

from benchmarks import (
    bench_peers_finished,
    bench_peers_idle,
    bench_peers_jitter,
    bench_peers_memory,
    bench_peers_signal,
    bench_peers_sleep,
    bench_peers_waking,
)
from durable_core.testing.postgres import NO_POSTGRES

Ask = Callable[[Sequence[str]], list[Row]]

QUESTIONS: dict[str, tuple[Ask, str]] = {
    "sleep": (
        lambda engines: bench_peers_sleep.main([bench_peers_sleep.Case(3, 2, 0.05)], engines),
        "p50_ms",
    ),
    "signal": (
        lambda engines: bench_peers_signal.main([bench_peers_signal.Case(3, 2, 1)], engines),
        "p50_ms",
    ),
    "waking": (
        lambda engines: bench_peers_waking.main([bench_peers_waking.Case(3, 1, 1)], engines),
        "p99_ms",
    ),
    "jitter": (
        lambda engines: bench_peers_jitter.main([bench_peers_jitter.Case(2, 4)], engines),
        "runs_per_s",
    ),
    "finished": (
        lambda engines: bench_peers_finished.main([Live(2, 1, 0.1, repeats=1)], engines, 9),
        "times_empty",
    ),
    "idle": (
        lambda engines: bench_peers_idle.main([bench_peers_idle.Case(0.5, 1)], engines),
        "transactions_per_s",
    ),
    "memory": (
        lambda engines: bench_peers_memory.main(
            [bench_peers_memory.Case(kind, 40) for kind in bench_peers_memory.KINDS], engines
        ),
        "python_bytes",
    ),
}
"""And a figure that each of its rows has."""


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.skipif(not MAJORS, reason=NO_POSTGRES)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered(question: str, engine: str) -> None:
    if not is_installed(engine):
        pytest.skip(f"{engine} is not installed; it comes with the extra [bench]")
    ask, figure = QUESTIONS[question]
    rows = ask(("ours",) if engine == "ours" else ("ours", engine))
    assert rows
    for row in rows:
        known = {name for name in ENGINES if row[f"{name}_{figure}"] is not None}
        assert known == {"ours", engine}


def test_a_ratio_is_above_one_where_ours_is_the_better_figure() -> None:
    figures = (Figure("runs_per_s", "times", more_is_better=True), Figure("p50_ms", "p50_times"))
    turns = {
        "ours": [{"runs_per_s": 40, "p50_ms": 1}, {"runs_per_s": 60, "p50_ms": 3}],
        "dbos": [{"runs_per_s": 10, "p50_ms": 4}, {"runs_per_s": 30, "p50_ms": 6}],
    }
    row = side_by_side("case", figures, turns)
    unknown: dict[str, list[Row]] = {"ours": [{"p50_ms": 0.0}], "dbos": [{"p50_ms": None}]}
    assert side_by_side("case", figures[1:], unknown)["p50_times_dbos"] is None
    assert (row["ours_runs_per_s"], row["dbos_p50_ms"], row["absurd_p50_ms"]) == (50, 5, None)
    assert (row["times_dbos"], row["p50_times_dbos"]) == (3, 3)
    assert row["times_absurd"] is None
