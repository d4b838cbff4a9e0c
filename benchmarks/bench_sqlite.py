"""How fast is the whole engine on SQLite, ``synchronous=FULL``, beside the floor on the same disk?

``whole_engine`` says what is measured, and how to read it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ground_sqlite import SqliteGround
from benchmarks.report import Row, emit, machine, table
from benchmarks.whole_engine import CASES, REPEATS, Case, compare


def main(cases: Sequence[Case] = CASES, repeats: int = REPEATS) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        ground = SqliteGround(Path(folder))
        for case in cases:
            rows.append(asyncio.run(compare(ground, case, repeats)))
            emit("sqlite", rows[-1])
    on = machine(sqlite=sqlite3.sqlite_version)
    table(f"SQLite, synchronous=FULL, median of {repeats}, {on}", rows)
    return rows


if __name__ == "__main__":
    main()
