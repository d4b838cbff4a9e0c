"""Whatever is handed to a running engine: refused by name, nothing written, the worker alive.

Definitions have their own file (``test_bad_definitions``), and so have the user's functions
(``test_bad_callables``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.acceptance.hostile import (
    HUGE,
    INFINITE,
    NAIVE,
    NAN,
    NO_COUNTS,
    NO_DURATIONS,
    NO_NAMES,
    NO_VALUES,
    SURROGATE,
    UNPRINTABLE,
    Hostile,
    cyclic,
)
from tests.acceptance.stage import PATIENCE_S, Stage, count_runs

from durable_core import (
    DurableError,
    EncodingError,
    Engine,
    LimitExceededError,
    Limits,
    StepContext,
    Workflow,
)
from durable_core.testing.memory import MemoryStore

IDS = [*NO_NAMES, Hostile()]
UNKNOWN_IDS = ["nobody", *IDS]
AWARE = datetime(2030, 1, 1, tzinfo=UTC)
WORDS = ["", "maybe", 5, None, [], {}, NAN, HUGE, *UNPRINTABLE]
MOMENTS = ["soon", NAN, [], True, object(), NAIVE, *UNPRINTABLE]
NO_TEXTS = [5, True, 1.5, b"text", [], object(), *UNPRINTABLE]
NO_MAPPINGS = [5, "text", [1], object(), {"": 1}, {5: 1}, {SURROGATE: 1}, {HUGE: 1},
               {"a": SURROGATE}, {"a": HUGE}, {"a": NAN}, {"a": [1]}, {"a": None},
               {"a": Hostile()}, {"a": 10**5_000}]  # fmt: skip
NO_CONNS = [5, "conn", object(), Hostile()]


async def hello(ctx: StepContext[Any, Any]) -> str:
    return "hello"


HEALTHY = Workflow("healthy").step("hello", hello)
WAITING = (
    Workflow("waiting", input=dict[str, int])
    .step("hello", hello)
    .wait_for_signal("go", type=dict[str, int])
)

Call = Callable[[Any, Any], Awaitable[Any]]


async def first(runs: AsyncIterator[Any]) -> Any:
    """The first run listed, if any."""
    async for run in runs:
        return run
    return None


CASES: list[tuple[str, str, Call, list[Any]]] = [
    ("start", "workflow", lambda e, v: e.start(v), [None, 5, object(), Workflow, "", SURROGATE,
                                                    HUGE, Hostile()]),
    ("start", "input", lambda e, v: e.start("healthy", v), NO_VALUES),
    ("start", "input", lambda e, v: e.start("waiting", v), [5, None, {"a": "x"}, [1], {"a": 1.5}]),
    ("start", "id", lambda e, v: e.start("healthy", id=v), IDS[1:]),
    ("start", "queue", lambda e, v: e.start("healthy", queue=v), IDS),
    ("start", "priority", lambda e, v: e.start("healthy", priority=v),
     [None, *NO_COUNTS[2:], 10**30, *UNPRINTABLE]),
    ("start", "delay", lambda e, v: e.start("healthy", delay=v), [*NO_DURATIONS, *UNPRINTABLE]),
    ("start", "deadline", lambda e, v: e.start("healthy", deadline=v), MOMENTS),
    ("start", "attribute", lambda e, v: e.start("healthy", attributes=v), NO_MAPPINGS),
    ("start", "on_duplicate", lambda e, v: e.start("healthy", on_duplicate=v), WORDS),
    ("start", "conn", lambda e, v: e.start("healthy", conn=v), NO_CONNS),
    ("start_many", "", lambda e, v: e.start_many(v), [None, 5, "healthy", [5], [None], [Hostile()],
                                                     [("nope", 1)]]),
    ("signal", "id", lambda e, v: e.signal(v, "go", {"a": 1}), UNKNOWN_IDS),
    ("signal", "name", lambda e, v: e.signal("w", v), IDS),
    ("signal", "go", lambda e, v: e.signal("w", "go", v), [*NO_VALUES, 5, {"a": "x"}]),
    ("signal", "other", lambda e, v: e.signal("w", "other", v), NO_VALUES),
    ("signal", "dedupe_id", lambda e, v: e.signal("w", "go", {"a": 1}, dedupe_id=v), IDS[1:]),
    ("signal", "conn", lambda e, v: e.signal("w", "go", {"a": 1}, conn=v), NO_CONNS),
    ("resume", "id", lambda e, v: e.resume(v), UNKNOWN_IDS),
    ("resume", "data", lambda e, v: e.resume("w", v), NO_VALUES),
    ("resume", "token", lambda e, v: e.resume("w", 1, token=v), [*IDS[1:], "stale"]),
    ("cancel", "id", lambda e, v: e.cancel(v), UNKNOWN_IDS),
    ("cancel", "mode", lambda e, v: e.cancel("w", mode=v), WORDS),
    ("cancel", "reason", lambda e, v: e.cancel("w", reason=v), [*NO_TEXTS, SURROGATE, HUGE]),
    ("cancel", "conn", lambda e, v: e.cancel("w", conn=v), NO_CONNS),
    ("pause", "id", lambda e, v: e.pause(v), UNKNOWN_IDS),
    ("unpause", "id", lambda e, v: e.unpause(v), UNKNOWN_IDS),
    ("retry", "id", lambda e, v: e.retry(v), UNKNOWN_IDS),
    ("fork", "id", lambda e, v: e.fork(v, from_step="hello"), UNKNOWN_IDS),
    ("fork", "step", lambda e, v: e.fork("w", from_step=v), [*IDS, "no-such-step"]),
    ("fork", "id", lambda e, v: e.fork("w", from_step="hello", id=v), [*IDS[1:], "w"]),
    ("get", "id", lambda e, v: e.get(v), UNKNOWN_IDS),
    ("journal", "id", lambda e, v: e.journal(v), UNKNOWN_IDS),
    ("explain", "id", lambda e, v: e.explain(v), UNKNOWN_IDS),
    ("runs", "status", lambda e, v: first(e.runs(status=v)), [5, "", "nope", ["nope"], [5], HUGE,
                                                              [[]], *UNPRINTABLE]),
    ("runs", "workflow", lambda e, v: first(e.runs(workflow=v)), [5, [], "", SURROGATE,
                                                                  *UNPRINTABLE]),
    ("runs", "attribute", lambda e, v: first(e.runs(attributes=v)), NO_MAPPINGS),
    ("runs", "since", lambda e, v: first(e.runs(since=v)), MOMENTS),
    ("runs", "after", lambda e, v: first(e.runs(after=v)), [5, "x", (1,), (NAIVE, "x"),
                                                            ("x", "y"), (AWARE, 5), (AWARE, ""),
                                                            *UNPRINTABLE]),
    ("runs", "limit", lambda e, v: first(e.runs(limit=v)), [*NO_COUNTS[1:], *UNPRINTABLE]),
    ("result", "timeout", lambda e, v: e.run("w").result(timeout=v), [*NO_DURATIONS,
                                                                      *UNPRINTABLE]),
    ("wait", "timeout", lambda e, v: e.run("w").wait(timeout=v), [*NO_DURATIONS, *UNPRINTABLE]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "call", "values"),
    [pytest.param(*case[1:], id=f"{case[0]}-{case[1]}-{n}") for n, case in enumerate(CASES)],
)
async def test_a_bad_argument_is_refused_by_name_and_nothing_is_written(
    stage: Stage, argument: str, call: Call, values: list[Any]
) -> None:
    wrong: list[str] = []
    async with stage.running(HEALTHY, WAITING) as engine:
        run = await engine.start(WAITING, {"a": 1}, id="w")
        await stage.watch.suspended(run.id)
        before = await engine.journal("w"), (await run.info()).waiting_for
        for number, value in enumerate(values):
            wrong += await refused(argument, call, engine, value, number)
        assert wrong == []
        assert await count_runs(engine) == 1
        assert (await engine.journal("w"), (await run.info()).waiting_for) == before
        await run.signal("go", {"b": 2})
        assert (await run.result(timeout=PATIENCE_S))["go"] == {"b": 2}
        healthy = await engine.start(HEALTHY)
        assert await healthy.result(timeout=PATIENCE_S) == {"hello": "hello"}


async def refused(argument: str, call: Call, engine: Engine, value: Any, number: int) -> list[str]:
    """What is wrong with how this value is refused; nothing, it is to be hoped."""
    kind = f"value {number} ({type(value).__name__})"
    try:
        await call(engine, value)
    except DurableError as error:
        text = str(error)
        problems = [
            (argument not in text, f"does not name it: {text[:200]!r}"),
            (len(text) > 2_000, f"has {len(text)} characters"),
            (not text.isprintable(), f"cannot be printed: {text[:200]!r}"),
        ]
        return [f"{kind}: the message {problem}" for there, problem in problems if there]
    except Exception as error:
        return [f"{kind}: raised {type(error).__name__}: {str(error)[:100]}"]
    return [f"{kind}: was accepted"]


WORKER_CASES: list[tuple[str, list[Any]]] = [
    ("concurrency", [None, *NO_COUNTS, *UNPRINTABLE]),
    ("queue", [None, "default", (), [], 5, [5], [""], [None], [SURROGATE], [HUGE], Hostile()]),
    ("lease", [None, 0, *NO_DURATIONS, *UNPRINTABLE]),
    ("grace", [None, *NO_DURATIONS, *UNPRINTABLE]),
    ("name", IDS[1:]),
]


@pytest.mark.parametrize(
    ("argument", "values"), WORKER_CASES, ids=[case[0] for case in WORKER_CASES]
)
async def test_a_worker_refuses_its_bad_arguments(
    stage: Stage, argument: str, values: list[Any]
) -> None:
    async def work(engine: Any, value: Any) -> None:
        async with engine.worker(**{"queues" if argument == "queue" else argument: value}):
            pass

    async with stage.engine(HEALTHY) as engine:
        wrong = [
            problem
            for number, value in enumerate(values)
            for problem in await refused(argument, work, engine, value, number)
        ]
        assert wrong == []
        run = await engine.start(HEALTHY)
        async with engine.worker():
            assert await run.result(timeout=PATIENCE_S) == {"hello": "hello"}


ENGINE_CASES: list[tuple[str, Callable[[Any], Any], list[Any]]] = [
    ("store", lambda v: Engine(v, [HEALTHY]),
     [None, 5, b"sqlite://", [], object(), MemoryStore, Hostile()]),
    ("URL", lambda v: Engine(v, [HEALTHY]),
     ["", "app.db", "mysql://x", "sqlite:app.db", "sqlite:/app.db", "memory", SURROGATE, HUGE,
      "postgresql", "://"]),
    ("workflow", lambda v: Engine("memory://", v),
     [None, 5, "healthy", HEALTHY, [5], [None], ["healthy"], [Workflow], [Hostile()]]),
    ("lifespan", lambda v: Engine("memory://", [HEALTHY], lifespan=v),
     [5, "x", [], object(), Hostile(), lambda a, b, c: None]),
    ("codec", lambda v: Engine("memory://", [HEALTHY], codec=v), [5, "json", [], object()]),
    ("observers", lambda v: Engine("memory://", [HEALTHY], observers=v),
     [None, 5, [5], [None], object(), [Hostile()]]),
    ("limits", lambda v: Engine("memory://", [HEALTHY], limits=v), [5, {}, "x", Hostile()]),
    ("migrate", lambda v: Engine("memory://", [HEALTHY], migrate=v), [5, "yes", [], Hostile()]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "build", "values"), ENGINE_CASES, ids=[case[0] for case in ENGINE_CASES]
)
async def test_an_engine_refuses_its_bad_arguments(
    argument: str, build: Callable[[Any], Any], values: list[Any]
) -> None:
    async def make(_: Any, value: Any) -> None:
        build(value)

    nothing: Any = None
    wrong = [
        problem
        for number, value in enumerate(values)
        for problem in await refused(argument, make, nothing, value, number)
    ]
    assert wrong == []


async def test_a_batch_is_refused_whole(stage: Stage) -> None:
    """One bad start among good ones: none is written, and the error says which it was."""
    async with stage.running(HEALTHY) as engine:
        for bad in (NAN, SURROGATE, cyclic(), object()):
            with pytest.raises(EncodingError):
                await engine.start_many([("healthy", 1), ("healthy", bad), ("healthy", 3)])
        assert await count_runs(engine) == 0


async def test_limits_are_enforced_before_the_write(stage: Stage) -> None:
    """A value just over its limit is refused; one just below is stored and comes back."""
    limits = Limits(input=100, signal=100, inbox=2)
    async with stage.running(HEALTHY, WAITING, limits=limits) as engine:
        with pytest.raises(LimitExceededError, match="input"):
            await engine.start(HEALTHY, "x" * 100)
        fits = await engine.start(HEALTHY, "x" * 98, id="fits")
        assert await fits.result(timeout=PATIENCE_S) == {"hello": "hello"}
        assert (await fits.info()).input == "x" * 98
        run = await engine.start(WAITING, {}, id="w")
        await stage.watch.suspended("w")
        with pytest.raises(LimitExceededError, match="other"):
            await run.signal("other", "x" * 100)
        await run.signal("other", 1)
        await run.signal("other", 2)
        with pytest.raises(LimitExceededError, match=r"(?i)inbox"):
            await run.signal("other", 3)
        assert await count_runs(engine) == 2


async def test_extreme_but_right_arguments_are_taken(stage: Stage) -> None:
    """The edges of what is allowed work: long names, a far deadline, no input, odd characters."""
    odd = "名前 ünï → 'quoted\" \\ %s {x} ; DROP TABLE runs"
    async with stage.running(HEALTHY) as engine:
        run = await engine.start(
            HEALTHY,
            {odd: [odd, -(2**53), 1e308, "", None, {}]},
            id=odd,
            queue="default",
            priority=-5,
            delay=timedelta(0),
            deadline=datetime(9000, 1, 1, tzinfo=UTC),
            attributes={odd: odd, "n": 5, "f": 1.5, "b": True},
        )
        assert await run.result(timeout=PATIENCE_S) == {"hello": "hello"}
        info = await engine.get(odd)
        assert info.input == {odd: [odd, -(2**53), 1e308, "", None, {}]}
        assert info.attributes[odd] == odd
        assert [one.id async for one in engine.runs(attributes={odd: odd})] == [odd]
        long = await engine.start(HEALTHY, id="n" * 200)
        assert await long.result(timeout=PATIENCE_S) == {"hello": "hello"}


@pytest.mark.parametrize("timeout", [None, 0, INFINITE])
async def test_waiting_is_bounded_as_it_was_asked(stage: Stage, timeout: Any) -> None:
    """A time-out of 0 looks once; none at all waits for the end; infinity is no duration."""
    async with stage.engine(HEALTHY) as engine:
        run = await engine.start(HEALTHY)
        if timeout == 0:
            with pytest.raises(TimeoutError):
                await run.result(timeout=0)
        async with engine.worker():
            if timeout is INFINITE:
                with pytest.raises(DurableError, match="timeout"):
                    await run.result(timeout=timeout)
            assert await run.result(timeout=None) == {"hello": "hello"}
        assert await run.result(timeout=0) == {"hello": "hello"}
