"""Told meanwhile: messages that came when a run was leased, and the answer was on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.engine.stage import PATIENCE_S

from durable_core import Engine, Host, StepContext, Workflow
from durable_core.store import (
    ClaimBatch,
    ClaimRequest,
    Commit,
    CommitResult,
    CreateResult,
    Delivery,
    InboxRecord,
    Lease,
    Message,
    NewRun,
)
from durable_core.testing.memory import MemoryStore

Ctx = StepContext[Any, Any]
DEAF = Host(fallback_poll_s=None)


class Store(MemoryStore):
    """Answers to calls of ``verb`` that lease a run wait until ``opened``. It hears of others when
    the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.verb = ""
        self.done = asyncio.Event()
        self.opened = asyncio.Event()
        self.rings: asyncio.Queue[bool] = asyncio.Queue()
        self.looks = 0

    async def _answer(self, verb: str) -> None:
        if verb == self.verb:
            self.verb = ""
            self.done.set()
            await self.opened.wait()

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        batch = await super().claim(request)
        if batch.runs:
            await self._answer("claim")
        return batch

    async def create(self, runs: Sequence[NewRun], *, conn: Any = None) -> tuple[CreateResult, ...]:
        results = await super().create(runs, conn=conn)
        await self._answer("create")
        return results

    async def deliver_and_claim(
        self, messages: Sequence[Message], request: ClaimRequest, **options: Any
    ) -> Delivery:
        delivery = await super().deliver_and_claim(messages, request, **options)
        await self._answer("deliver_and_claim")
        return delivery

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        for _ in range(50):  # others claim meanwhile, and find that the run is held
            await asyncio.sleep(0)
        return await super().commit(commits)

    async def inbox(self, leases: Sequence[Lease]) -> dict[str, tuple[InboxRecord, ...]]:
        self.looks += 1
        return dict(await super().inbox(leases))

    async def wait_for_work(self, timeout_ms: int | None) -> bool:
        return await self.rings.get()


class Scene:
    """An engine with a worker, and another that only sends."""

    def __init__(self) -> None:
        self.store = Store()
        self.workflow = Workflow("w").wait_for_signal("go").wait_for_signal("on")
        self.here = Engine(self.store, [self.workflow], host=DEAF)
        self.elsewhere = Engine(self.store.twin(), [self.workflow], host=DEAF)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        async with self.here.worker(lease=600):
            yield

    async def asked(self) -> None:
        """Return when the call is done, and its answer on its way."""
        await self.store.done.wait()

    async def send(self, run_id: str, name: str, *, ring: bool) -> None:
        """From here, or from elsewhere, which is heard of before the answer is here."""
        await (self.elsewhere if ring else self.here).signal(run_id, name)
        if ring:
            self.store.rings.put_nowait(True)
            while not self.store.rings.empty():  # noqa: ASYNC110
                await asyncio.sleep(0)
            for _ in range(3):  # the worker is told in the next turns
                await asyncio.sleep(0)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    async with scene.elsewhere, scene.here:
        yield scene


from_where = pytest.mark.parametrize("ring", [False, True], ids=["here", "elsewhere"])


@from_where
async def test_a_run_whose_claim_is_on_its_way_hears_of_its_message(
    scene: Scene, ring: bool
) -> None:
    run = await scene.elsewhere.start(scene.workflow)
    scene.store.verb = "claim"
    async with scene.working():
        await scene.asked()
        await scene.send(run.id, "go", ring=ring)
        await scene.send(run.id, "on", ring=ring)
        scene.store.opened.set()
        assert await run.result(timeout=PATIENCE_S) == {"go": None, "on": None}


@from_where
async def test_a_run_whose_start_is_on_its_way_hears_of_its_message(
    scene: Scene, ring: bool
) -> None:
    async with scene.working():
        await caught_up(scene.here)
        scene.store.verb = "create"
        starting = asyncio.create_task(scene.here.start(scene.workflow, id="r"))
        await scene.asked()
        await scene.send("r", "go", ring=ring)
        await scene.send("r", "on", ring=ring)
        scene.store.opened.set()
        assert await (await starting).result(timeout=PATIENCE_S) == {"go": None, "on": None}


async def test_a_run_whose_eager_delivery_is_on_its_way_hears_of_others(scene: Scene) -> None:
    async with scene.working():
        await caught_up(scene.here)
        run = await scene.here.start(scene.workflow)
        await idle(scene, run.id)
        scene.store.verb = "deliver_and_claim"
        sending = asyncio.create_task(scene.here.signal(run.id, "go"))
        await scene.asked()
        await scene.send(run.id, "on", ring=True)
        scene.store.opened.set()
        await sending
        assert await run.result(timeout=PATIENCE_S) == {"go": None, "on": None}


async def test_whoever_was_told_nothing_looks_at_nothing(scene: Scene) -> None:
    """Neither what was told before the call, nor of other runs, is looked at."""
    run = await scene.elsewhere.start(scene.workflow)
    other = await scene.elsewhere.start(scene.workflow, id="other")
    scene.store.verb = "claim"
    for name in ("go", "on"):
        await scene.here.signal(run.id, name)
    async with scene.here.worker(lease=600, concurrency=1):
        await scene.asked()
        await scene.here.signal(other.id, "go")
        scene.store.opened.set()
        assert await run.result(timeout=PATIENCE_S) == {"go": None, "on": None}
        assert scene.store.looks == 0
        (worker,) = scene.here._shared.local._workers
        await idle(scene, other.id)
        assert not worker._held._asking._calls  # type: ignore[attr-defined]


async def caught_up(engine: Engine) -> None:
    """Return when its worker knows of nothing due."""
    (worker,) = engine._shared.local._workers
    while not worker._claims.caught_up:  # type: ignore[attr-defined]  # noqa: ASYNC110
        await asyncio.sleep(0)


async def idle(scene: Scene, run_id: str) -> None:
    """Return when nobody holds the run, and it waits."""
    while (await scene.store.get([run_id]))[run_id].status != "suspended":  # noqa: ASYNC110
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
