"""Engine: a store and the workflows that run on it; the one object everything hangs on."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from ..codec.payload import Codec, JsonCodec
from ..errors import DefinitionError, DurableError
from ..kernel.limits import Limits
from ..kernel.policy import Duration
from ..workflow.registry import Definition, Lowering, Registry
from . import arguments
from .client.client import Client
from .client.creating import Creating
from .client.gathering import Gathering
from .client.info import Reader
from .client.messaging import Outbox
from .clock import Host, StoreClock
from .lifespan import Lifespan, checked
from .listener import Listener
from .local import Local
from .observer import Observer, Observers
from .retention import Retention, retention_of
from .shared import Shared, WorkerOptions
from .shielded import to_the_end
from .store_url import store_from
from .waiting import Ends
from .worker.body import BodyLog, hidden_by
from .worker.worker import Worker as RunningWorker

LEAST_LEASE_MS = 100


class Engine(Client):
    """Starts runs, asks about them, and executes them with ``worker()``.

    ``store_or_url``: a store, or ``sqlite:///relative.db``, ``sqlite:////absolute.db``,
    ``sqlite://`` (in memory), ``postgresql://...``, ``memory://``. ``workflows``: what this
    process can start and execute; of several versions the last listed is the one started by
    name. ``lifespan``: an async context manager function whose object is every handler's
    ``ctx.deps``; opened with the first worker. ``migrate``: True applies migrations on entry,
    False only verifies the schema, None is the store's own habit. ``host`` is for simulators.

    Use it as ``async with engine:``, in one event loop of one process at a time.
    """

    def __init__(
        self,
        store_or_url: Any,
        workflows: Iterable[Definition] = (),
        *,
        lifespan: Any = None,
        codec: Codec | None = None,
        observers: Sequence[Observer] = (),
        limits: Limits | None = None,
        migrate: bool | None = None,
        host: Host | None = None,
    ) -> None:
        if limits is not None and not isinstance(limits, Limits):
            raise DefinitionError(f"limits must be a Limits, not {type(limits).__name__}")
        if codec is not None and (
            isinstance(codec, type)
            or not callable(getattr(codec, "encode", None))
            or not callable(getattr(codec, "decode", None))
        ):
            raise DefinitionError(
                f"codec must be a Codec, e.g. JsonCodec(), not {type(codec).__name__}"
            )
        if not (migrate is None or isinstance(migrate, bool)):
            raise DefinitionError("migrate must be True, False or None")
        if not isinstance(workflows, Iterable):
            raise DefinitionError(
                f"workflows must be a list of Workflow objects, not {type(workflows).__name__}"
            )
        host = host or Host()
        limits = limits or Limits()
        store = store_from(store_or_url)
        self._migrate = migrate
        self._lifespan_factory = checked(lifespan)
        self._shared = Shared(
            store=store,
            clock=StoreClock(),
            host=host,
            registry=Registry(workflows),
            codec=JsonCodec(max_depth=limits.depth) if codec is None else codec,
            limits=limits,
            observers=Observers(observers),
            listener=Listener(store, fallback_s=host.fallback_poll_s, entropy=host.entropy),
            local=Local(),
        )
        self._reader = Reader(self._shared.codec, self._shared.registry)
        self._lifespan = Lifespan(self._lifespan_factory, self)
        self._entered = 0
        self._ready = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._opening = asyncio.Lock()  # one for each event loop: it belongs to one
        self._opening_in: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<Engine with {', '.join(self._shared.registry.names) or 'no workflows'}>"

    # --- entering and leaving ------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the store (and migrate it, as ``migrate`` says).

        Raises ``SchemaVersionError``, ``StoreUnavailableError``.
        """
        loop = asyncio.get_running_loop()
        if self._entered and (self._loop is not loop or self._pid != os.getpid()):
            self._check()
        if self._opening_in is not loop:
            self._opening, self._opening_in = asyncio.Lock(), loop
        async with self._opening:
            if not self._ready:
                await self._open(loop)
            self._entered += 1
        return self

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        shared = self._shared
        await shared.store.open(migrate=self._migrate)
        try:
            shared.clock.reset()
            shared.clock.set(await shared.store.now_ms())
        except BaseException:
            await shared.store.close()
            raise
        entropy = shared.host.entropy
        self._ends = Ends(shared.store, shared.listener, entropy=entropy)
        self._creating = Creating(shared, self._ends)
        self._gathering = Gathering(self._creating.create, entropy=entropy)
        self._outbox = Outbox(shared)
        shared.local.on_ended = self._ends.ended
        self._lifespan = Lifespan(self._lifespan_factory, self)
        self._loop, self._pid, self._ready = loop, os.getpid(), True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the lifespan and the store, when the last one leaves."""
        self._entered -= 1
        if not self._entered:
            await to_the_end(self._close())

    async def _close(self) -> None:
        shared = self._shared
        async with self._opening:  # whoever enters meanwhile opens it again afterwards
            if self._entered or not self._ready:
                return
            self._ready = False
            await self._ends.close()
            await asyncio.gather(
                self._gathering.close(), self._creating.close(), self._outbox.close()
            )
            await shared.listener.close()
            try:
                await self._lifespan.close()
            finally:
                await shared.store.close()

    def _check(self) -> Shared:
        if not self._ready:
            raise DurableError("this engine is not open: use it inside `async with engine:`")
        if self._pid != os.getpid():
            raise DurableError(
                f"this engine was opened in process {self._pid} and cannot be used after a fork, "
                f"in process {os.getpid()}; make and open an engine in each process"
            )
        if self._loop is not asyncio.get_running_loop():
            raise DurableError(
                "this engine was opened in another event loop; make and open an engine in each"
            )
        return self._shared

    # --- working -------------------------------------------------------------------------------

    def worker(
        self,
        *,
        concurrency: int = 100,
        queues: Sequence[str] = ("default",),
        lease: Duration = timedelta(seconds=30),
        grace: Duration = timedelta(seconds=30),
        retention: Duration | Retention | None = None,
        name: str | None = None,
    ) -> Worker:
        """A worker, to be entered with ``async with`` or by ``await ....run_forever()``.

        ``concurrency`` bounds handlers at work, over all runs. ``lease``: how long a run stays
        with this process when it is not heard of. ``grace``: how long handlers may go on when
        the worker is left. ``retention``: about ten times in that time, and at least every hour,
        the worker removes all runs that ended longer ago, as ``prune`` does; a ``Retention``
        says more. Durations are timedeltas or seconds.
        """
        limit = self._shared.limits.name
        if isinstance(queues, str) or not isinstance(queues, Iterable):
            raise DurableError("queues must be a list of names, e.g. queues=['default']")
        names = tuple(arguments.text(queue, what="a queue", limit=limit) for queue in queues)
        if not names:
            raise DurableError("queues must name at least one queue, or no run can be claimed")
        lease_ms = arguments.milliseconds(lease, what="lease")
        if lease_ms < LEAST_LEASE_MS:
            raise DurableError(f"lease must be at least {LEAST_LEASE_MS} ms, not {lease_ms}")
        grace_ms = arguments.milliseconds(grace, what="grace")
        host = self._shared.host
        worker_name = f"worker-{os.getpid()}-{host.entropy(4).hex()}"
        return Worker(
            self,
            WorkerOptions(
                name=arguments.optional_text(name, what="name", limit=limit) or worker_name,
                concurrency=arguments.whole(concurrency, what="concurrency", least=1, most=100_000),
                queues=tuple(dict.fromkeys(names)),
                lease=timedelta(milliseconds=lease_ms),
                grace=timedelta(milliseconds=grace_ms),
                retention=retention_of(retention),
            ),
        )

    async def _start_worker(self, options: WorkerOptions) -> RunningWorker:
        shared = self._check()
        deps = await self._lifespan.deps()
        services = Lowering(
            codec=shared.codec,
            registry=shared.registry,
            deps=deps,
            log=BodyLog,
            hidden=hidden_by(shared.host),
        )
        worker = RunningWorker(
            shared,
            options,
            programs={(d.name, d.version): d.program(services) for d in shared.registry},
            deps=deps,
        )
        await worker.start()
        return worker


class Worker:
    """Executes runs while it is entered. Leaving it drains: nothing new is claimed, handlers may
    finish within ``grace``, then they are cancelled, and unfinished runs are handed back."""

    def __init__(self, engine: Engine, options: WorkerOptions) -> None:
        self._engine = engine
        self._options = options
        self._running: RunningWorker | None = None

    @property
    def name(self) -> str:
        """What the worker is called in ``explain`` and in logs."""
        return self._options.name

    async def __aenter__(self) -> Self:
        """Open the engine and the lifespan if nobody has, and begin to claim."""
        if self._running is not None:
            raise DurableError(f"worker {self.name!r} is at work already; make another one")
        await self._engine.__aenter__()
        try:
            self._running = await self._engine._start_worker(self._options)
        except BaseException:
            await self._engine.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drain."""
        running, self._running = self._running, None
        try:
            if running is not None:
                await running.drain()
        finally:
            await self._engine.__aexit__(kind, error, traceback)

    async def run_forever(self) -> None:
        """Work until cancelled, or until the process is asked to end (SIGTERM); then drain."""
        asked = asyncio.Event()
        with _on_sigterm(asked):
            async with self:
                await asked.wait()


@contextmanager
def _on_sigterm(asked: asyncio.Event) -> Iterator[None]:
    """Set the event at SIGTERM, where that can be heard and nobody else listens."""
    loop = asyncio.get_running_loop()
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    try:
        if ours:
            loop.add_signal_handler(signal.SIGTERM, asked.set)
    except (NotImplementedError, RuntimeError, ValueError):
        ours = False
    try:
        yield
    finally:
        if ours:
            loop.remove_signal_handler(signal.SIGTERM)
