"""Rivals: several worker processes on one store, in one virtual loop, with every kind of mishap.

Each worker has an engine and a ``FaultyStore`` of its own; what it asks of the common store may
be slow, fail before or after it took effect, or hang for longer than a lease, as for a process
that was frozen and goes on as a zombie. ``Rivalry`` owns the clock, the store's contents and the
ledger of handlers that began. Everything between is the library's own code.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from durable_core import Engine, Host, JsonCodec, Limits
from durable_core.codec.records import entry_from_record
from durable_core.errors import StoreUnavailableError
from durable_core.kernel import journal as j
from durable_core.kernel.ids import UnitKey
from durable_core.kernel.invariants import check_journal
from durable_core.store import ClaimRequest, Kind, Lease, Message, NewRun, RunRecord
from durable_core.testing.memory import MemoryStore
from durable_core.testing.virtual_time import InlineExecutor, VirtualTime
from durable_core.workflow import Definition, Registry, input_digest

VERBS = (
    "claim",
    "commit",
    "settled",
    "renew",
    "inbox",
    "journal",
    "get",
    "deliver",
    "deliver_and_claim",
)
LEASE = timedelta(seconds=30)
LEASE_S = LEASE.total_seconds()


class FaultyStore:
    """One process's way to the common store."""

    def __init__(self, store: MemoryStore, seed: int, trouble: float) -> None:
        """``trouble``: how many calls go wrong, 0 to 1; it can be changed."""
        self._store = store
        self._random = random.Random(seed)
        self.trouble = trouble
        self.applied = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        return self._exposed(verb, name) if name in VERBS else verb

    @asynccontextmanager
    async def transaction(self, lease: Lease) -> AsyncIterator[Any]:
        """Begins and commits as unreliably."""
        await self._exposed(self._store.now_ms, "begin")()
        async with self._store.transaction(lease) as transaction:
            commit = self._exposed(transaction.commit, "commit")
            yield SimpleNamespace(conn=transaction.conn, check=transaction.check, commit=commit)

    def _exposed(
        self, verb: Callable[..., Awaitable[Any]], name: str
    ) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            fate = self._random.random() if self.trouble else 1.0
            kind = self._random.choice(("refused", "lost", "landed", "late", "frozen", "slow"))
            if fate >= self.trouble:
                kind = "well"
            if kind == "refused":
                raise StoreUnavailableError("nothing was written")
            if kind == "lost":
                raise StoreUnavailableError("nobody knows", outcome_unknown=True)
            if kind == "late":  # frozen before it took effect
                await asyncio.sleep(LEASE_S * self._random.uniform(0.9, 2))
            answer = await verb(*args, **kwargs)
            if kind == "landed":
                raise StoreUnavailableError("nobody knows", outcome_unknown=True)
            if kind == "frozen":
                await asyncio.sleep(LEASE_S * self._random.uniform(0.9, 2))
            if kind == "slow":
                await asyncio.sleep(self._random.uniform(0, 3))
            if name == "commit":
                self.applied.set()
            return answer

        return call


class Ledger(Counter[tuple[str, str, str]]):
    """Handlers that began; notes those whose unit was completed in the store already."""

    def __init__(self, rivalry: Rivalry) -> None:
        super().__init__()
        self._rivalry = rivalry
        self.too_late: list[tuple[str, str]] = []

    def __setitem__(self, key: tuple[str, str, str], count: int) -> None:
        run_id, unit, _ = key
        if self._rivalry.is_completed(run_id, unit):
            self.too_late.append((run_id, unit))
        super().__setitem__(key, count)


class Rivalry:
    """What outlives the workers. ``seed`` decides everything that is random."""

    def __init__(self, workflows: Sequence[Definition], seed: int, *, trouble: float = 0.0) -> None:
        self.time = VirtualTime()
        self.memory = MemoryStore(clock=self.time.now_ms)
        self.workflows = workflows
        self.registry = Registry(workflows)
        self.codec = JsonCodec()
        self.random = random.Random(seed)
        self.trouble = trouble
        self.started = Ledger(self)
        self.handlers_pause = trouble > 0
        self.stolen = False
        self._stores: list[FaultyStore] = []

    def check_beginnings(self) -> None:
        """No handler began whose unit was completed. Nobody can know of a lease that was stolen
        before its time, so then that is left out."""
        assert self.stolen or self.started.too_late == []

    async def pause(self) -> None:
        """Called by every handler that can wait."""
        if self.handlers_pause:
            await asyncio.sleep(self.random.choice((0, 0, 0.1, 5)))

    # --- what is in the store ------------------------------------------------------------------

    def is_completed(self, run_id: str, unit: str) -> bool:
        """Whether this unit has been completed, and not undone or begun again since."""
        completed = False
        for _, record in self.memory._shared.state.runs[run_id].entries:
            entry = entry_from_record(record)
            if isinstance(entry, j.RunRetried):
                completed = False
            elif entry.unit == UnitKey.parse(unit):
                completed = isinstance(entry, j.UnitCompleted)
        return completed

    def record(self, run_id: str = "run") -> RunRecord:
        """The run as the store has it."""
        return self.memory._shared.state.runs[run_id].record()

    def all_ended(self) -> bool:
        """Whether every run, children too, is terminal."""
        return all(run.ended for run in self.memory._shared.state.runs.values())

    def check_journals(self) -> None:
        """Every journal keeps the rules."""
        for run_id in self.memory._shared.state.runs:
            check_journal(run_id, self.journal(run_id))

    def journal(self, run_id: str = "run") -> list[j.Entry]:
        """The run's journal."""
        entries = self.memory._shared.state.runs[run_id].entries
        return [entry_from_record(record) for _, record in entries]

    # --- doing things --------------------------------------------------------------------------

    def live(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run this on the virtual loop, with the store open."""

        async def whole() -> None:
            await self.memory.open()
            await main()

        loop = self.time.loop()
        try:
            loop.run_until_complete(whole())
        finally:
            loop.close()

    async def create(self, value: Any, run_id: str = "run") -> None:
        """Create a run of workflow ``main``."""
        definition = self.registry.latest("main")
        payload = self.codec.encode(value, definition.input_type)
        new = NewRun(
            run_id=run_id,
            workflow="main",
            version=definition.version,
            fingerprint=definition.fingerprint,
            queue="default",
            input=payload,
            digest=input_digest(self.codec, "main", payload),
        )
        await self.memory.create([new])

    async def deliver(self, message: Message) -> None:
        """Put a message into the inbox, past everybody's engine."""
        await self.memory.deliver([message])

    async def steal(self) -> None:
        """Claim whatever is due as somebody who does nothing with it, and dies."""
        kinds = tuple(
            Kind(workflow=d.name, version=d.version, fingerprint=d.fingerprint)
            for d in self.registry
        )
        await self.memory.claim(
            ClaimRequest(worker="thief", lease_ms=2_000, limit=10, queues=("default",), kinds=kinds)
        )

    async def expire(self, run_id: str = "run") -> None:
        """Let the lease end now, as if time had passed for everybody but its holder; steal it."""
        run = self.memory._shared.state.runs[run_id]
        if run.owner is not None:
            self.stolen = True
            run.due_at_ms = self.time.now_ms()
            await self.steal()

    def engine(self) -> tuple[Engine, FaultyStore]:
        """One process's engine, and its way to the store."""
        store = FaultyStore(self.memory.twin(), self.random.getrandbits(32), self.trouble)
        self._stores.append(store)
        host = Host(
            entropy=self.random.randbytes,
            executor=lambda count: InlineExecutor(),
            renew_in_thread=False,
            lead_s=0.0,  # the timers of a simulated loop are exact
        )
        limits = Limits(worker_deaths=1_000)
        engine = Engine(store, self.workflows, lifespan=self._lifespan, host=host, limits=limits)
        return engine, store

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[Rivalry]:
        yield self

    @asynccontextmanager
    async def workers(self, count: int) -> AsyncIterator[None]:
        """So many processes with one worker each."""
        async with AsyncExitStack() as stack:
            for number in range(count):
                engine, _ = self.engine()
                await stack.enter_async_context(
                    engine.worker(concurrency=4, lease=LEASE, grace=1, name=f"worker-{number}")
                )
            yield

    async def come_and_go(self) -> None:
        """Workers that join for a moment, and are drained again."""
        pick = self.random.choice
        for number in range(self.random.randrange(4)):
            await asyncio.sleep(pick((0, 0.05, 3, 25)))
            engine, _ = self.engine()
            name = f"guest-{number}"
            try:
                async with engine.worker(lease=LEASE, grace=pick((0, 1, 20)), name=name):
                    await asyncio.sleep(pick((0, 0.05, 3, 25)))
            except StoreUnavailableError:
                pass  # it could not even begin

    def calm_down(self) -> None:
        """From now on nothing goes wrong."""
        self.trouble = 0.0
        for store in self._stores:
            store.trouble = 0.0

    async def until_all_ended(self, patience_s: float) -> bool:
        """Wait for every run's end; False if that takes longer."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + patience_s
        while not self.all_ended():
            if loop.time() > give_up_at:
                return False
            await asyncio.sleep(0.25)
        return True
