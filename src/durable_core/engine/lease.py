"""Lease: keeping the runs a worker holds, from a thread of its own.

Renewal must not share the fate of the event loop that handlers may block, so a thread with an
event loop of its own renews through a twin of the store. Rules:

1. A lease is renewed when a third of it has passed, all that are due in one call.
2. While the main loop has not moved for ``stall_limit_s``, nothing is renewed: a process that
   hangs for good gives its runs up.
3. What the store says (leases lost, mail waiting) is handed to the main loop; nothing is
   decided here.
4. While nothing is held, the thread sleeps without a time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from ..errors import DurableError
from ..store import Lease, RenewResult, Store

log = logging.getLogger("durable.lease")

CHUNK = 1_000
"""Leases renewed in one store call, at most."""


class Holder(Protocol):
    """What is held: a runner."""

    @property
    def lease(self) -> Lease:
        """The lease as it stands."""
        ...


class LeaseKeeper:
    """Renews leases until it is stopped."""

    def __init__(
        self,
        store: Store,
        *,
        lease_ms: int,
        stall_limit_s: float,
        on_result: Callable[[RenewResult], None],
        in_thread: bool = True,
    ) -> None:
        self._in_thread = in_thread
        self._task: asyncio.Task[None] | None = None
        self._store = store
        self._lease_ms = lease_ms
        self._stall_limit_s = stall_limit_s
        self._on_result = on_result
        self._held: dict[str, tuple[Holder, float]] = {}  # with the time of the last renewal
        self._lock = threading.Lock()
        self._main: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._main_moved_at = 0.0

    # --- called from the main loop -------------------------------------------------------------

    def start(self) -> None:
        """Begin; the thread opens its store when there is something to renew."""
        self._main = asyncio.get_running_loop()
        self._main_moved_at = self._main.time()
        if not self._in_thread:
            self._task = self._main.create_task(self._renew_until_stopped())
            return
        self._thread = threading.Thread(target=self._run, name="durable-lease", daemon=True)
        self._thread.start()
        self._ready.wait()

    def hold(self, run_id: str, holder: Holder) -> None:
        """Keep this lease, which has just been claimed."""
        assert self._main is not None
        with self._lock:
            first = not self._held
            self._held[run_id] = (holder, self._main.time())
        if first:
            self._poke()

    def let_go(self, run_id: str, holder: Holder) -> None:
        """Keep it no longer."""
        with self._lock:
            if run_id in self._held and self._held[run_id][0] is holder:
                del self._held[run_id]

    async def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping = True
        self._poke()
        if self._task is not None:
            await self._task
            self._task = None
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        await asyncio.get_running_loop().run_in_executor(None, thread.join)

    def _poke(self) -> None:
        if self._loop is not None and self._wake is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    # --- in the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.run(self._renew_until_stopped())

    async def _renew_until_stopped(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._ready.set()
        store: Store | None = None
        try:
            while not self._stopping:
                if not await self._pause():
                    continue
                try:
                    if not self._in_thread:
                        await self._renew(self._store)
                        continue
                    if store is None:
                        store = self._store.twin()
                        await store.open(migrate=False)
                    await self._renew(store)
                except DurableError as error:
                    log.warning("leases could not be renewed, trying again: %s", error)
                    await asyncio.sleep(self._lease_ms / 10_000)
                except Exception as error:
                    log.error("lease renewal failed: %s", type(error).__name__, exc_info=error)
                    await asyncio.sleep(self._lease_ms / 10_000)
        finally:
            if store is not None:
                await store.close()

    async def _pause(self) -> bool:
        """Sleep until something is due for renewal; False when woken before."""
        assert self._wake is not None
        self._wake.clear()
        with self._lock:
            oldest = min((at for _, at in self._held.values()), default=None)
        if self._stopping:
            return False
        if oldest is None:
            await self._wake.wait()
            return False
        pause_s = oldest + self._lease_ms / 3_000 - self._now()
        if pause_s <= 0:
            return True
        try:
            await asyncio.wait_for(self._wake.wait(), pause_s)
        except TimeoutError:
            return True
        return False

    def _now(self) -> float:
        assert self._main is not None
        return self._main.time()

    async def _renew(self, store: Store) -> None:
        assert self._main is not None
        self._main.call_soon_threadsafe(self._moved)
        if self._now() - self._main_moved_at > self._stall_limit_s:
            log.warning(
                "the event loop has been blocked for over %.0f s; its leases are left to expire",
                self._stall_limit_s,
            )
            await asyncio.sleep(self._lease_ms / 10_000)
            return
        now = self._now()
        with self._lock:
            due = [
                (run_id, holder)
                for run_id, (holder, at) in self._held.items()
                if now - at >= self._lease_ms / 4_000
            ]
        for start in range(0, len(due), CHUNK):
            part = due[start : start + CHUNK]
            result = await store.renew(
                [holder.lease for _, holder in part], lease_ms=self._lease_ms
            )
            self._renewed(part, now)
            if result.lost or result.mail:
                self._main.call_soon_threadsafe(self._on_result, result)

    def _renewed(self, part: Iterable[tuple[str, Holder]], now: float) -> None:
        with self._lock:
            for run_id, holder in part:
                if run_id in self._held and self._held[run_id][0] is holder:
                    self._held[run_id] = (holder, now)

    def _moved(self) -> None:
        """Runs in the main loop: it is alive."""
        self._main_moved_at = self._now()
