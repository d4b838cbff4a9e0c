"""Drive: start all orders, play the colleagues who approve, and kill the worker again and again.

The driver is an ordinary client of the engine. It holds no state that matters: what it counts
it reads from the database, and the worker is a process it knows only by its pid. A kill comes
when a share of the orders is finished and the worker is at work, never by the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import attrs

from durable_core import Engine, JournalEntry, RunInfo, Start

from .orders import Order
from .process import WorkerProcess
from .progress import Counts, Progress
from .report import Committed, Death, Facts
from .shop import Ledger
from .timeline import at_ms
from .workflow import APPROVED, Decision, invoicing, workflow_for

POLL_S = 0.1
STALL_S = 60.0
"""Seconds without any progress after which the demo gives up."""

ARRIVAL_S = 18.0
"""Seconds over which a day of 240 orders comes in."""

ARRIVAL_MIN_S = 3.0
SPARE_STOCK = 5
"""Pieces of each article beyond what is ordered."""

AT_WORK = 8
"""Handlers a worker has begun before it is worth killing."""

JOURNALS_AT_ONCE = 16
ENDED = ("completed", "failed", "compensation_failed", "cancelled")


class Stalled(Exception):
    """Nothing has moved for a minute; the message says where things stand."""


@attrs.frozen(slots=True, kw_only=True)
class Plan:
    """What to do: ``tag`` marks the runs of this demo in a database that may hold others."""

    url: str
    ledger: Path
    log: Path
    orders: Sequence[Order]
    kills: int
    seed: int
    tag: str = ""

    @property
    def queue(self) -> str:
        """Whence this demo's worker takes its runs, and no other: one may have been interrupted."""
        return f"demo-{self.tag}" if self.tag else "demo"

    def run_id(self, order: Order) -> str:
        """The id of this order's run."""
        return f"{order.id}-{self.tag}" if self.tag else order.id

    def kill_at(self, kill: int) -> int:
        """How many orders are finished when kill number ``kill`` (from 0) is due."""
        orders = len(self.orders)
        return max(0, orders * (kill + 1) // (self.kills + 1) - orders // 12)


@attrs.define(slots=True)
class Drive:
    """One demo under way; ``run`` does it, ``facts`` tells what came out."""

    plan: Plan
    engine: Engine
    ledger: Ledger
    progress: Progress
    deaths: list[Death] = attrs.field(factory=list)
    infos: dict[str, RunInfo] = attrs.field(factory=dict)
    seconds: float = 0.0
    _told: set[str] = attrs.field(factory=set)

    async def run(self) -> None:
        """Start, approve, kill and restart until every order has ended.

        Raises ``WorkerDied`` when a worker ends unasked, ``Stalled`` when nothing moves.
        """
        began = time.monotonic()
        self.ledger.deliver(pieces_for(self.plan.orders))
        await self._start_all()
        worker = await self._start_worker()
        self.progress.event(f"worker {worker.pid} started", "dim")
        try:
            seen, moved = "", time.monotonic()
            while True:
                await self._look()
                counts = self._counts()
                self.progress.show(counts)
                if counts.finished == counts.total:
                    break
                await self._approve()
                worker.check()
                if self._kill_is_due(worker, counts):
                    worker = await self._replace(worker, counts)
                now = f"{counts} {self.ledger.calls_of(worker.pid)}"
                if now != seen:
                    seen, moved = now, time.monotonic()
                elif time.monotonic() - moved > STALL_S:
                    raise Stalled(f"nothing has moved for {STALL_S:.0f} s: {counts}")
                await asyncio.sleep(POLL_S)
            self.seconds = time.monotonic() - began
            await worker.leave()
        finally:
            await worker.end()

    # --- the worker ----------------------------------------------------------------------------

    async def _start_worker(self) -> WorkerProcess:
        plan = self.plan
        return await WorkerProcess.start(
            plan.url, plan.ledger, plan.log, queue=plan.queue, seed=plan.seed
        )

    def _kill_is_due(self, worker: WorkerProcess, counts: Counts) -> bool:
        """Whether enough orders are finished, some are under way, and this worker is at work."""
        done = len(self.deaths)
        if done >= self.plan.kills or counts.finished < self.plan.kill_at(done):
            return False
        calls, _ = self.ledger.calls_of(worker.pid)
        return calls >= AT_WORK and counts.running > 0

    async def _replace(self, worker: WorkerProcess, counts: Counts) -> WorkerProcess:
        """Kill the worker and start another."""
        self.deaths.append(Death(pid=worker.pid, at_ms=await worker.kill()))
        following = await self._start_worker()
        self.progress.event(
            f"✗ worker {worker.pid} killed (SIGKILL) at {counts.finished} of {counts.total} "
            f"orders; worker {following.pid} started",
            "red",
        )
        return following

    # --- the orders ----------------------------------------------------------------------------

    async def _start_all(self) -> None:
        """Start every order in one commit; they come in one after the other."""
        orders = self.plan.orders
        length = max(ARRIVAL_MIN_S, ARRIVAL_S * min(1.0, len(orders) / 240))
        await self.engine.start_many(
            [
                Start(
                    workflow_for(order),
                    order,
                    id=self.plan.run_id(order),
                    queue=self.plan.queue,
                    delay=timedelta(seconds=length * index / len(orders)),
                    attributes={"demo": self.plan.tag},
                )
                for index, order in enumerate(orders)
            ]
        )
        for order in orders:
            if order.review is not None and order.review.early:
                await self._decide(order)

    async def _look(self) -> None:
        """Read where all runs stand."""
        ids = {self.plan.run_id(order): order.id for order in self.plan.orders}
        async for info in self.engine.runs(attributes={"demo": self.plan.tag}, limit=None):
            if info.id in ids:
                self.infos[ids[info.id]] = info

    def _counts(self) -> Counts:
        status = Counter(info.status for info in self.infos.values())
        return Counts(
            total=len(self.plan.orders),
            finished=sum(status[end] for end in ENDED),
            running=status["running"] + status["compensating"],
            suspended=status["suspended"],
            undone=status["failed"],
            kills=len(self.deaths),
        )

    async def _approve(self) -> None:
        """Decide about every order that waits for it."""
        for order in self.plan.orders:
            info = self.infos.get(order.id)
            if order.review is None or info is None or order.id in self._told:
                continue
            if any(wait.kind == "signal" for wait in info.waiting_for):
                await self._decide(order)

    async def _decide(self, order: Order) -> None:
        """Send the decision, once, however often we say so."""
        assert order.review is not None
        await self.engine.signal(
            self.plan.run_id(order),
            APPROVED,
            Decision(approved=order.review.approved, by=order.review.by),
            dedupe_id=f"review of {order.id}",
        )
        self._told.add(order.id)

    # --- what came out -------------------------------------------------------------------------

    async def facts(self) -> tuple[Facts, dict[str, Sequence[JournalEntry]]]:
        """Everything the closing check needs, and the journals by run id."""
        ours = {self.plan.run_id(order) for order in self.plan.orders}
        run_ids = set(ours)
        async for info in self.engine.runs(workflow=invoicing.name, limit=None):
            if info.parent_id in ours:
                run_ids.add(info.id)
        journals = await self._journals(sorted(run_ids))
        facts = Facts(
            orders=self.plan.orders,
            ends={order_id: info.status for order_id, info in self.infos.items()},
            movements=self.ledger.movements(),
            calls=self.ledger.calls(),
            stock=self.ledger.stock(),
            committed=[one for run_id in journals for one in committed(run_id, journals[run_id])],
            deaths=self.deaths,
            runs=len(run_ids),
            seconds=self.seconds,
        )
        return facts, journals

    async def _journals(self, run_ids: Sequence[str]) -> dict[str, Sequence[JournalEntry]]:
        """All journals, a few at a time."""
        turn = asyncio.Semaphore(JOURNALS_AT_ONCE)

        async def read(run_id: str) -> Sequence[JournalEntry]:
            async with turn:
                return await self.engine.journal(run_id)

        found = await asyncio.gather(*map(read, run_ids))
        return dict(zip(run_ids, found, strict=True))


def pieces_for(orders: Sequence[Order]) -> list[tuple[str, int]]:
    """What is delivered to the shop so that every order could be fulfilled."""
    pieces = Counter[str]()
    for order in orders:
        for item in order.items:
            pieces[item.sku] += item.quantity
    return [(sku, count + SPARE_STOCK) for sku, count in sorted(pieces.items())]


def committed(run_id: str, entries: Sequence[JournalEntry]) -> list[Committed]:
    """The completions of handlers' units, and of their compensations, in a journal."""
    return [
        Committed(
            run_id=run_id,
            unit=str(entry.unit),
            undo=entry.kind == "unit_compensated",
            at_ms=at_ms(entry),
        )
        for entry in entries
        if entry.kind in ("unit_completed", "unit_compensated")
    ]
