"""Ground: files of SQLite to measure on, synchronised in full unless a store is made otherwise."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from benchmarks.finished_sqlite import add_finished
from benchmarks.floor import Floor
from benchmarks.floor_sqlite import sqlite_floor
from durable_sqlite import SqliteStore


@attrs.frozen(slots=True)
class SqlitePlace:
    """A ``Place``."""

    path: Path

    def store(self) -> SqliteStore:
        return SqliteStore(self.path)

    async def add_finished(self, count: int) -> None:
        await add_finished(self.path, count, steps=1)


class SqliteGround:
    """New files in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = 0

    def _new_file(self) -> Path:
        self._files += 1
        return self._folder / str(self._files)

    @asynccontextmanager
    async def store(self, **options: Any) -> AsyncIterator[SqliteStore]:
        yield SqliteStore(self._new_file(), **options)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[SqlitePlace]:
        yield SqlitePlace(self._new_file())

    def floor(self) -> AbstractAsyncContextManager[Floor]:
        return sqlite_floor(self._new_file())

    async def version(self) -> str:
        return sqlite3.sqlite_version

    async def counts(self) -> Mapping[str, float]:
        return {}


@asynccontextmanager
async def sqlite_ground() -> AsyncIterator[SqliteGround]:
    """In a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield SqliteGround(Path(folder))
