"""Charts: SVG pictures of what stands in ``results.jsonl``, made by matplotlib.

A chart is made only when the rows it shows are there. The same rows give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.report import Row
from benchmarks.results import CHARTS, rows_of

BLUE, ORANGE, GREY, GREEN = "#0072b2", "#e69f00", "#888888", "#009e73"
ENGINES = {"ours": ("durable-core", BLUE), "dbos": ("DBOS", ORANGE), "absurd": ("Absurd", GREY)}
STORES = {"sqlite": ("SQLite", GREEN), "postgres": ("Postgres", BLUE)}
STYLE = {
    "svg.hashsalt": "durable-core",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
}
Series = dict[str, tuple[str, Sequence[float | None]]]
"""A colour and values by label."""


def write_charts(lines: Sequence[Row], folder: Path = CHARTS) -> list[str]:
    """The names of the files that were written; none where matplotlib is missing."""
    if find_spec("matplotlib") is None:
        return []
    import matplotlib as mpl

    folder.mkdir(exist_ok=True)
    mpl.use("svg")
    made = []
    with mpl.rc_context(STYLE):
        for name, draw in DRAW.items():
            figure = draw(lines)
            if figure is not None:
                figure.savefig(folder / name, metadata={"Date": None}, bbox_inches="tight")
                made.append(name)
    return made


def _figure(title: str, label: str, width: float = 8.8) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.4))
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_ylabel(label)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _bars(title: str, label: str, cases: Sequence[str], series: Series, *, log: bool) -> Any:
    figure, axes = _figure(title, label)
    width = 0.8 / len(series)
    for place, (name, (colour, values)) in enumerate(series.items()):
        at = [index + (place - (len(series) - 1) / 2) * width for index in range(len(cases))]
        drawn = axes.bar(at, [value or 0 for value in values], width, color=colour, label=name)
        texts = ["" if value is None else _short(value) for value in values]
        axes.bar_label(drawn, texts, fontsize=6, padding=1)
    if log:
        axes.set_yscale("log")
        known = [value for _, values in series.values() for value in values if value]
        if known:  # room below the least bar, so that it can be seen
            axes.set_ylim(min(known) / 3, max(known) * 2)
    axes.set_xticks(range(len(cases)), [_folded(case) for case in cases], fontsize=7)
    _legend(axes, len(series), below=0.2)
    return figure


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _folded(case: str) -> str:
    return case.replace(", ", "\n")


def _lines(title: str, label: str, below: str, series: dict[str, tuple[str, Any, Any]]) -> Any:
    figure, axes = _figure(title, label, width=5.6)
    for name, (colour, xs, ys) in series.items():
        axes.plot(xs, ys, marker="o", color=colour, label=name)
    axes.set_xscale("symlog", linthresh=10)
    axes.set_ylim(0, 1.2 * max(max(ys) for _, _, ys in series.values()))
    axes.set_xlabel(below)
    _legend(axes, len(series), below=0.15)
    return figure


def _legend(axes: Any, columns: int, below: float) -> None:
    """Under the chart, where it hides nothing."""
    place = (0.5, -below)
    axes.legend(loc="upper center", bbox_to_anchor=place, ncols=columns, frameon=False, fontsize=8)


def _side_by_side(rows: Sequence[Row], figure: str, title: str, axis: str) -> Any:
    """A bar for each engine in each case."""
    if not rows:
        return None
    series: Series = {
        label: (colour, [row[f"{engine}_{figure}"] for row in rows])
        for engine, (label, colour) in ENGINES.items()
    }
    return _bars(title, axis, [row["case"] for row in rows], series, log=True)


def _peers(lines: Sequence[Row]) -> Any:
    title = "Workflows a second on one Postgres, same machine, same run"
    return _side_by_side(rows_of(lines, "peers"), "runs_per_s", title, "log scale")


def _peers_waits(lines: Sequence[Row]) -> Any:
    of = ("peers_sleep", "peers_signal", "peers_waking")
    rows = [row for benchmark in of for row in rows_of(lines, benchmark)]
    title = "From a due sleep, a signal, or enqueueing elsewhere, to the handler, p50"
    return _side_by_side(rows, "p50_ms", title, "ms, log scale")


def _floor(lines: Sequence[Row]) -> Any:
    series: Series = {}
    cases: list[str] = []
    for benchmark, store in (("sqlite", "sqlite"), ("pg", "postgres")):
        rows = rows_of(lines, benchmark)
        if rows:
            label, colour = STORES[store]
            cases = [row["case"] for row in rows]
            series[label] = (colour, [100 * row["of_floor"] for row in rows])
    title = "Share of the bare floor's rate"
    return _bars(title, "%", cases, series, log=False) if series else None


def _by_store(lines: Sequence[Row], benchmark: str, x: str, y: str) -> dict[str, Any]:
    series = {}
    for store, (label, colour) in STORES.items():
        rows = [row for row in rows_of(lines, benchmark) if row["store"] == store]
        if rows:
            series[label] = (colour, [row[x] for row in rows], [row[y] for row in rows])
    return series


def _journal(lines: Sequence[Row]) -> Any:
    series = _by_store(lines, "journal", "entries", "cpu_us_per_step")
    rows = [row for row in rows_of(lines, "kernel") if row["shape"] == "straight"]
    if rows:
        xs, ys = [row["steps"] for row in rows], [row["us_per_step"] for row in rows]
        series["kernel alone"] = (ORANGE, xs, ys)
    title = "Processor time a step by the length of the journal"
    return _lines(title, "µs", "entries", series) if series else None


def _finished(lines: Sequence[Row]) -> Any:
    queued = [row for row in rows_of(lines, "finished") if "queued" in row["case"]]
    series = _by_store(queued, "finished", "finished", "times_empty")
    title = "Time a step beside finished runs"
    return _lines(title, "times that beside none", "finished runs", series) if series else None


def _lateness(lines: Sequence[Row]) -> Any:
    rows = rows_of(lines, "lateness")
    cases = list(dict.fromkeys(row["case"] for row in rows))
    series: Series = {}
    for store, (label, colour) in STORES.items():
        found = {row["case"]: row["p50_ms"] for row in rows if row["store"] == store}
        if found:
            series[label] = (colour, [found.get(case) for case in cases])
    title = "From a due sleep, or a signal, to the next handler, p50"
    return _bars(title, "ms, log scale", cases, series, log=True) if series else None


def _durability(lines: Sequence[Row]) -> Any:
    rows = rows_of(lines, "durability")
    if not rows:
        return None
    series: Series = {
        level: (colour, [row[f"{level}_runs_per_s"] for row in rows])
        for level, colour in (("strict", BLUE), ("relaxed", ORANGE))
    }
    cases = [f"{STORES[row['store']][0]}, {row['case']}" for row in rows]
    return _bars("Workflows a second by durability", "log scale", cases, series, log=True)


DRAW: dict[str, Callable[[Sequence[Row]], Any]] = {
    "peers.svg": _peers,
    "peers_waits.svg": _peers_waits,
    "floor.svg": _floor,
    "journal.svg": _journal,
    "finished.svg": _finished,
    "lateness.svg": _lateness,
    "durability.svg": _durability,
}
