"""How fast is the whole engine on SQLite, ``synchronous=FULL``, beside the floor on the same disk?

``whole_engine`` says what is measured, and how to read it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from benchmarks.floor import Floor
from benchmarks.floor_sqlite import sqlite_floor
from benchmarks.report import Row, emit, machine, table
from benchmarks.whole_engine import CASES, REPEATS, Case, compare


class SqliteGround:
    """New files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = 0

    def _new_file(self) -> Path:
        self._files += 1
        return self._folder / str(self._files)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[str]:
        yield f"sqlite:///{self._new_file()}"

    def floor(self) -> AbstractAsyncContextManager[Floor]:
        return sqlite_floor(self._new_file())

    async def counts(self) -> Mapping[str, float]:
        return {}


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
