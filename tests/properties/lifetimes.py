"""Lifetimes: a worker process on virtual time that dies at a chosen call of its store.

A ``Machine`` owns what outlives a process: the virtual clock, the store's contents and the
ledger of handler calls. Each lifetime is a new event loop with a new worker; a crash abandons
the loop where it stands, as ``kill -9`` does, and the next lifetime finds leases that have to
expire first. Everything between is the library's own code.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs

from durable_core import Engine, Host, JsonCodec
from durable_core.codec.records import entry_from_record
from durable_core.errors import StoreUnavailableError
from durable_core.kernel.invariants import check_journal
from durable_core.kernel.journal import Entry
from durable_core.store import Message, NewRun, RunRecord, Store
from durable_core.testing.memory import MemoryStore
from durable_core.testing.virtual_time import InlineExecutor, VirtualLoop, VirtualTime
from durable_core.workflow import Definition, Registry, input_digest
from durable_sqlite import SqliteStore

VERBS = ("claim", "commit", "renew", "inbox", "create", "deliver", "deliver_and_claim", "journal")
LEASE = timedelta(seconds=30)


@attrs.frozen
class CrashPoint:
    """Die at call ``number`` (from 0) of the store, before or after it takes effect."""

    number: int
    after: bool


class _DyingStore:
    """A store for one lifetime; the process ends at the crash point and never returns."""

    def __init__(self, store: Store, die: Callable[[], None], machine: Machine) -> None:
        self._store = store
        self._die = die
        self._machine = machine

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._store, name)
        return self._counted(verb) if name in VERBS else self._outside(verb)

    async def wait_for_work(self, timeout_ms: int | None) -> bool:
        """Nobody else is there who could change anything."""
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    def _outside(self, verb: Any) -> Any:
        if not asyncio.iscoroutinefunction(verb):
            return verb

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._machine.time.outside += 1
            try:
                return await verb(*args, **kwargs)
            finally:
                self._machine.time.outside -= 1

        return call

    def _counted(self, verb: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        verb = self._outside(verb)

        async def call(*args: Any, **kwargs: Any) -> Any:
            machine = self._machine
            if machine.dead:
                await machine.never()
            point = machine.next_crash
            here = point is not None and point.number == machine.calls
            machine.calls += 1
            if here and point is not None and not point.after:
                await self._end()
            answer = await verb(*args, **kwargs)
            if here:
                await self._end()
            return answer

        return call

    async def _end(self) -> None:
        self._machine.dead = True
        self._die()
        await self._machine.never()


class Machine:
    """What outlives processes. ``crashes``: where lifetimes end, in order of calls."""

    def __init__(
        self,
        workflows: Sequence[Definition],
        crashes: Iterable[CrashPoint] = (),
        *,
        path: Path | None = None,
        seed: int = 0,
    ) -> None:
        """``path``: a SQLite file to keep everything in; in memory without it."""
        self.time = VirtualTime()
        self._memory = MemoryStore(clock=self.time.now_ms)
        self._path = path
        self.workflows = workflows
        self.registry = Registry(workflows)
        self.codec = JsonCodec()
        self.crashes = sorted(crashes, key=lambda point: (point.number, point.after))
        self.calls = 0
        self.dead = False
        self.lifetimes = 0
        self.started: Counter[tuple[str, str, str]] = Counter()
        self._random = random.Random(seed)
        self._graveyard: list[tuple[VirtualLoop, asyncio.Task[None]]] = []
        self._limbo: list[asyncio.Future[None]] = []
        self._burying = False

    def make_store(self) -> Store:
        """The store of one process."""
        if self._path is None:
            return self._memory.twin()
        return SqliteStore(self._path, synchronous="OFF", clock=self.time.now_ms)

    async def never(self) -> None:
        """What a dead process waits for; when it is buried, its store is gone."""
        if not self._burying:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._limbo.append(future)
            await future
        raise StoreUnavailableError("this process is dead")

    @property
    def next_crash(self) -> CrashPoint | None:
        """The crash that is due next."""
        return self.crashes[0] if self.crashes else None

    def new_run(self, workflow: str, value: Any, run_id: str = "run") -> NewRun:
        """A run to be created."""
        definition = self.registry.latest(workflow)
        payload = self.codec.encode(value, definition.input_type)
        return NewRun(
            run_id=run_id,
            workflow=workflow,
            version=definition.version,
            fingerprint=definition.fingerprint,
            queue="default",
            input=payload,
            digest=input_digest(self.codec, workflow, payload),
        )

    async def pause(self) -> None:
        """Handlers take no time."""

    def run_to_the_end(
        self, run: NewRun, messages: Sequence[Message] = (), *, lives: int = 50
    ) -> RunRecord:
        """Live and die until the run is terminal; gives its record."""

        async def begin(store: Store) -> None:
            await store.create([run])
            if messages:
                await store.deliver(messages)

        self._in_loop(begin)
        try:
            for _ in range(lives):
                self.lifetimes += 1
                if self._live(run.run_id):
                    return self.record(run.run_id)
                self.crashes = self.crashes[1:]
                self.time.advance(ms=LEASE / timedelta(milliseconds=1) + 1)
            raise AssertionError("the run does not come to an end")
        finally:
            self._bury()

    def record(self, run_id: str) -> RunRecord:
        """The run as the store has it."""
        return self._in_loop(lambda store: store.get([run_id]))[run_id]  # type: ignore[no-any-return]

    def journal(self, run_id: str = "run") -> list[Entry]:
        """The run's journal, checked against the rules."""
        records = self._in_loop(lambda store: store.journal(run_id, limit=100_000))
        entries = [entry_from_record(record) for record in records]
        check_journal(run_id, entries)
        return entries

    # --- one lifetime --------------------------------------------------------------------------

    def _live(self, run_id: str) -> bool:
        """True when the run ended, False when the process died before."""
        self.dead = False
        self.time.outside = 0  # what the dead had under way is over
        loop = self.time.loop()
        store = _DyingStore(self.make_store(), loop.stop, self)
        main = loop.create_task(self._work(store, run_id))
        main.add_done_callback(lambda _: None if self.dead else loop.stop())
        asyncio.set_event_loop(loop)
        loop.run_forever()
        if self.dead:
            self._graveyard.append((loop, main))
            return False
        main.result()
        loop.close()
        return True

    async def _work(self, store: Any, run_id: str) -> None:
        host = Host(
            entropy=self._random.randbytes,
            executor=lambda count: InlineExecutor(),
            renew_in_thread=False,
            lead_s=0.0,  # the timers of a simulated loop are exact
        )
        engine = Engine(store, self.workflows, lifespan=self._lifespan, host=host)
        async with engine, engine.worker(concurrency=10, lease=LEASE, name=self._name):
            await engine.run(run_id).wait(timeout=100 * 86_400)

    @property
    def _name(self) -> str:
        return f"worker-{self.lifetimes}"

    @asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[Machine]:
        yield self

    def _in_loop(self, call: Callable[[Store], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            store = self.make_store()
            self.time.outside = 1
            try:
                await store.open()
                answer = await call(store)
                await store.close()
            finally:
                self.time.outside = 0
            return answer

        loop = self.time.loop()
        try:
            return loop.run_until_complete(main())
        finally:
            loop.close()

    def _bury(self) -> None:
        """Only tidies up memory: let the dead come to an end without a store."""
        self.dead = self._burying = True
        self.time.lenient = self._path is not None
        for loop, main in self._graveyard:
            asyncio.set_event_loop(loop)
            self.time.outside = 0
            for future in self._limbo:
                if future.get_loop() is loop and not future.done():
                    future.set_exception(StoreUnavailableError("this process is dead"))
            main.cancel()
            loop.run_until_complete(asyncio.wait([main]))
            main.cancelled() or main.exception()
            while left := asyncio.all_tasks(loop):
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(left))
            loop.close()
        self._graveyard.clear()
        self._burying = self.time.lenient = False
        self.time.outside = 0
        asyncio.set_event_loop(None)
