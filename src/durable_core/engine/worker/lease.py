"""Lease: keeping held runs ours, beside whatever the event loop is doing.

A handler that blocks the event loop must not cost its worker the runs it holds, so leases are
renewed from a thread with its own event loop and its own ``store.twin()``. Rules:

1. A lease is renewed when a third of it has passed; a run that ends before costs nothing.
2. A main loop that has not answered for ``stall_limit_s`` is taken for dead: nothing is renewed
   until it answers, so that other workers can take over what it holds.
3. A lease that could not be renewed until it ended counts as lost, then and there, also while
   the store is asked and does not answer.
4. Nothing is decided here: what the store says is handed to the main loop.
5. Nothing runs periodically while nothing is held.

A simulated process has no threads: ``in_thread`` False renews on the main loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import attrs

from ...errors import DurableError
from ...store import Lease, RenewResult, Store

log = logging.getLogger("durable.lease")

CHUNK = 500
"""Leases renewed in one store call, at most."""
END_S = 5.0
"""How long to wait for the thread's end, if a call to the store hangs."""


class Holder(Protocol):
    """What is held: a runner."""

    @property
    def lease(self) -> Lease:
        """The lease as it stands."""
        ...


@attrs.define(slots=True, eq=False, weakref_slot=False)
class _Held:
    holder: Holder
    since: float  # monotonic seconds; all of one claim have the same object
    told: bool = False


class _Leases:
    """What is held, and until when; used from two threads."""

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}

    def put(self, run_id: str, holder: Holder, now: float) -> None:
        with self._lock:
            self._held[run_id] = _Held(holder, now)

    def lasts(self, run_id: str, holder: Holder, now: float) -> bool:
        held = self._held.get(run_id)  # one look needs no lock
        return held is not None and held.holder is holder and now < held.since + self.lease_s

    def drop(self, run_id: str, holder: Holder) -> None:
        with self._lock:
            if run_id in self._held and self._held[run_id].holder is holder:
                del self._held[run_id]
                if not self._held:
                    self._held.clear()  # a dict keeps the room of the most it had

    def next_at(self) -> float | None:
        """When the next renewal is due; None: nothing is held."""
        with self._lock:
            since = min((held.since for held in self._held.values()), default=None)
        return None if since is None else since + self.lease_s - self.lease_s * 2 / 3

    def due(self, now: float) -> list[_Held]:
        """Those that a third has passed of, or soon will have: they go together."""
        until = now + self.lease_s * 2 / 3 + self.lease_s / 20
        with self._lock:
            return [held for held in self._held.values() if held.since + self.lease_s <= until]

    def over(self, now: float) -> list[Holder]:
        """Those that have ended unrenewed; each is told once."""
        with self._lock:
            held = self._held.values()
            found = [one for one in held if one.since + self.lease_s <= now and not one.told]
        for one in found:
            one.told = True
        return [one.holder for one in found]


class LeaseKeeper:
    """Renews leases from ``start`` to ``stop``; its methods are called on the main loop."""

    def __init__(
        self,
        store: Store,
        *,
        lease_ms: int,
        stall_limit_s: float,
        on_result: Callable[[RenewResult, list[Holder]], None],
        on_expired: Callable[[Iterable[Holder]], None],
        in_thread: bool = True,
    ) -> None:
        """``on_result`` (with those who lost their leases) and ``on_expired`` are called on the
        main loop."""
        self._store = store
        self._leases = _Leases(lease_ms / 1000)
        self._lease_ms = lease_ms
        self._stall_limit_s = stall_limit_s
        self._on_result = on_result
        self._on_expired = on_expired
        self._in_thread = in_thread
        self._main = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._ended: asyncio.Future[None] = self._main.create_future()
        self._awake = threading.Event()
        self._asleep = False  # until it is woken; else the thread looks again within a third
        self._stopping = False
        self._asked_at: float | None = None
        self._stalled = False
        self._complained_at: float | None = None

    def now(self) -> float:
        """Monotonic seconds, as ``hold`` wants them."""
        return time.monotonic() if self._in_thread else self._main.time()

    def hold(self, run_id: str, holder: Holder, since: float) -> None:
        """Keep this lease; ``since`` is when it was asked for, however late the answer came."""
        self._leases.put(run_id, holder, since)
        if not self._in_thread:
            if self._task is None:
                self._task = self._main.create_task(self._renew_on_main_loop())
        elif self._thread is None:
            self._thread = threading.Thread(target=self._work, name="durable-lease", daemon=True)
            self._thread.start()
        elif self._asleep:
            self._awake.set()

    def lasts(self, run_id: str, holder: Holder) -> bool:
        """Whether the lease has not ended yet, as far as can be known here."""
        return self._leases.lasts(run_id, holder, self.now())

    def let_go(self, run_id: str, holder: Holder) -> None:
        """Keep it no longer."""
        self._leases.drop(run_id, holder)

    async def stop(self) -> None:
        """End, and wait for it; what is still held is left to expire."""
        self._stopping = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        thread, self._thread = self._thread, None
        if thread is not None:
            self._awake.set()
            done, _ = await asyncio.wait({self._ended}, timeout=END_S)
            if done:
                thread.join()
            else:
                log.warning("the thread that renews leases hangs in the store; it is left alone")

    # --- renewing ------------------------------------------------------------------------------

    async def _renew_in_time(self, store: Store) -> None:
        """Renew, and say what ends while the store does not answer. An answer that has taken a
        whole lease is of no use any more: it is asked again, on another connection."""
        renewing = asyncio.ensure_future(self._renew(store))
        try:
            give_up_at = self.now() + self._leases.lease_s
            while not renewing.done() and not self._stopping and self.now() < give_up_at:
                await asyncio.wait({renewing}, timeout=self._leases.lease_s / 10)
                self._report_ended()
        finally:
            given_up = renewing.cancel()
        if not given_up:
            renewing.result()
        elif not self._stopping:
            self._complain(TimeoutError("the store has not answered for a whole lease"))

    async def _renew(self, store: Store) -> None:
        """Renew what is due, in chunks; say what has ended."""
        try:
            due = self._leases.due(self.now())
            for start in range(0, len(due), CHUNK):
                part = due[start : start + CHUNK]
                leases = [held.holder.lease for held in part]
                asked_at = self.now()
                result = await store.renew(leases, lease_ms=self._lease_ms)
                lost = []
                for held, lease in zip(part, leases, strict=True):
                    if lease.run_id in result.lost:
                        lost.append(held.holder)
                    else:
                        held.since = asked_at
                        held.told = False
                # Not by id: a run that was given up may be held again meanwhile.
                self._tell(self._on_result, result, lost)
            self._complained_at = None
        except DurableError as error:
            self._complain(error)

    def _report_ended(self) -> None:
        over = self._leases.over(self.now())
        if over:
            self._tell(self._on_expired, over)

    def _complain(self, error: Exception) -> None:
        """Say it once in a lease."""
        now = self.now()
        if self._complained_at is None or now - self._complained_at > self._leases.lease_s:
            self._complained_at = now
            log.warning("leases could not be renewed, and it is tried again: %s", error)

    def _pause_s(self) -> float:
        """Until the next renewal is due, and a little at least."""
        next_at = self._leases.next_at()
        least_s = self._leases.lease_s / 10
        return least_s if next_at is None else max(next_at - self.now(), least_s)

    async def _renew_on_main_loop(self) -> None:
        while self._leases.next_at() is not None:
            await asyncio.sleep(self._pause_s())
            await self._renew_in_time(self._store)
            self._report_ended()
        self._task = None

    # --- in the thread -------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._stopping:
                self._sleep()
                next_at = self._leases.next_at()
                if self._stopping or next_at is None or next_at > self.now():
                    continue
                try:
                    asyncio.run(self._renew_until_idle())
                except Exception as error:
                    self._complain(error)
                    self._report_ended()
                    self._awake.wait(self._leases.lease_s / 10)
        finally:
            self._tell(self._set_ended)

    def _set_ended(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _sleep(self) -> None:
        """Until the first renewal is due; only then is a connection opened. A lease taken while
        this sleeps is due a third later, so a sleep that is no longer needs no waking."""
        next_at = self._leases.next_at()
        if next_at is not None:
            self._awake.wait(max(0.0, next_at - self.now()))
            return
        if self._awake.wait(self._leases.lease_s / 3):
            return
        self._asleep = True
        if self._leases.next_at() is None:
            self._awake.wait()
        self._asleep = False
        if not self._stopping:
            self._awake.clear()

    async def _renew_until_idle(self) -> None:
        store = self._store.twin()
        await store.open(migrate=False)
        try:
            while not self._stopping and self._leases.next_at() is not None:
                if self._main_loop_answers():
                    await self._renew_in_time(store)
                self._report_ended()
                # Blocks this thread's loop, on which nothing else runs.
                self._awake.wait(self._pause_s())
        finally:
            with contextlib.suppress(DurableError):
                await store.close()

    def _main_loop_answers(self) -> bool:
        now, asked_at = self.now(), self._asked_at
        if asked_at is None:
            asked_at = self._asked_at = now
            self._tell(self._answer)
        stalled_s = now - asked_at
        if stalled_s <= self._stall_limit_s:
            self._stalled = False
            return True
        if not self._stalled:
            self._stalled = True
            log.warning(
                "the event loop has not moved for %.1f s (Limits.loop_stall_limit): the leases "
                "of its runs are left to expire",
                stalled_s,
            )
        return False

    def _answer(self) -> None:
        """Called on the main loop: it is alive."""
        self._asked_at = None

    def _tell(self, function: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the main loop is closed already
            self._main.call_soon_threadsafe(function, *args)
