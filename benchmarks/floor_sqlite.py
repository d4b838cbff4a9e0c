"""The floor: the same durable protocol on bare sqlite3, with no engine above it.

A run is created, and claimed under an epoch; every step's entry is durable before the next step
begins, the epoch is checked in the same transaction, and the end is durable with the last step.
These are the engine's transactions, one for one: two, and one a step. No kernel, no codec, no
handlers, no API: whatever an engine adds is measured against this. ``group`` steps that many
runs in lockstep, with their commits in one transaction, as a group commit does at its best.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

SCHEMA = """
create table run (run_id text primary key, workflow text, version text, input blob) without rowid;
create table lease (run_id text primary key, epoch integer not null, owner text) without rowid;
create table entry (
    run_id text, seq integer, epoch integer, unit text, value blob, primary key (run_id, seq)
) without rowid;
create table outcome (run_id text primary key, status text, at integer) without rowid;
"""


def connect(path: Path) -> sqlite3.Connection:
    """WAL and full synchronisation, as the adapter has it."""
    conn = sqlite3.connect(path, isolation_level=None)
    conn.execute("pragma journal_mode = wal")
    conn.execute("pragma synchronous = full")
    conn.executescript(SCHEMA)
    return conn


def create(conn: sqlite3.Connection, names: list[str]) -> None:
    """These runs, due at once."""
    conn.execute("begin immediate")
    conn.executemany(
        "insert into run values (?, 'steps', '1', ?)", [(name, b'{"n":1}') for name in names]
    )
    conn.executemany("insert into lease values (?, 0, null)", [(name,) for name in names])
    conn.execute("commit")


def advance(conn: sqlite3.Connection, names: list[str], steps: int) -> None:
    """These runs from their claim to their end, in lockstep."""
    conn.execute("begin immediate")
    conn.executemany(
        "update lease set epoch = epoch + 1, owner = 'w' where run_id = ?",
        [(name,) for name in names],
    )
    conn.execute("commit")
    for seq in range(1, steps + 1):
        conn.execute("begin immediate")
        for name in names:
            row = conn.execute("select epoch from lease where run_id = ?", (name,)).fetchone()
            assert row == (1,)
        conn.executemany(
            "insert into entry values (?, ?, 1, ?, ?)",
            [(name, seq, f"s{seq}", b'{"ok":true,"n":1}') for name in names],
        )
        if seq == steps:
            conn.executemany("delete from lease where run_id = ?", [(name,) for name in names])
            conn.executemany(
                "insert into outcome values (?, 'completed', 0)", [(name,) for name in names]
            )
        conn.execute("commit")


def measure(
    path: Path, *, runs: int, steps: int, group: int, queued: bool = False
) -> tuple[float, list[float]]:
    """Runs a second, and the seconds each group took; ``queued``: creating them does not count."""
    conn = connect(path)
    names = [f"run-{index:032}" for index in range(runs)]
    groups = [names[start : start + group] for start in range(0, runs, group)]
    if queued:
        create(conn, names)
    taken = []
    begin = time.perf_counter()
    for some in groups:
        at = time.perf_counter()
        if not queued:
            create(conn, some)
        advance(conn, some, steps)
        taken.append(time.perf_counter() - at)
    seconds = time.perf_counter() - begin
    conn.close()
    return runs / seconds, taken
