"""What the parts of the store contract share: stores under a virtual clock, and plain records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from ..kernel.value import Payload
from ..store import (
    ClaimBatch,
    ClaimedRun,
    ClaimRequest,
    Commit,
    CommitVerdict,
    EntryRecord,
    Kind,
    Lease,
    Message,
    NewRun,
    Release,
    Store,
)
from .virtual_clock import START_MS, VirtualClock

LEASE_MS = 30_000

APPLIED, FENCED, CONFLICT = CommitVerdict.APPLIED, CommitVerdict.FENCED, CommitVerdict.CONFLICT


OPTIONAL = ("transaction", "prune")
"""What a store may do without; only transactional steps and removing old runs need it."""

Test = TypeVar("Test", bound=Callable[..., Any])


def needs(capability: str) -> Callable[[Test], Test]:
    """The test is skipped for stores that lack this."""

    def mark(test: Test) -> Test:
        test.needs = capability  # type: ignore[attr-defined]
        return test

    return mark


class StoreFixtures:
    """Base of the contract's parts: each test gets an open store and its clock.

    ``lacks``: what of ``OPTIONAL`` the store cannot do, each with the reason, which is shown when
    its tests are skipped.
    """

    lacks: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _skipped_if_lacking(self, request: pytest.FixtureRequest) -> None:
        unknown = set(self.lacks) - set(OPTIONAL)
        if unknown:
            pytest.fail(f"lacks names {sorted(unknown)}, but only {OPTIONAL} are optional")
        capability: str = getattr(request.function, "needs", "")
        if capability in self.lacks:
            pytest.skip(f"the store has no {capability}: {self.lacks[capability]}")

    def make_store(self, clock: VirtualClock, folder: Path) -> AbstractAsyncContextManager[Store]:
        """An open, empty store that runs by ``clock``; closed when the block is left."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> VirtualClock:
        """The store's clock."""
        return VirtualClock()

    @pytest.fixture
    async def store(self, clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Store]:
        """The store under test."""
        async with self.make_store(clock, tmp_path) as store:
            yield store


def payload(text: str) -> Payload:
    """A payload of some JSON text."""
    return Payload(text.encode())


def new_run(run_id: str = "r1", **changes: Any) -> NewRun:
    """A run to create, plain but for ``changes``."""
    facts: dict[str, Any] = {
        "workflow": "order",
        "version": "1",
        "fingerprint": "fp1",
        "queue": "default",
        "input": payload('{"n":1}'),
        "digest": "order:1",
    }
    return NewRun(run_id=run_id, **{**facts, **changes})


def entry(seq: int, kind: str = "unit_completed", **changes: Any) -> EntryRecord:
    """A journal entry."""
    facts: dict[str, Any] = {"unit": f"step{seq}", "attempt": 1, "at_ms": START_MS + seq}
    return EntryRecord(seq=seq, kind=kind, **{**facts, **changes})


def signal(run_id: str = "r1", name: str = "go", **changes: Any) -> Message:
    """A message."""
    return Message(run_id=run_id, kind="signal", name=name, **changes)


KIND = Kind(workflow="order", version="1", fingerprint="fp1")


def request(**changes: Any) -> ClaimRequest:
    """A claim of one worker for the plain kind and queue."""
    facts: dict[str, Any] = {
        "worker": "w1",
        "lease_ms": LEASE_MS,
        "limit": 10,
        "queues": ("default",),
        "kinds": (KIND,),
    }
    return ClaimRequest(**{**facts, **changes})


async def claim(store: Store, **changes: Any) -> ClaimBatch:
    """Claim with ``request``."""
    return await store.claim(request(**changes))


async def claim_one(store: Store, run_id: str = "r1", **changes: Any) -> ClaimedRun:
    """Claim exactly this run."""
    batch = await claim(store, **changes)
    assert [claimed.run.run_id for claimed in batch.runs] == [run_id]
    return batch.runs[0]


async def started(store: Store, run_id: str = "r1", **changes: Any) -> ClaimedRun:
    """Create one run and claim it."""
    await store.create([new_run(run_id, **changes)])
    return await claim_one(store, run_id)


def ids(batch: ClaimBatch) -> list[str]:
    """Ids of the claimed runs, in the order they came."""
    return [claimed.run.run_id for claimed in batch.runs]


def step(run_id: str = "r1", epoch: int = 1, after_seq: int = 0, **changes: Any) -> Commit:
    """A commit of a running run; with ``n`` entries, default 1."""
    n = changes.pop("n", 1)
    facts: dict[str, Any] = {
        "status": "running",
        "generation": 1,
        "entries": tuple(entry(after_seq + 1 + i) for i in range(n)),
    }
    return Commit(run_id=run_id, epoch=epoch, after_seq=after_seq, **{**facts, **changes})


def let_go(
    run_id: str = "r1",
    epoch: int = 1,
    after_seq: int = 0,
    *,
    due_at_ms: int | None = None,
    pin: str | None = None,
    **changes: Any,
) -> Commit:
    """A commit that suspends the run and gives it back."""
    facts: dict[str, Any] = {
        "status": "suspended",
        "n": 0,
        "release": Release(due_at_ms=due_at_ms, pin=pin),
    }
    return step(run_id, epoch, after_seq, **{**facts, **changes})


def finish(run_id: str = "r1", epoch: int = 1, after_seq: int = 0, **changes: Any) -> Commit:
    """A commit that ends the run."""
    return step(run_id, epoch, after_seq, **{"status": "completed", "finished": True, **changes})


async def commit_one(store: Store, commit: Commit) -> CommitVerdict:
    """Commit one transition; its verdict."""
    return (await store.commit([commit])).verdicts[0]


async def commit_all(store: Store, commits: Sequence[Commit]) -> None:
    """Commit, and insist that all of them apply."""
    result = await store.commit(commits)
    assert set(result.verdicts) <= {APPLIED}, result.verdicts


def lease(run_id: str = "r1", epoch: int = 1, seen: int = 0) -> Lease:
    """A lease."""
    return Lease(run_id=run_id, epoch=epoch, seen=seen)
