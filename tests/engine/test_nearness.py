"""Nearness: a sleeping run is claimed a little before its moment, and kept until then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from durable_core import Engine, JournalEntry, Retry, RunCancelled, StepContext, Workflow
from durable_core.engine.clock import Host
from durable_core.kernel.journal import TimerFired
from durable_core.kernel.nearness import NEAR_MS
from durable_core.store import ClaimBatch, ClaimRequest, Commit, CommitResult
from durable_core.testing.memory import MemoryStore
from durable_core.testing.virtual_time import VirtualTime

TAKES_MS = 4
"""What a transaction takes."""
SLEEP = timedelta(seconds=5)
Ctx = StepContext[Any, Any]


class Slow(MemoryStore):
    """Every claim and commit takes its time; ``claimed`` is set by those that bring something."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__(clock=time.now_ms)
        self.claimed = asyncio.Event()

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        await asyncio.sleep(TAKES_MS / 1000)
        batch = await super().claim(request)
        if batch.runs:
            self.claimed.set()
        return batch

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        await asyncio.sleep(TAKES_MS / 1000)
        return await super().commit(commits)


class Scene:
    """One engine on virtual time, and when its handlers were called."""

    def __init__(self) -> None:
        self.time = VirtualTime()
        self.store = Slow(self.time)
        self.called_at: list[int] = []

    async def note(self, ctx: Ctx) -> int:
        self.called_at.append(self.time.now_ms())
        return 1

    def engine(self, *workflows: Any) -> Engine:
        host = Host(fallback_poll_s=None, renew_in_thread=False)
        return Engine(self.store, list(workflows), host=host)

    def play(self, main: Callable[[], Awaitable[None]]) -> None:
        with asyncio.Runner(loop_factory=self.time.loop) as runner:
            runner.run(main())  # type: ignore[arg-type]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def ms_of(entry: JournalEntry) -> int:
    return round(entry.at.timestamp() * 1000)


async def until_kept(scene: Scene, engine: Engine, run_id: str) -> None:
    """Return in the ms in which the run is held and has nothing to do."""
    scene.store.claimed.clear()
    await scene.store.claimed.wait()
    assert (await engine.get(run_id)).status == "running"
    await asyncio.sleep(0.002)


@pytest.mark.parametrize("ms", [5, NEAR_MS, NEAR_MS + 1, 30, 5_000])
def test_a_sleep_is_late_by_the_commit_of_its_end_and_no_claim(scene: Scene, ms: int) -> None:
    workflow = Workflow("w").sleep("nap", timedelta(milliseconds=ms)).step("a", scene.note)

    async def main() -> None:
        async with scene.engine(workflow) as engine, engine.worker():
            run = await engine.start(workflow)
            assert (await run.result())["a"] == 1
            began, *_ = entries = await run.journal()
            (fired,) = [entry for entry in entries if entry.kind == TimerFired.kind]
            due_ms = ms_of(began) + ms
            # Of a nap that is as short as the transactions which give the run up and claim it,
            # these are to be seen; of no other.
            since = max(due_ms, ms_of(began) + 2 * TAKES_MS)
            assert due_ms <= ms_of(fired) <= since + 1
            assert scene.called_at == [pytest.approx(ms_of(fired) + TAKES_MS, abs=1)]

    scene.play(main)


def test_a_retry_is_called_when_its_pause_is_over(scene: Scene) -> None:
    async def fails_once(ctx: Ctx) -> int:
        scene.called_at.append(scene.time.now_ms())
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return 1

    workflow = Workflow("w").step("a", fails_once, retry=Retry(initial=2, jitter=0))

    async def main() -> None:
        async with scene.engine(workflow) as engine, engine.worker():
            run = await engine.start(workflow)
            assert await run.result() == {"a": 1}
            failed = (await run.journal())[0]
            assert scene.called_at[1] == pytest.approx(ms_of(failed) + 2_000, abs=1)

    scene.play(main)


def test_a_signal_is_heard_by_a_run_that_is_kept_for_its_time_out(scene: Scene) -> None:
    workflow = Workflow("w").wait_for_signal("go", timeout=SLEEP)

    async def main() -> None:
        async with scene.engine(workflow) as engine, engine.worker():
            run = await engine.start(workflow)
            await asyncio.sleep(1)
            await until_kept(scene, engine, run.id)
            await engine.signal(run.id, "go", "at last")
            assert await run.result() == {"go": "at last"}

    scene.play(main)


def test_a_run_that_is_kept_can_be_cancelled(scene: Scene) -> None:
    workflow = Workflow("w").sleep("nap", SLEEP).step("a", scene.note)

    async def main() -> None:
        async with scene.engine(workflow) as engine, engine.worker():
            run = await engine.start(workflow)
            await asyncio.sleep(1)
            await until_kept(scene, engine, run.id)
            await engine.cancel(run.id)
            with pytest.raises(RunCancelled):
                await run.result()

    scene.play(main)
    assert scene.called_at == []


def test_a_run_that_is_kept_is_handed_back_asleep_and_wakes_elsewhere_on_time(
    scene: Scene,
) -> None:
    workflow = Workflow("w").sleep("nap", SLEEP).step("a", scene.note)

    async def main() -> None:
        async with scene.engine(workflow) as engine:
            async with engine.worker(name="first"):
                run = await engine.start(workflow)
                await asyncio.sleep(1)
                await until_kept(scene, engine, run.id)
            info = await run.info()
            assert (info.status, [wait.kind for wait in info.waiting_for]) == (
                "suspended",
                ["timer"],
            )
            async with engine.worker(name="second"):
                assert (await run.result())["a"] == 1
            began, fired, *_ = await run.journal()
            assert ms_of(fired) == pytest.approx(ms_of(began) + 5_000, abs=1)

    scene.play(main)
    assert len(scene.called_at) == 1
