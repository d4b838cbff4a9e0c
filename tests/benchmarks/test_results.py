"""The page and the charts are written from what was printed, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.__main__ import FILES, machine
from benchmarks.report import Row
from benchmarks.whole_engine import Case

from benchmarks import charts, quick, results


def line(file: str, benchmark: str, **figures: object) -> Row:
    return {"file": file, "taken": "yesterday", "benchmark": benchmark, **figures}


def of_store(file: str, benchmark: str, **figures: object) -> list[Row]:
    return [line(file, benchmark, store=store, **figures) for store in ("sqlite", "postgres")]


PEERS = {
    **{"ours_runs_per_s": 4000.5, "dbos_runs_per_s": 50.25, "absurd_runs_per_s": None},
    **{"times_dbos": 79.6, "times_absurd": None},
}
LINES = [
    machine(),
    line("bench_peers", "peers", case="1 steps, c=1", **PEERS),
    line(
        "bench_peers_sleep",
        "peers_sleep",
        **{"case": "sleep, 1 at once", "ours_p50_ms": 4.5, "dbos_p50_ms": 5, "absurd_p50_ms": None},
    ),
    line("bench_sqlite", "sqlite", case="1 steps, c=1", of_floor=0.3),
    line("bench_pg", "pg", case="1 steps, c=1", of_floor=0.4),
    line("bench_pg", "pg_waking", case="LISTEN", times_floor=2.0),
    *of_store(
        "bench_durability", "durability", case="c", strict_runs_per_s=1.5, relaxed_runs_per_s=2
    ),
    *of_store("bench_lateness", "lateness", case="sleep, 1 at once", p50_ms=1.5),
    *of_store("bench_finished", "finished", case="9 queued", finished=0, times_empty=1.0),
    *of_store("bench_journal", "journal", entries=10, cpu_us_per_step=50.0),
    line("bench_kernel", "kernel", shape="straight", steps=10, us_per_step=25.0),
]


def test_every_benchmark_has_its_place_in_the_order() -> None:
    found = {path.stem for path in results.FOLDER.glob("bench_*.py")}
    assert found == set(FILES) and len(FILES) == len(found)


def test_what_was_not_run_again_is_kept() -> None:
    new = [line("machine", "machine"), line("bench_pg", "pg", case="new")]
    lines = results.replaced(LINES, new, FILES)
    assert [each["case"] for each in results.rows_of(lines, "pg")] == ["new"]
    assert results.rows_of(lines, "pg_waking") == [], "a file is run whole"
    assert results.rows_of(lines, "peers") == results.rows_of(LINES, "peers")
    assert [each["file"] for each in lines][:2] == ["machine", "bench_peers"]
    assert len(results.rows_of(lines, "machine")) == 1
    assert results.replaced([line("bench_gone", "gone")], new, FILES) == new


def test_lines_are_kept_as_they_were_printed(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    assert results.load(path) == []
    results.keep(LINES, path)
    assert results.load(path) == LINES


def test_the_page_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# By hand\n{results.BEGIN}\nold\n{results.END}\nalso by hand\n")
    for _ in range(2):  # the second time it changes nothing
        results.write_page(LINES, ["peers.svg"], page)
        text = page.read_text()
        assert text.startswith(f"# By hand\n{results.BEGIN}\n")
        assert text.endswith(f"{results.END}\nalso by hand\n")
        assert "old" not in text
        assert "| 1 steps, c=1 | 4,000 | 50.2 | – | 79.6 | – |" in text
        assert text.count("## Pg\n") == 1 and "(Taken yesterday.)" in text
        assert "![peers](charts/peers.svg)" in text and "- Python: CPython" in text
    page.write_text("no markers")
    with pytest.raises(SystemExit, match="put both back"):
        results.write_page(LINES, [], page)


def test_the_page_in_the_repository_has_its_markers() -> None:
    text = results.PAGE.read_text(encoding="utf-8")
    assert text.count(results.BEGIN) == 1 and text.count(results.END) == 1


@pytest.mark.filterwarnings("default")
def test_charts_are_the_same_for_the_same_rows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib comes with the extra [bench]")
    made = charts.write_charts(LINES, tmp_path)
    assert made == list(charts.DRAW)
    first = {name: (tmp_path / name).read_bytes() for name in made}
    assert all(b"<svg" in each for each in first.values())
    charts.write_charts(LINES, tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in made} == first
    assert charts.write_charts(LINES[:1], tmp_path) == []


def test_quick_gives_ratios_to_the_floor() -> None:
    rows = quick.main(Case(2, 3, 6), kernel_steps=5, rounds=2)
    assert [row["what"] for row in rows] == ["floor", "kernel", "engine, memory", "engine, SQLite"]
    assert rows[0]["times_floor"] == 1
    assert all(row["least"] <= row["times_floor"] <= row["most"] for row in rows)
