"""Nearness: a sleeping run is claimed a little before its moment, and rests until then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from durable_core import (
    Engine,
    JournalEntry,
    Retry,
    RunCancelled,
    StepContext,
    Workflow,
    WorkflowContext,
    workflow,
)
from durable_core.engine.clock import Host
from durable_core.kernel.journal import TimerFired
from durable_core.kernel.nearness import NEAR_MS
from durable_core.store import (
    MARKS,
    ClaimBatch,
    ClaimRequest,
    Commit,
    CommitResult,
    CommitVerdict,
    InboxRecord,
    Lease,
)
from durable_core.testing.memory import MemoryStore
from durable_core.testing.virtual_time import VirtualTime

TAKES_MS = 4
"""What a transaction takes."""
SLEEP = timedelta(seconds=5)
Ctx = StepContext[Any, Any]


class Slow(MemoryStore):
    """Whatever a worker asks for takes its time. ``claimed`` is set by claims that bring
    something. Nothing is heard of other stores."""

    def __init__(self, clock: Callable[[], int]) -> None:
        super().__init__(clock=clock)
        self.claimed = asyncio.Event()
        self.verdicts: list[CommitVerdict] = []
        self.answers_late_ms = 0

    async def claim(self, request: ClaimRequest) -> ClaimBatch:
        await asyncio.sleep(TAKES_MS / 1000)
        batch = await super().claim(request)
        if batch.runs:
            self.claimed.set()
        return batch

    async def commit(self, commits: Sequence[Commit]) -> CommitResult:
        await asyncio.sleep(TAKES_MS / 1000)
        result = await super().commit(commits)
        self.verdicts += result.verdicts
        return result

    async def inbox(self, leases: Sequence[Lease]) -> Mapping[str, tuple[InboxRecord, ...]]:
        await asyncio.sleep(TAKES_MS / 1000)
        mail = await super().inbox(leases)
        await asyncio.sleep(self.answers_late_ms / 1000)
        return mail

    async def wait_for_work(self, timeout_ms: int | None) -> bool:
        never: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        return await never


class Scene:
    """One engine on virtual time, and when its handlers were called."""

    def __init__(self) -> None:
        self.time = VirtualTime()
        self.store = Slow(self.time.now_ms)
        self.called_at: list[int] = []
        self.began_ms = self.time.now_ms()

    async def note(self, ctx: Ctx) -> int:
        self.called_at.append(self.time.now_ms())
        return 1

    def engine(self, *workflows: Any, lead_s: float = 0.0005) -> Engine:
        host = Host(fallback_poll_s=None, renew_in_thread=False, lead_s=lead_s)
        return Engine(self.store, list(workflows), host=host)

    def play(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=self.time.loop) as runner:
            runner.run(main())


@pytest.fixture
def scene() -> Scene:
    return Scene()


def ms_of(entry: JournalEntry) -> int:
    return round(entry.at.timestamp() * 1000)


async def until_at_rest(scene: Scene, engine: Engine, run_id: str) -> None:
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
            assert ms_of(fired) == due_ms
            # It is sent half a ms before.
            assert scene.called_at == [pytest.approx(due_ms + TAKES_MS - 0.5, abs=0.6)]

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
            due_ms = ms_of(failed) + 2_000
            assert scene.called_at[1] == pytest.approx(due_ms + TAKES_MS, abs=1)

    scene.play(main)


def test_a_signal_is_heard_by_a_run_that_rests_until_its_time_out(scene: Scene) -> None:
    workflow = Workflow("w").wait_for_signal("go", timeout=SLEEP)

    async def main() -> None:
        async with scene.engine(workflow) as engine, engine.worker():
            run = await engine.start(workflow)
            await asyncio.sleep(1)
            await until_at_rest(scene, engine, run.id)
            await engine.signal(run.id, "go", "at last")
            assert await run.result() == {"go": "at last"}

    scene.play(main)


def test_a_run_at_rest_can_be_cancelled(scene: Scene) -> None:
    workflow = Workflow("w").sleep("nap", SLEEP).step("a", scene.note)

    async def main() -> None:
        async with scene.engine(workflow) as engine, engine.worker():
            run = await engine.start(workflow)
            await asyncio.sleep(1)
            await until_at_rest(scene, engine, run.id)
            await engine.cancel(run.id)
            with pytest.raises(RunCancelled):
                await run.result()

    scene.play(main)
    assert scene.called_at == []


def test_a_run_at_rest_is_handed_back_asleep_and_wakes_elsewhere_on_time(
    scene: Scene,
) -> None:
    workflow = Workflow("w").sleep("nap", SLEEP).step("a", scene.note)

    async def main() -> None:
        async with scene.engine(workflow) as engine:
            async with engine.worker(name="first"):
                run = await engine.start(workflow)
                await asyncio.sleep(1)
                await until_at_rest(scene, engine, run.id)
            info = await run.info()
            assert (info.status, [wait.kind for wait in info.waiting_for]) == (
                "suspended",
                ["timer"],
            )
            async with engine.worker(name="second"):
                assert (await run.result())["a"] == 1
            began, fired, *_ = await run.journal()
            due_ms = ms_of(began) + 5_000
            assert ms_of(fired) == due_ms

    scene.play(main)
    assert len(scene.called_at) == 1


# --- what was acknowledged before the moment ------------------------------------------------------


def sleeps(scene: Scene) -> Workflow[Any, Any]:
    return Workflow("w").sleep("nap", SLEEP).step("a", scene.note)


def fails_at_first(scene: Scene) -> Workflow[Any, Any]:
    async def step(ctx: Ctx) -> int:
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return await scene.note(ctx)

    return Workflow("w").step("a", step, retry=Retry(initial=SLEEP, jitter=0))


def times_out(scene: Scene) -> Workflow[Any, Any]:
    return Workflow("w").wait_for_signal("go", timeout=SLEEP)


def has_a_deadline(scene: Scene) -> Workflow[Any, Any]:
    return Workflow("w").wait_for_signal("go")


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize("early_ms", [1, 2, 7, 13, 19])
@pytest.mark.parametrize(
    ("make", "verb", "status"),
    [
        (sleeps, "cancel", "cancelled"),
        (sleeps, "pause", "suspended"),
        (fails_at_first, "cancel", "cancelled"),
        (fails_at_first, "pause", "suspended"),
        (times_out, "signal", "completed"),
        (has_a_deadline, "signal", "completed"),
    ],
)
def test_what_was_acknowledged_before_the_moment_is_heard(
    scene: Scene,
    make: Callable[[Scene], Workflow[Any, Any]],
    verb: str,
    status: str,
    early_ms: int,
    elsewhere: bool,
) -> None:
    workflow = make(scene)

    async def main() -> None:
        host = Host(fallback_poll_s=None, renew_in_thread=False)
        other = Engine(scene.store.twin(), [workflow], host=host)
        async with scene.engine(workflow) as engine, other, engine.worker():
            run = await engine.start(workflow, deadline=SLEEP if make is has_a_deadline else None)
            await asyncio.sleep(5 - early_ms / 1000)
            sender = other if elsewhere else engine
            arguments = ("go", 1) if verb == "signal" else ()
            await getattr(sender, verb)(run.id, *arguments)
            await asyncio.sleep(1)
            assert (await run.info()).status == status

    scene.play(main)
    assert scene.called_at == []


def test_mail_that_was_read_before_the_moment_does_not_let_time_decide_after_it(
    scene: Scene,
) -> None:
    workflow = times_out(scene)
    scene.store.answers_late_ms = 10

    async def main() -> None:
        host = Host(fallback_poll_s=None, renew_in_thread=False)
        other = Engine(scene.store.twin(), [workflow], host=host)
        async with scene.engine(workflow) as engine, other, engine.worker():
            run = await engine.start(workflow)
            await asyncio.sleep(5 - (TAKES_MS + 2) / 1000)
            # Read 2 ms before the moment, and answered 8 ms behind it.
            await engine.signal(run.id, "another")
            await asyncio.sleep((TAKES_MS + 1) / 1000)
            await other.signal(run.id, "go", 1)
            assert await run.result() == {"go": 1}

    scene.play(main)


def test_a_run_that_time_may_not_decide_on_is_given_up_and_claimed_again_at_once(
    scene: Scene,
) -> None:
    workflow = times_out(scene)

    async def main() -> None:
        host = Host(fallback_poll_s=None, renew_in_thread=False)
        other = Engine(scene.store.twin(), [workflow], host=host)
        async with scene.engine(workflow) as engine, other, engine.worker():
            run = await engine.start(workflow)
            await asyncio.sleep(5 - 0.002)
            await other.signal(run.id, "go", 1)
            assert await run.result() == {"go": 1}
            record = (await scene.store.get([run.id]))[run.id]
            times = record.epoch // MARKS  # the start, the moment, and again
            assert (times, record.deaths) == (3, 0)

    scene.play(main)
    assert scene.store.verdicts.count(CommitVerdict.UNHEARD) == 1
    assert scene.time.now_ms() - scene.began_ms < 5_000 + 5 * TAKES_MS


@pytest.mark.parametrize("answer_ms", [2, 10, 19])
@pytest.mark.parametrize(
    ("make", "verb", "status"),
    [(sleeps, "cancel", "cancelled"), (times_out, "signal", "completed")],
)
def test_what_a_claim_has_not_read_is_heard_though_its_answer_comes_behind_the_moment(
    scene: Scene,
    make: Callable[[Scene], Workflow[Any, Any]],
    verb: str,
    status: str,
    answer_ms: int,
) -> None:
    workflow = make(scene)

    class Answers(MemoryStore):
        """A claim is answered late."""

        async def claim(self, request: ClaimRequest) -> ClaimBatch:
            batch = await super().claim(request)
            if batch.runs:
                await asyncio.sleep(answer_ms / 1000)
            return batch

        wait_for_work = Slow.wait_for_work

    store = Answers(clock=scene.time.now_ms)

    async def main() -> None:
        host = Host(fallback_poll_s=None, renew_in_thread=False)
        first, other = (Engine(one, [workflow], host=host) for one in (store, store.twin()))
        async with first, other:
            run = await other.start(workflow)
            async with first.worker():
                await asyncio.sleep(1)
            began, *_ = await run.journal()
            moment_ms = ms_of(began) + 5_000
            await asyncio.sleep((moment_ms - scene.time.now_ms() - 1.5) / 1000)
            async with first.worker():  # it claims at once
                await asyncio.sleep(0.001)
                await getattr(other, verb)(run.id, *(("go", 1) if verb == "signal" else ()))
                assert scene.time.now_ms() < moment_ms
                await asyncio.sleep(1)
                assert (await run.info()).status == status

    scene.play(main)
    assert scene.called_at == []


# --- the store's clock counts --------------------------------------------------------------------


@pytest.mark.parametrize("lead_ms", [0.0, 0.5, 3.0, 10.0])
@pytest.mark.parametrize("make", [sleeps, fails_at_first])
def test_a_commit_that_comes_too_early_is_sent_again(
    scene: Scene, make: Callable[[Scene], Workflow[Any, Any]], lead_ms: float
) -> None:
    workflow = make(scene)

    async def main() -> None:
        async with scene.engine(workflow, lead_s=lead_ms / 1000) as engine, engine.worker():
            run = await engine.start(workflow)
            assert (await run.result())["a"] == 1
            began, *_ = await run.journal()
            due_ms = ms_of(began) + 5_000
            # It takes TAKES_MS to the store, and is answered when it has come there.
            expected = due_ms + max(0.0, TAKES_MS - lead_ms, TAKES_MS * (lead_ms > TAKES_MS))
            assert scene.called_at == [pytest.approx(expected, abs=1)]
            assert scene.called_at[0] >= due_ms

    scene.play(main)
    assert scene.store.verdicts.count(CommitVerdict.EARLY) == (lead_ms > TAKES_MS)


def test_what_comes_while_an_early_commit_waits_is_heard(scene: Scene) -> None:
    workflow = times_out(scene)

    async def main() -> None:
        async with scene.engine(workflow, lead_s=0.015) as engine, engine.worker():
            run = await engine.start(workflow)
            await asyncio.sleep(5 - 0.005)
            assert scene.store.verdicts[-1] is CommitVerdict.EARLY
            await engine.signal(run.id, "go", 1)
            assert await run.result() == {"go": 1}

    scene.play(main)


def test_a_worker_that_stops_while_an_early_commit_waits_hands_the_run_back(scene: Scene) -> None:
    workflow = sleeps(scene)

    async def main() -> None:
        async with scene.engine(workflow, lead_s=0.015) as engine:
            async with engine.worker(name="first"):
                run = await engine.start(workflow)
                await asyncio.sleep(5 - 0.005)
                assert scene.store.verdicts[-1] is CommitVerdict.EARLY
            async with engine.worker(name="second"):
                assert (await run.result())["a"] == 1
            assert (await scene.store.get([run.id]))[run.id].deaths == 0

    scene.play(main)


def test_a_run_waits_for_a_clock_that_was_set_back_as_it_would_have_waited_before(
    scene: Scene,
) -> None:
    """It is not held meanwhile."""
    workflow = sleeps(scene)
    back_ms = 0
    scene.store = Slow(lambda: scene.time.now_ms() - back_ms)

    async def main() -> None:
        nonlocal back_ms
        async with scene.engine(workflow) as engine, engine.worker():
            run = await engine.start(workflow)
            await asyncio.sleep(1)
            await until_at_rest(scene, engine, run.id)
            back_ms = 3_000
            await asyncio.sleep(2)
            assert CommitVerdict.EARLY in scene.store.verdicts
            assert (await run.info()).status == "suspended"
            assert (await run.result(timeout=10))["a"] == 1

    scene.play(main)
    assert scene.called_at[0] - back_ms - scene.began_ms == pytest.approx(
        5_000 + 2 * TAKES_MS, abs=1
    )


# --- places --------------------------------------------------------------------------------------


def test_runs_at_rest_take_no_place_of_others(scene: Scene) -> None:
    plain = Workflow("plain").step("a", scene.note)

    @workflow
    async def poll(ctx: WorkflowContext, turn: int) -> None:
        await ctx.sleep(timedelta(milliseconds=NEAR_MS - 1))
        ctx.continue_as_new(turn + 1)

    async def main() -> None:
        async with scene.engine(poll, plain) as engine, engine.worker(concurrency=1):
            await engine.start(poll, 0, priority=1)
            await asyncio.sleep(1)
            began_ms = scene.time.now_ms()
            run = await engine.start(plain)
            assert await run.result(timeout=5) == {"a": 1}
            assert scene.time.now_ms() - began_ms < NEAR_MS

    scene.play(main)
