"""The outside world of the demo: a shop whose ledger knows nothing of durable execution.

The ledger is a SQLite database of its own, in a file of its own, with two append-only tables.
``calls`` records that a handler began, in whichever process, as often as it did; ``movements``
records what it did to the world, once a key, as any payment provider would. After the demo
the two are held against each other and against the journals of the runs (``report.py``).

The counters in ``stock`` are moved in the transaction that writes the movement.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import attrs

SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (sku TEXT PRIMARY KEY, initial INTEGER NOT NULL,
    shelf INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS movements (seq INTEGER PRIMARY KEY, kind TEXT NOT NULL,
    order_id TEXT NOT NULL, key TEXT NOT NULL UNIQUE, subject TEXT NOT NULL,
    amount INTEGER NOT NULL, pid INTEGER NOT NULL, at_ms INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS calls (seq INTEGER PRIMARY KEY, order_id TEXT NOT NULL,
    run_id TEXT NOT NULL, unit TEXT NOT NULL, key TEXT NOT NULL, undo INTEGER NOT NULL,
    attempt INTEGER NOT NULL, pid INTEGER NOT NULL, at_ms INTEGER NOT NULL) STRICT;
"""
STOCK_UP = """
INSERT INTO stock (sku, initial, shelf) VALUES (?1, ?2, ?2)
ON CONFLICT (sku) DO UPDATE SET initial = initial + ?2, shelf = shelf + ?2
"""
ADD_CALL = """
INSERT INTO calls (order_id, run_id, unit, key, undo, attempt, pid, at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
ADD_MOVEMENT = """
INSERT INTO movements (kind, order_id, key, subject, amount, pid, at_ms)
VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING
"""
MOVE_STOCK = "UPDATE stock SET shelf = shelf + ? WHERE sku = ?"
READ_STOCK = "SELECT sku, initial, shelf FROM stock ORDER BY sku"
READ_MOVEMENTS = """
SELECT kind, order_id, key, subject, amount, pid, at_ms FROM movements ORDER BY seq
"""
READ_CALLS = """
SELECT order_id, run_id, unit, key, undo, attempt, pid, at_ms FROM calls ORDER BY seq
"""
COUNT_CALLS_OF = "SELECT count(*), min(at_ms) FROM calls WHERE pid = ?"


@attrs.frozen(slots=True)
class Call:
    """A handler began: ``undo`` if it was a compensator; ``at_ms`` since the epoch."""

    order_id: str
    run_id: str
    unit: str
    key: str
    undo: bool = attrs.field(converter=bool)
    attempt: int
    pid: int
    at_ms: int


@attrs.frozen(slots=True)
class Movement:
    """Something happened in the world; ``amount`` is cents or pieces, ``at_ms`` since the epoch.

    ``key`` is the idempotency key of what did it; ``subject`` an article, a parcel, an invoice.
    """

    kind: str
    order_id: str
    key: str
    subject: str
    amount: int
    pid: int = 0
    at_ms: int = 0


@attrs.frozen(slots=True)
class Stock:
    """One article: pieces delivered to the shop, and pieces on the shelf."""

    sku: str
    initial: int
    shelf: int


class Outage(Exception):
    """The other side did not answer; trying again is the thing to do."""


class Ledger:
    """The shop's books, in a file that several processes may open at once."""

    def __init__(self, path: str | Path) -> None:
        """Open, and create when missing; raises ``sqlite3.Error`` when that cannot be done."""
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._turn = threading.Lock()  # plain handlers run in threads
        self._pid = os.getpid()
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # it survives kills, not power cuts
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def deliver(self, pieces: Iterable[tuple[str, int]]) -> None:
        """Put new pieces of articles on the shelf."""
        with self._turn:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(STOCK_UP, list(pieces))
            self._db.execute("COMMIT")

    def begin(
        self, *, order_id: str, run_id: str, unit: str, key: str, undo: bool, attempt: int
    ) -> None:
        """Note that a handler begins."""
        with self._turn:
            self._db.execute(
                ADD_CALL, (order_id, run_id, unit, key, int(undo), attempt, self._pid, now_ms())
            )

    def move(self, kind: str, order_id: str, key: str, subject: str, amount: int) -> bool:
        """Do something once: False if this key did it before.

        ``picked`` takes ``amount`` pieces of the article ``subject`` off the shelf, ``put back``
        returns them; every other kind is only written down.
        """
        shift = {"picked": -amount, "put back": amount}.get(kind)
        row = (kind, order_id, key, subject, amount, self._pid, now_ms())
        with self._turn:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                fresh = self._db.execute(ADD_MOVEMENT, row).rowcount == 1
                if fresh and shift is not None:
                    self._db.execute(MOVE_STOCK, (shift, subject))
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        return fresh

    def calls(self) -> list[Call]:
        """Every beginning of a handler, in order."""
        with self._turn:
            rows = self._db.execute(READ_CALLS).fetchall()
        return [Call(*row) for row in rows]

    def movements(self) -> list[Movement]:
        """Everything that happened, in order."""
        with self._turn:
            return [Movement(*row) for row in self._db.execute(READ_MOVEMENTS).fetchall()]

    def stock(self) -> list[Stock]:
        """All articles."""
        with self._turn:
            return [Stock(*row) for row in self._db.execute(READ_STOCK).fetchall()]

    def calls_of(self, pid: int) -> tuple[int, int | None]:
        """How many handlers this process began, and when the first (ms since the epoch)."""
        with self._turn:
            count, first = self._db.execute(COUNT_CALLS_OF, (pid,)).fetchone()
        return int(count), first


@attrs.frozen(slots=True)
class Shop:
    """What the handlers are given as ``ctx.deps``: the ledger, and the weather.

    ``seed`` decides how long each call takes and which ones meet an outage first.
    """

    ledger: Ledger
    seed: int = 0

    async def travel(self, key: str) -> None:
        """The time a call to another company takes: 15 to 105 ms, decided by its key."""
        await asyncio.sleep(0.015 + 0.09 * self.chance(key))

    def weather(self, key: str, attempt: int, *, outages: float) -> None:
        """Raise ``Outage`` at the first attempt of this fraction of all keys (0 to 1)."""
        if attempt == 1 and self.chance(f"outage {key}") < outages:
            raise Outage("the other side did not answer")

    def chance(self, key: str) -> float:
        """A number from 0 to 1 that depends on key and seed alone."""
        digest = hashlib.blake2b(f"{self.seed} {key}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2**64


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
