"""Stored: runs as a store sees them, for measurements below the engine."""

from __future__ import annotations

from benchmarks.floor import INPUT, RESULT
from durable_core.kernel.value import Payload
from durable_core.store import ClaimRequest, Commit, EntryRecord, Kind, NewRun, Store

KIND = Kind(workflow="steps", version="1", fingerprint="f")
LEASE_MS = 600_000


def new_runs(prefix: str, count: int, entries: int = 0) -> list[NewRun]:
    """Due at once; with so many entries in their journals."""
    return [
        NewRun(
            run_id=f"{prefix}-{number:07}",
            workflow=KIND.workflow,
            version=KIND.version,
            fingerprint=KIND.fingerprint,
            queue="default",
            input=Payload(INPUT),
            digest="d",
            entries=tuple(entry(seq) for seq in range(1, entries + 1)),
        )
        for number in range(count)
    ]


def entry(seq: int) -> EntryRecord:
    return EntryRecord(
        seq=seq, kind="unit_completed", unit=f"s{seq}", attempt=1, at_ms=0, payload=Payload(RESULT)
    )


def step(run_id: str, after: int, *, finished: bool = False) -> Commit:
    """What a worker commits for a small step under its first claim."""
    return Commit(
        run_id=run_id,
        epoch=1,
        after_seq=after,
        status="completed" if finished else "running",
        generation=1,
        entries=(entry(after + 1),),
        finished=finished,
    )


async def claim(store: Store, limit: int) -> list[str]:
    request = ClaimRequest(
        worker="w", lease_ms=LEASE_MS, limit=limit, queues=("default",), kinds=(KIND,)
    )
    return [claimed.run.run_id for claimed in (await store.claim(request)).runs]


async def create(store: Store, prefix: str, count: int) -> None:
    runs = new_runs(prefix, count)
    for start in range(0, count, 1_000):
        await store.create(runs[start : start + 1_000])
