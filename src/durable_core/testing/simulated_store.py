"""SimulatedStore: one process's way to the common store, past the witness and the mishaps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import attrs

from ..codec.records import waits_from_text
from ..kernel.parking import LIFTED
from ..store import (
    ClaimBatch,
    ClaimRequest,
    Commit,
    CommitResult,
    CommitVerdict,
    CreateResult,
    Delivery,
    Foreseen,
    Lease,
    Message,
    NewRun,
    RenewResult,
    RunRecord,
    Store,
)
from .hearing import Hearing
from .memory import MemoryStore
from .plan import VERBS
from .processes import Process
from .witness import Moment, Witness


class Surroundings(Protocol):
    """What a simulated store needs of its world."""

    witness: Witness
    hearing: Hearing
    conn: Callable[[], Any] | None

    def note_commit(self, commit: Commit, verdict: CommitVerdict) -> None:
        """Write a commit into the chronicle."""
        ...

    async def around_store(
        self, moment: Moment, process: Process, call: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Make the call, with what the plan has for it."""
        ...


class SimulatedStore:
    """A ``Store`` for one simulated process."""

    def __init__(self, store: MemoryStore, world: Surroundings, process: Process) -> None:
        self._store = store
        self._world = world
        self._process = process

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        return self._around(name, verb) if name in VERBS else verb

    def twin(self) -> Store:
        """Another one of this process."""
        twin: Any = SimulatedStore(self._store.twin(), self._world, self._process)
        return twin  # type: ignore[no-any-return]

    async def wait_for_work(self, timeout_ms: int | None) -> bool:
        """Until somebody else changes something."""
        return await self._world.hearing.wait(self._process, timeout_ms)

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        """As the store does it, seen and written down."""
        witness = self._world.witness

        async def call() -> CommitResult:
            result = await self._seen_commit(commits)
            self._world.hearing.changed()
            return result

        moment = witness.store_called("commit", _kinds_of(commits))
        answer = await self._world.around_store(moment, self._process, call)
        assert isinstance(answer, CommitResult)
        witness.holdings.answered(self._process.name, commits, answer.verdicts)
        return answer

    async def _seen_commit(self, commits: Sequence[Commit]) -> CommitResult:
        witness = self._world.witness
        before = witness.before([commit.run_id for commit in commits])
        result = await self._store.commit([*map(_without_trying_again, commits)])
        lengths = {run_id: row.entries for run_id, row in before.items()}
        for commit, verdict in zip(commits, result.verdicts, strict=True):
            if verdict is CommitVerdict.APPLIED:
                kept = 0 if commit.renews else lengths.get(commit.run_id, 0)
                lengths[commit.run_id] = kept + len(commit.entries)
        for commit, verdict in zip(commits, result.verdicts, strict=True):
            self._world.note_commit(commit, verdict)
            witness.committed(before, commit, verdict, lengths.get(commit.run_id, 0))
        return result

    async def create(self, runs: Sequence[NewRun], *, conn: Any = None) -> Sequence[CreateResult]:
        """As the store does it, seen; what was created with a lease is held."""
        witness, name = self._world.witness, self._process.name

        def leased(results: Sequence[CreateResult]) -> list[RunRecord]:
            return [one.record for one in results if one.created and one.record.epoch]

        async def call() -> Sequence[CreateResult]:
            results = await self._store.create(runs, conn=conn)
            witness.created(leased(results), name)
            self._world.hearing.changed()
            return results

        moment = witness.store_called("create")
        answer: Sequence[CreateResult] = await self._world.around_store(moment, self._process, call)
        witness.holdings.granted(name, leased(answer))
        return answer

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        """As the store does it, seen."""
        witness = self._world.witness

        async def call() -> ClaimBatch:
            before = witness.before()
            batch = await self._store.claim(request)
            witness.claimed(before, batch, self._process.name)
            return batch

        answer = await self._world.around_store(witness.store_called("claim"), self._process, call)
        assert isinstance(answer, ClaimBatch)
        witness.holdings.granted(self._process.name, [one.run for one in answer.runs])
        return answer

    async def deliver_and_claim(
        self,
        messages: Sequence[Message],
        request: ClaimRequest,
        *,
        foreseen: Foreseen | None = None,
        **options: Any,
    ) -> Delivery:
        """As the store does it, seen as a claim is, and as a commit in the same moment."""
        witness = self._world.witness

        async def call() -> Delivery:
            before = witness.before()
            delivery = await self._store.deliver_and_claim(messages, request, **options)
            witness.woken(before, messages, delivery, self._process.name)
            if foreseen is not None:
                last = before.get(foreseen.run_id)
                fits = last is not None and foreseen.fits(last.epoch, delivery.now_ms)
                delivery = await self._with(foreseen.commit, fits, delivery)
            self._world.hearing.changed()
            return delivery

        kinds = _kinds_of([] if foreseen is None else [foreseen.commit])
        moment = witness.store_called("deliver_and_claim", kinds)
        answer = await self._world.around_store(moment, self._process, call)
        assert isinstance(answer, Delivery)
        witness.holdings.granted(self._process.name, [one.run for one in answer.runs])
        if foreseen is not None and answer.foreseen is CommitVerdict.APPLIED:
            witness.holdings.granted(self._process.name, [foreseen.commit])
        return answer

    async def _with(self, one: Commit, fits: bool, delivery: Delivery) -> Delivery:
        left, landed = delivery.runs, CommitVerdict.FENCED
        if fits and any(claimed.run.run_id == one.run_id for claimed in left):
            (landed,) = (await self._seen_commit([one])).verdicts
        if landed is CommitVerdict.APPLIED:
            left = tuple([claimed for claimed in left if claimed.run.run_id != one.run_id])
        return attrs.evolve(delivery, runs=left, foreseen=landed)

    async def renew(self, leases: Sequence[Lease], *, lease_ms: int) -> RenewResult:
        """As the store does it, seen."""
        witness = self._world.witness

        async def call() -> RenewResult:
            before: Mapping[str, Any] = witness.before([lease.run_id for lease in leases])
            result = await self._store.renew(leases, lease_ms=lease_ms)
            witness.renewed(before, leases, result)
            return result

        answer = await self._world.around_store(witness.store_called("renew"), self._process, call)
        assert isinstance(answer, RenewResult)
        return answer

    def transaction(self, lease: Lease) -> AbstractAsyncContextManager[Any]:
        """Its commit is a commit like any other."""
        return self._transaction(lease)

    @asynccontextmanager
    async def _transaction(self, lease: Lease) -> AsyncIterator[Any]:
        make = self._world.conn
        conn = object() if make is None else make()
        async with self._store.transaction(lease) as transaction:
            yield SimulatedTransaction(conn, self, transaction)

    def _around(self, name: str, verb: Callable[..., Awaitable[Any]]) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            async def made() -> Any:
                answer = await verb(*args, **kwargs)
                if name == "deliver":
                    self._world.hearing.changed()
                return answer

            moment = self._world.witness.store_called(name)
            return await self._world.around_store(moment, self._process, made)

        return call


def _without_trying_again(commit: Commit) -> Commit:
    """Of a run that is parked: all workers have the same code and codec here."""
    again = commit.release
    if again is None or again.due_at_ms is None:
        return commit
    if all(wait.reason not in LIFTED for wait in waits_from_text(commit.waiting)):
        return commit
    return attrs.evolve(commit, release=attrs.evolve(again, due_at_ms=None))


def _kinds_of(commits: Sequence[Commit]) -> tuple[str, ...]:
    return tuple([entry.kind for commit in commits for entry in commit.entries])


@attrs.frozen(slots=True)
class SimulatedTransaction:
    """The transaction of a handler; ``conn`` is what the simulation was given for it."""

    conn: Any
    _store: SimulatedStore
    _transaction: Any

    async def check(self) -> None:
        """Nothing can stand in its way."""

    async def commit(self, commit: Commit) -> CommitVerdict:
        """Write the transition."""
        (verdict,) = (await self._store.commit([commit])).verdicts
        return verdict
