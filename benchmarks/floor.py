"""Floor: a durable protocol on a bare database driver, with no engine above it.

A run is created, and claimed under an epoch; every step's entry is durable before the next step
begins, the epoch is checked in the same transaction, and the end is durable with the last step.
These are the engine's transactions, one for one: two, and one a step. No kernel, no codec, no
handlers, no API: whatever an engine adds is measured against this.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

INPUT = b'{"n":1}'
RESULT = b'{"ok":true,"n":1}'


class Floor(Protocol):
    """The protocol on one database; several runs share a transaction, as in a group commit."""

    async def create(self, names: Sequence[str]) -> None:
        """These runs, due at once."""
        ...

    async def advance(self, names: Sequence[str], steps: int) -> None:
        """These runs from their claim to their end, in lockstep."""
        ...


async def measure(
    floor: Floor, *, runs: int, steps: int, group: int, queued: bool = False
) -> tuple[float, list[float]]:
    """Runs a second, and the seconds each group took; ``queued``: creating them does not count.

    ``group`` runs at a time are stepped together: a group commit at its best.
    """
    names = [f"run-{index:032}" for index in range(runs)]
    groups = [names[start : start + group] for start in range(0, runs, group)]
    if queued:
        for some in groups:
            await floor.create(some)
    taken = []
    begin = time.perf_counter()
    for some in groups:
        at = time.perf_counter()
        if not queued:
            await floor.create(some)
        await floor.advance(some, steps)
        taken.append(time.perf_counter() - at)
    return runs / (time.perf_counter() - begin), taken
