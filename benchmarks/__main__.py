"""All benchmarks, one after the other, and then RESULTS.md and its charts: ``make bench``.

``python -m benchmarks [NAME ...]``: only these (``peers`` for ``bench_peers``); of the others the
last results are kept. ``--write-only`` measures nothing and writes the page anew. Each file runs in
a process of its own, so that none measures what another left behind. One that fails is named at
the end, and keeps its last results.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.charts import write_charts
from benchmarks.report import Row
from benchmarks.results import (
    BENCHMARK,
    FILE,
    FOLDER,
    MACHINE,
    TAKEN,
    keep,
    load,
    replaced,
    write_page,
)
from durable_core.testing.postgres_binaries import find_binaries

ORDER = (
    *("peers", "peers_sleep", "peers_signal", "peers_waking", "peers_idle", "peers_jitter"),
    *("peers_finished", "peers_memory"),
    *("sqlite", "pg", "processes", "claimers", "rings", "durability", "jitter"),
    *("lateness", "finished", "journal", "map", "recovery", "timers", "memory"),
    *("collector", "kernel", "bodies", "simulator"),
)
FILES = tuple(f"bench_{name}" for name in ORDER)
PACKAGES = ("durable-core", "asyncpg", "aiosqlite", "dbos", "absurd-sdk")


def machine() -> Row:
    """Where, when and with what."""
    row: Row = {FILE: MACHINE, BENCHMARK: MACHINE, "date": today()}
    row["system"] = f"{platform.system()} {platform.machine()}"
    row["processors"] = f"{os.cpu_count()} ({_model()})"
    row["load before"] = f"{os.getloadavg()[0]:.1f}"
    row["Python"] = f"{platform.python_implementation()} {platform.python_version()}"
    row["SQLite"] = sqlite3.sqlite_version
    binaries = find_binaries()
    row["Postgres"] = "none" if binaries is None else str(binaries.major)
    for package in PACKAGES:
        try:
            row[package] = version(package)
        except PackageNotFoundError:
            row[package] = "not installed"
    return row


def today() -> str:
    """The minute, in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or "unknown"


def run(file: str) -> list[Row] | None:
    """The lines it prints, which are passed on; None if it fails."""
    lines, taken = [], today()
    command = [sys.executable, "-m", f"benchmarks.{file}"]
    with subprocess.Popen(command, cwd=FOLDER.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append({FILE: file, TAKEN: taken, **json.loads(line)})
    return None if process.returncode else lines


def main(names: Sequence[str]) -> int:
    files = [f"bench_{name.removeprefix('bench_')}" for name in names] or list(FILES)
    unknown = sorted(set(files) - set(FILES) - {"bench_--write-only"})
    if unknown:
        print(f"there is no {', '.join(unknown)}; there are {', '.join(ORDER)}", file=sys.stderr)
        return 2
    lines, failed = load(), []
    if "--write-only" not in names:
        new = [machine()]
        for file in files:
            its = run(file)
            if its is None:
                failed.append(file)
            else:
                new += its
                keep(replaced(lines, new, FILES))
        lines = replaced(lines, new, FILES)
    charts = write_charts(lines)
    if find_spec("matplotlib") is None:
        print("*** NO CHARTS: pip install 'durable-core[bench]'", file=sys.stderr)
    write_page(lines, charts)
    if failed:
        print(f"*** FAILED: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
