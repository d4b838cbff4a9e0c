"""Messages sent at the same time share a transaction, and nothing but that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import aiosqlite
import pytest
from tests.engine.stage import PATIENCE_S, Watch

from durable_core import Engine, Host, Limits, StepContext, Suspend, Workflow
from durable_core.engine.client.gathering import BATCH
from durable_core.engine.client.retrying import PATIENCE_S as PATIENCE_OF_A_CALL_S
from durable_core.errors import (
    DurableError,
    LimitExceededError,
    RunFinishedError,
    RunNotFoundError,
    StoreUnavailableError,
)
from durable_core.store import (
    ClaimRequest,
    DeliverVerdict,
    Delivery,
    Foreseen,
    Kind,
    Message,
    NewRun,
    RunRecord,
)
from durable_core.testing.memory import MemoryStore
from durable_core.testing.virtual_time import VirtualTime
from durable_sqlite import SqliteStore

GONE = StoreUnavailableError("gone")
UNKNOWN = StoreUnavailableError("in doubt", outcome_unknown=True)
REFUSED = DurableError("no")
QUIET = Host(fallback_poll_s=None)

waits = Workflow("waits").wait_for_signal("go")
typed = Workflow("typed").wait_for_signal("go", type=int)


class Watched:
    """What is delivered, call by call. ``gate`` holds every call back until it is set; ``hold``
    says which; ``faults`` are raised in turn, with an unknown outcome only after it was done.
    Of reads the later ones are answered sooner, as several connections may do it."""

    def _watch(self) -> None:
        self.calls: list[list[Message]] = []
        self.options: list[tuple[int, Any]] = []
        self.called = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.hold: Callable[[Message], bool] = lambda message: True
        self.refused = ""
        self.faults: list[StoreUnavailableError] = []
        self.when_done: Callable[[], object] = lambda: None
        self.looks: list[list[str]] = []

    async def get(self, run_ids: Sequence[str]) -> Mapping[str, RunRecord]:
        self.looks.append(list(run_ids))
        turns = max(0, 100 - 10 * len(self.looks))
        found: Mapping[str, RunRecord] = await super().get(run_ids)  # type: ignore[misc]
        for _ in range(turns):
            await asyncio.sleep(0)
        return found

    async def deliver(
        self, messages: Sequence[Message], *, inbox_limit: int = 10_000, conn: Any = None
    ) -> tuple[DeliverVerdict, ...]:
        verdicts: tuple[DeliverVerdict, ...] = await self._watched(
            super().deliver(messages, inbox_limit=inbox_limit, conn=conn),  # type: ignore[misc]
            messages,
            (inbox_limit, conn),
        )
        return verdicts

    async def deliver_and_claim(
        self,
        messages: Sequence[Message],
        request: ClaimRequest,
        *,
        inbox_limit: int = 10_000,
        foreseen: Foreseen | None = None,
    ) -> Delivery:
        delivery: Delivery = await self._watched(
            super().deliver_and_claim(  # type: ignore[misc]
                messages, request, inbox_limit=inbox_limit, foreseen=foreseen
            ),
            messages,
            (inbox_limit, None),
        )
        return delivery

    async def _watched(
        self, call: Coroutine[Any, Any, Any], messages: Sequence[Message], options: tuple[int, Any]
    ) -> Any:
        self.calls.append(list(messages))
        self.options.append(options)
        self.called.set()
        with closing(call):
            if any(map(self.hold, messages)):
                await self.gate.wait()
            if self.refused and self.refused in [message.name for message in messages]:
                raise REFUSED
            fault = self.faults.pop(0) if self.faults else None
            if fault is not None and not fault.outcome_unknown:
                raise fault
            answer = await call
        if fault is not None:
            raise fault
        self.when_done()
        return answer


class InMemory(Watched, MemoryStore):
    """With a clock that may be virtual."""

    def __init__(self, time: VirtualTime | None = None) -> None:
        super().__init__(clock=None if time is None else time.now_ms)
        self._watch()

    async def wait_for_work(self, timeout_ms: int | None) -> bool:
        """Changes are not listened to: what is told, is told by word of mouth."""
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


class InFile(Watched, SqliteStore):
    """A database in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, synchronous="OFF")
        self._watch()

    async def wait_for_work(self, timeout_ms: int | None) -> bool:
        """As ``InMemory`` does it."""
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


AnyStore: TypeAlias = InMemory | InFile


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AnyStore:
    """Unopened."""
    return InMemory() if request.param == "memory" else InFile(tmp_path / "signals.db")


def names_of(store: AnyStore) -> list[list[str]]:
    """The names of the messages of each call."""
    return [[message.name for message in call] for call in store.calls]


async def started(engine: Engine, count: int) -> list[str]:
    """So many runs that wait."""
    runs = await engine.start_many([(waits, None)] * count)
    return [run.id for run in runs]


async def inboxes(engine: Engine) -> dict[str, list[str]]:
    """The names of the messages each run has, in their order."""
    request = ClaimRequest(
        worker="reader",
        lease_ms=60_000,
        limit=2_000,
        queues=("default",),
        kinds=(Kind(workflow=waits.name, version=waits.version, fingerprint=waits.fingerprint),),
    )
    batch = await engine._shared.store.claim(request)
    return {one.run.run_id: [message.name for message in one.inbox] for one in batch.runs}


async def send(engine: Engine, run_id: str, names: Iterable[str], **options: Any) -> list[Any]:
    """Signals at the same time; what came of each."""
    return await asyncio.gather(
        *(engine.signal(run_id, name, **options) for name in names), return_exceptions=True
    )


# --- company -----------------------------------------------------------------------------------


async def test_signals_at_one_time_are_few_calls_and_all_arrive(store: AnyStore) -> None:
    count = 2 * BATCH + 50
    async with Engine(store, [waits]) as engine:
        ids = await started(engine, count)
        await asyncio.gather(*(engine.signal(run_id, "go", 1) for run_id in ids))
        assert [len(call) for call in store.calls] == [BATCH, BATCH, 50]
        assert await inboxes(engine) == {run_id: ["go"] for run_id in ids}


async def test_a_signal_alone_waits_for_no_company(store: AnyStore) -> None:
    async with Engine(store, [waits]) as engine:
        (run_id,) = await started(engine, 1)
        await engine.signal(run_id, "a")
        await engine.signal(run_id, "b")
        assert names_of(store) == [["a"], ["b"]]


async def test_signals_to_one_run_arrive_in_the_order_in_which_they_were_sent(
    store: AnyStore,
) -> None:
    async with Engine(store, [waits]) as engine:
        (run_id,) = await started(engine, 1)
        names = [f"s{index}" for index in range(BATCH + 50)]
        store.gate.clear()
        first = asyncio.ensure_future(send(engine, run_id, names))
        await store.called.wait()
        later = asyncio.ensure_future(send(engine, run_id, ["later", "last"]))
        await asyncio.sleep(0)
        store.gate.set()
        await asyncio.gather(first, later)
        assert await inboxes(engine) == {run_id: [*names, "later", "last"]}


async def test_signals_whose_run_is_looked_at_keep_their_order_and_look_together(
    store: AnyStore,
) -> None:
    async with Engine(store, [typed]) as engine:
        run, other = await engine.start_many([(typed, None)] * 2)
        numbers = list(range(BATCH + 10))
        await asyncio.gather(
            *(run.signal("go", number) for number in numbers), other.signal("go", -1)
        )
        sent = [message for call in store.calls for message in call]
        payloads = [message.payload for message in sent if message.run_id == run.id]
        assert [payload and payload.data for payload in payloads] == [
            str(number).encode() for number in numbers
        ]
        assert store.looks == [[run.id], [run.id, other.id]]
        assert len(store.calls) <= 4


async def test_each_has_its_own_answer(store: AnyStore) -> None:
    async with Engine(store, [waits], limits=Limits(inbox=1)) as engine:
        ended, full, free = await started(engine, 3)
        async with engine.worker():
            await engine.cancel(ended)
            await engine.end_of(ended, timeout=PATIENCE_S)
        await engine.signal(full, "first")
        store.calls.clear()
        answers = await asyncio.gather(
            *(engine.signal(run_id, "go") for run_id in (ended, full, free, "nobody")),
            return_exceptions=True,
        )
        assert len(store.calls) == 1
        kinds = [type(answer) for answer in answers]
        assert kinds == [RunFinishedError, LimitExceededError, type(None), RunNotFoundError]


async def test_only_messages_of_a_kind_share_a_call(store: AnyStore) -> None:
    async def ask(ctx: StepContext[Any, Any]) -> Suspend:
        return Suspend("?")

    asks = Workflow("asks").step("ask", ask)
    watch = Watch()
    async with Engine(store, [waits, asks], host=QUIET, observers=[watch]) as engine:
        async with engine.worker():
            asked = await engine.start_many([(asks, None)] * 2)
            tokens = [await open_token(engine, watch, run.id) for run in asked]
        ids = await started(engine, 2)
        store.calls.clear()
        store.options.clear()
        await asyncio.gather(
            *(engine.signal(run_id, "plain") for run_id in ids),
            *(engine.signal(run_id, "keyed", dedupe_id="k") for run_id in ids),
            *(
                engine.resume(run.id, 1, token=token)
                for run, token in zip(asked, tokens, strict=True)
            ),
            *(engine.pause(run_id) for run_id in ids),
            *(engine.retry(run_id) for run_id in ids),
        )
        spare, plain = sorted({limit for limit, _ in store.options}, reverse=True)
        kinds = [
            (limit, {(message.kind, message.dedupe is not None) for message in call})
            for call, (limit, _) in zip(store.calls, store.options, strict=True)
        ]
        assert all(
            each in kinds
            for each in (
                (plain, {("signal", False)}),
                (plain, {("signal", True)}),
                (spare, {("resume", False)}),
                (spare, {("pause", False)}),
                (spare, {("retry", False)}),
            )
        )
        assert all(len(kind) == 1 for _, kind in kinds)
        # Who retries a run looks at it first, so those may come one by one; a resume is alone.
        sizes = {call[0].kind: len(call) for call in store.calls}
        assert sizes["signal"] == sizes["pause"] == 2
        assert sizes["resume"] == 1
        assert not [key for key in engine._outbox._groups if key[2]], "nothing is kept of them"


async def open_token(engine: Engine, watch: Watch, run_id: str) -> str:
    """The token of the run's suspension, when it is open."""
    await watch.until("RunSuspended", run_id)
    (wait,) = (await engine.get(run_id)).waiting_for
    assert wait.token is not None
    return wait.token


async def test_who_waits_for_a_locked_run_holds_up_nobody_else(store: AnyStore) -> None:
    async with Engine(store, [waits]) as engine:
        run_id, other = await started(engine, 2)
        store.gate.clear()
        store.hold = lambda message: message.token is not None and message.run_id == run_id
        resuming = asyncio.create_task(engine.resume(run_id, 1, token="t"))
        await store.called.wait()
        await asyncio.wait_for(engine.signal(run_id, "go"), PATIENCE_S)
        await asyncio.wait_for(engine.pause(run_id), PATIENCE_S)
        with pytest.raises(DurableError):  # nor was this token ever that run's
            await asyncio.wait_for(engine.resume(other, 1, token="t"), PATIENCE_S)
        assert not resuming.done()
        store.gate.set()
        await asyncio.wait([resuming])
        assert isinstance(resuming.exception(), DurableError)  # the token was never the run's


async def test_in_the_callers_transaction_a_signal_keeps_no_company(tmp_path: Path) -> None:
    store = InFile(tmp_path / "signals.db")
    async with Engine(store, [waits]) as engine:
        (run_id,) = await started(engine, 1)
        async with aiosqlite.connect(tmp_path / "signals.db") as conn:
            await conn.execute("BEGIN")
            for name in "ab":
                await engine.signal(run_id, name, conn=conn)
            await conn.rollback()
        assert [
            (len(call), given) for call, (_, given) in zip(store.calls, store.options, strict=True)
        ] == [(1, conn), (1, conn)]
        assert await inboxes(engine) == {run_id: []}


# --- errors ------------------------------------------------------------------------------------


async def test_a_message_the_store_refuses_fails_alone(store: AnyStore) -> None:
    async with Engine(store, [waits]) as engine:
        (run_id,) = await started(engine, 1)
        store.refused = "bad"
        assert await send(engine, run_id, ["a", "bad", "c"]) == [None, REFUSED, None]
        assert names_of(store) == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]
        assert await inboxes(engine) == {run_id: ["a", "c"]}


async def test_signals_without_a_key_are_never_sent_again_in_doubt(store: AnyStore) -> None:
    async with Engine(store, [waits]) as engine:
        (run_id,) = await started(engine, 1)
        store.faults = [UNKNOWN]
        assert await send(engine, run_id, "abc") == [UNKNOWN] * 3
        assert names_of(store) == [["a", "b", "c"]]
        assert await inboxes(engine) == {run_id: ["a", "b", "c"]}


async def test_signals_without_a_key_are_sent_again_when_they_certainly_did_not_come(
    store: AnyStore,
) -> None:
    async with Engine(store, [waits]) as engine:
        (run_id,) = await started(engine, 1)
        store.faults = [GONE]
        assert await send(engine, run_id, "ab") == [None] * 2
        assert names_of(store) == [["a", "b"]] * 2
        assert await inboxes(engine) == {run_id: ["a", "b"]}


async def test_signals_with_a_key_are_sent_again_and_come_once(store: AnyStore) -> None:
    async with Engine(store, [waits]) as engine:
        (run_id,) = await started(engine, 1)
        store.faults = [UNKNOWN]
        assert await send(engine, run_id, "ab", dedupe_id="k") == [None] * 2
        assert names_of(store) == [["a", "b"]] * 2
        assert await inboxes(engine) == {run_id: ["a", "b"]}


# --- cancellation ------------------------------------------------------------------------------


class Neighbour:
    """A worker that holds one run, and keeps what it is told."""

    def __init__(self, held: str) -> None:
        self.told: list[str] = []
        self._held = held

    def wake(self) -> None:
        """Runs may be due."""
        self.told.append("wake")

    def holds(self, run_id: str) -> bool:
        """Whether it is the one."""
        return run_id == self._held

    def mail(self, run_ids: Iterable[str]) -> None:
        """Messages were delivered."""
        self.told.extend(run_ids)

    def keep_places(self, news: Sequence[NewRun]) -> None:
        """It takes no new runs."""

    def keep_seats(self, count: int) -> None:
        """Nor those that a message wakes."""


async def test_whoever_stops_waiting_changes_nothing_and_workers_are_told(
    store: AnyStore,
) -> None:
    async with Engine(store, [waits]) as engine:
        first, second = await started(engine, 2)
        store.gate.clear()
        impatient = asyncio.create_task(engine.signal(first, "go"))
        patient = asyncio.create_task(engine.signal(second, "go"))
        await store.called.wait()
        impatient.cancel()
        await asyncio.wait([impatient])
        assert impatient.cancelled()
        neighbour = Neighbour(first)
        engine._shared.local.join(neighbour)
        store.gate.set()
        await patient
        assert neighbour.told == [first, second, "wake"]
        assert await inboxes(engine) == {first: ["go"], second: ["go"]}


async def test_workers_are_told_also_where_the_sender_is_cancelled_by_the_answer(
    store: AnyStore,
) -> None:
    async with Engine(store, [waits]) as engine:
        (run_id,) = await started(engine, 1)
        neighbour = Neighbour(run_id)
        engine._shared.local.join(neighbour)
        sending = asyncio.create_task(engine.signal(run_id, "go"))
        # Behind the answer, before the sender hears of it.
        store.when_done = lambda: asyncio.get_running_loop().call_soon(sending.cancel)
        await asyncio.wait([sending])
        assert sending.cancelled()
        assert neighbour.told == [run_id]
        assert await inboxes(engine) == {run_id: ["go"]}


async def test_workers_are_told_also_of_what_is_in_doubt(store: AnyStore) -> None:
    async with Engine(store, [waits]) as engine:
        (run_id,) = await started(engine, 1)
        store.gate.clear()
        store.faults = [UNKNOWN]
        sending = asyncio.create_task(engine.signal(run_id, "go"))
        other = asyncio.create_task(engine.signal(run_id, "go"))
        await store.called.wait()
        sending.cancel()
        await asyncio.wait([sending])
        neighbour = Neighbour(run_id)
        engine._shared.local.join(neighbour)
        store.gate.set()
        await asyncio.wait([other])
        assert other.exception() is UNKNOWN
        assert neighbour.told == [run_id]


async def test_a_held_run_takes_a_signal_that_came_behind_its_senders_cancellation(
    store: AnyStore,
) -> None:
    engine = Engine(store, [waits], host=QUIET)
    async with engine, engine.worker():
        run = await engine.start(waits)
        store.gate.clear()
        sending = asyncio.create_task(run.signal("go", 7))
        await store.called.wait()
        sending.cancel()
        await asyncio.wait([sending])
        store.gate.set()
        assert await run.result(timeout=PATIENCE_S) == {"go": 7}


# --- the end of the engine ---------------------------------------------------------------------


async def test_what_is_on_its_way_arrives_before_the_engine_is_closed(store: AnyStore) -> None:
    engine = Engine(store, [waits])
    await engine.__aenter__()
    (run_id,) = await started(engine, 1)
    store.gate.clear()
    sending = asyncio.create_task(engine.signal(run_id, "first"))
    await store.called.wait()
    behind = asyncio.create_task(engine.signal(run_id, "second"))
    cancelled = asyncio.create_task(engine.signal(run_id, "third"))
    await asyncio.sleep(0)
    cancelled.cancel()
    closing = asyncio.create_task(engine.__aexit__(None, None, None))
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.wait_for(closing, PATIENCE_S)
    assert sending.done() and behind.done()
    assert asyncio.all_tasks() - {sending, behind, cancelled} == {asyncio.current_task()}
    assert sending.exception() is None and behind.exception() is None
    async with engine:
        assert await inboxes(engine) == {run_id: ["first", "second", "third"]}


def test_a_store_that_says_nothing_does_not_keep_the_engine_open() -> None:
    time = VirtualTime()

    async def main() -> None:
        store = InMemory(time)
        engine = Engine(store, [waits], host=Host(renew_in_thread=False))
        await engine.__aenter__()
        (run_id,) = await started(engine, 1)
        store.gate.clear()
        written = asyncio.create_task(engine.signal(run_id, "a"))
        await store.called.wait()
        gathered = asyncio.create_task(engine.signal(run_id, "b"))
        await asyncio.sleep(0)
        began = time.seconds
        await engine.__aexit__(None, None, None)
        assert time.seconds - began == pytest.approx(PATIENCE_OF_A_CALL_S)
        await asyncio.wait([written, gathered])
        errors = [written.exception(), gathered.exception()]
        assert all(isinstance(error, StoreUnavailableError) for error in errors)
        assert [getattr(error, "outcome_unknown", None) for error in errors] == [True, False]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert names_of(store) == [["a"]]

    with asyncio.Runner(loop_factory=time.loop) as runner:
        runner.run(main())
