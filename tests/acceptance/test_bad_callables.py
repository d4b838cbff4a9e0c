"""Whatever a user's function does is an outcome of its own run, and of no other.

Every place where the engine calls the user's code is made to raise everything there is to raise,
and to give everything that cannot be used; each time a healthy run, on the same worker and at the
same time, completes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import attrs
import pytest
from tests.acceptance.beside import (
    ERRORS,
    HEALTHY,
    Does,
    Odd,
    Unprintable,
    async_of,
    causes,
    end_beside_a_healthy_run,
    giving,
    hello,
    plain_of,
    raising,
)
from tests.acceptance.hostile import (
    HUGE,
    INFINITE,
    LONG_INT,
    NAIVE,
    NAN,
    NO_VALUES,
    SURROGATE,
    Hostile,
    cyclic,
    endless,
)
from tests.acceptance.stage import ONCE, PATIENCE_S, Stage

from durable_core import (
    Branch,
    Retry,
    RunFailed,
    StepContext,
    Suspend,
    Undo,
    Workflow,
)

Ctx = StepContext[Any, Any]
W: Any = Workflow


async def each(ctx: Ctx, value: Any) -> Any:
    return value


def one(ctx: Ctx) -> list[int]:
    return [1]


def bad(version: str) -> Any:
    """A workflow to be made bad; the version tells several of them apart."""
    return W("bad", version=version)


PLACES: dict[str, Callable[..., Any]] = {
    "select": lambda do, v="1": bad(v).route("r", lambda c: do(), {"a": hello}),
    "items": lambda do, v="1": bad(v).map("m", lambda c: do(), each),
    "initial": lambda do, v="1": bad(v).loop("l", each, initial=lambda c: do()),
    "until": lambda do, v="1": bad(v).loop("l", each, until=lambda r: do(), max_iterations=2),
    "feedback": lambda do, v="1": bad(v).loop("l", each, feedback=lambda r: do(), max_iterations=2),
    "duration": lambda do, v="1": bad(v).sleep("s", lambda c: do()),
    "signal": lambda do, v="1": bad(v).wait_for_signal("s", lambda c: do()),
    "input": lambda do, v="1": bad(v).child("c", HEALTHY, input=lambda c: do()),
    "returns": lambda do, v="1": bad(v).step("a", hello).returns(lambda c: do()),
}
"""Functions that shape a run, one a place."""


HANDLERS: dict[str, Callable[..., Any]] = {
    "step": lambda do, v="1": bad(v).step("a", async_of(do), retry=ONCE),
    "step in a thread": lambda do, v="1": bad(v).step("a", plain_of(do), retry=ONCE),
    "entry": lambda do, v="1": bad(v).parallel(
        "p", {"a": Branch(async_of(do), retry=ONCE), "b": hello}
    ),
    "item": lambda do, v="1": bad(v).map("m", one, async_of(do), retry=ONCE),
    "item in a thread": lambda do, v="1": bad(v).map("m", one, plain_of(do), retry=ONCE),
    "branch": lambda do, v="1": bad(v).route(
        "r", lambda c: "a", {"a": Branch(async_of(do), retry=ONCE)}
    ),
    "iteration": lambda do, v="1": bad(v).loop("l", async_of(do), retry=ONCE, max_iterations=2),
}
"""Handlers, which are called as attempts."""


@pytest.mark.parametrize("place", [*PLACES, *HANDLERS])
async def test_what_is_raised_fails_the_run_that_raised_it(stage: Stage, place: str) -> None:
    """All errors at once, one a run, among healthy runs: each run comes to its own end."""
    build = (PLACES | HANDLERS)[place]
    flows = {error: build(raising(make), error) for error, make in ERRORS.items()}
    async with stage.running(HEALTHY, *flows.values()) as engine:
        runs = {}
        healthy = []
        for error, workflow in flows.items():
            runs[error] = await engine.start(workflow, 1)
            healthy.append(await engine.start(HEALTHY))
        for run in healthy:
            assert await run.result(timeout=PATIENCE_S) == {"a": "hello", "b": "hello"}
        for error, run in runs.items():
            info = await run.wait(timeout=PATIENCE_S)
            assert (error, info.status) == (error, "failed")
            assert info.failure is not None
            told = {info.failure.type, info.failure.cause and info.failure.cause.type}
            assert type(ERRORS[error]()).__name__ in told  # Python wraps StopIteration itself
            assert len(info.failure.message) <= 20_000
            assert str(info.failure).encode()
            assert stage.watch.counts["RunClaimed", run.id] == 1


@pytest.mark.parametrize("error", ERRORS)
async def test_a_raising_compensator_fails_the_compensation_alone(stage: Stage, error: str) -> None:
    undone: list[str] = []

    async def undo(ctx: Ctx) -> None:
        undone.append(ctx.unit)

    bad = (
        W("bad")
        .step("a", hello, compensate=undo)
        .step("b", hello, compensate=Undo(async_of(raising(ERRORS[error])), retry=ONCE))
        .step("c", hello, compensate=Undo(plain_of(raising(ERRORS[error])), retry=ONCE))
        .step("d", async_of(raising(lambda: ValueError("the cause"))), retry=ONCE)
    )
    async with stage.running(HEALTHY, bad) as engine:
        healthy, run = await engine.start(HEALTHY), await engine.start(bad)
        with pytest.raises(RunFailed, match="the cause") as caught:
            await run.result(timeout=PATIENCE_S)
        assert await healthy.result(timeout=PATIENCE_S)
        assert await run.status() == "compensation_failed"
    assert caught.value.not_compensated == ("b", "c")
    assert undone == ["a"]


@pytest.mark.parametrize("error", ERRORS)
async def test_a_raising_retry_predicate_ends_the_attempts(stage: Stage, error: str) -> None:
    """There is no second attempt; the failure is the mistake, and the attempt's error its cause."""
    tries: list[int] = []

    async def handler(ctx: Ctx) -> None:
        tries.append(ctx.attempt)
        raise ValueError("the cause")

    def predicate(raised: BaseException) -> bool:
        raise ERRORS[error]()

    retry = Retry(max_attempts=5, initial=0, on=predicate)
    bad = W("bad").step("a", handler, retry=retry)
    status, failure = await end_beside_a_healthy_run(stage, bad)
    assert (status, tries) == ("failed", [1])
    if error != "circular":  # which has a cause of its own
        assert "ValueError: the cause" in causes(failure)


async def test_a_retried_exotic_error_is_retried(stage: Stage) -> None:
    """Errors whose text raises count as attempts like any other."""
    tries: list[int] = []

    async def handler(ctx: Ctx) -> str:
        tries.append(ctx.attempt)
        if ctx.attempt < 3:
            raise Unprintable
        return "done"

    wf = W("bad").step("a", handler, retry=Retry(initial=0, jitter=0))
    assert await stage.result(wf) == {"a": "done"}
    assert tries == [1, 2, 3]


# --- what cannot be used --------------------------------------------------------------------------


class NoTruth:
    def __bool__(self) -> bool:
        raise Odd


def interrupted() -> Iterator[int]:
    yield 1
    raise Odd


async def awaitable() -> str:
    return "a"


def coroutine() -> Any:
    return awaitable()


GIVEN: dict[str, list[Any]] = {
    "select": [None, 5, "", "nope", [], {}, NAN, SURROGATE, HUGE, Hostile()],
    "items": [None, 5, "text", b"", {"a": 1}, object(), [NAN], [object()], cyclic(), [HUGE] * 2,
              [SURROGATE]],
    "initial": NO_VALUES,
    "until": [],
    "feedback": NO_VALUES,
    "duration": [None, -1, NAN, INFINITE, -INFINITE, "soon", NAIVE, True, [], timedelta(-1),
                 timedelta.max, 10**30, LONG_INT, Hostile(), datetime.max],
    "signal": [None, 5, "", " ", SURROGATE, HUGE, "a\x00", [], Hostile()],
    "input": NO_VALUES,
    "returns": NO_VALUES,
}  # fmt: skip
"""What each place cannot use."""

DONE: dict[str, list[Does]] = {"until": [NoTruth, Hostile], "items": [endless, interrupted]}
"""What goes wrong only when it is used."""


@pytest.mark.parametrize("place", PLACES)
async def test_what_cannot_be_used_fails_the_run_that_gave_it(stage: Stage, place: str) -> None:
    wrong = []
    useless = [*map(giving, GIVEN[place]), *DONE.get(place, []), coroutine]
    for number, does in enumerate(useless):
        status, failure = await end_beside_a_healthy_run(stage, PLACES[place](does), 1)
        if status != "failed" or not failure.type:
            wrong.append(f"value {number}: {status}, {failure}")
    assert wrong == []


@pytest.mark.parametrize("place", HANDLERS)
async def test_a_result_that_cannot_be_stored_fails_its_unit(stage: Stage, place: str) -> None:
    """Once, without a retry: the same value would come again. The failure names the unit."""
    calls: list[int] = []
    wrong = []
    for number, value in enumerate(NO_VALUES):

        def does(value: Any = value, number: int = number) -> Any:
            calls.append(number)
            return value

        status, failure = await end_beside_a_healthy_run(stage, HANDLERS[place](does), 1)
        if status != "failed" or failure.type not in ("EncodingError", "LimitExceededError"):
            wrong.append(f"value {number}: {status}, {failure}")
    assert wrong == []
    assert calls == list(range(len(NO_VALUES)))


async def test_a_result_that_cannot_be_stored_is_not_tried_again(stage: Stage) -> None:
    calls: list[int] = []

    async def handler(ctx: Ctx) -> Any:
        calls.append(ctx.attempt)
        return {"deep": [object()]}

    bad = W("bad").step("a", handler, retry=Retry(max_attempts=5, initial=0))
    status, failure = await end_beside_a_healthy_run(stage, bad)
    assert (status, failure.type, calls) == ("failed", "EncodingError", [1])
    assert "the result of a " in failure.message
    assert "deep" in failure.message


@attrs.frozen
class Typed:
    n: int


async def wrong_type(ctx: Ctx) -> Typed:
    return "no Typed at all"  # type: ignore[return-value]  # what is tested


async def test_a_result_of_another_type_than_annotated_fails_its_unit(stage: Stage) -> None:
    status, failure = await end_beside_a_healthy_run(stage, W("bad").step("a", wrong_type))
    assert (status, failure.type) == ("failed", "EncodingError")
    assert "Typed" in failure.message


@pytest.mark.parametrize("number", range(len(NO_VALUES)))
async def test_a_snapshot_that_cannot_be_stored_fails_its_unit(stage: Stage, number: int) -> None:
    bad = W("bad").step("a", async_of(giving(Suspend(NO_VALUES[number]))), retry=ONCE)
    status, failure = await end_beside_a_healthy_run(stage, bad)
    assert status == "failed"
    assert failure.type in ("EncodingError", "LimitExceededError")


async def test_changing_what_was_handed_in_changes_nothing(stage: Stage) -> None:
    """Handlers get copies: neither input, results, items nor values can be changed for others."""

    async def make(ctx: Ctx) -> dict[str, list[int]]:
        ctx.input["changed"] = True
        return {"list": [1]}

    async def spoil(ctx: Ctx) -> None:
        ctx.results["make"]["list"].append(2)
        with pytest.raises(TypeError):
            ctx.results["make"] = None  # type: ignore[index]  # what is tested

    async def look(ctx: Ctx) -> list[Any]:
        return [ctx.input, ctx.results["make"]]

    wf = W("w").step("make", make).step("spoil", spoil).step("look", look)
    assert (await stage.result(wf, {"n": 1}))["look"] == [{"n": 1}, {"list": [1]}]


async def test_a_context_used_where_it_does_not_belong_fails_the_run(stage: Stage) -> None:
    """``ctx.item`` outside a map, ``ctx.attempt`` in ``select``: a failure that says where."""
    for bad in (
        W("bad").step("a", plain_of_context("item"), retry=ONCE),
        W("bad").step("a", plain_of_context("iteration"), retry=ONCE),
        W("bad").step("a", plain_of_context("value"), retry=ONCE),
        W("bad").step("a", plain_of_context("conn"), retry=ONCE),
        W("bad").step("a", plain_of_context("no_such_thing"), retry=ONCE),
        W("bad").route("a", plain_of_context("attempt"), {"a": hello}),
        W("bad").route("a", plain_of_context("deps"), {"a": hello}),
    ):
        status, failure = await end_beside_a_healthy_run(stage, bad)
        assert (status, failure.type) == ("failed", "AttributeError")


def plain_of_context(attribute: str) -> Does:
    def handler(ctx: Ctx) -> Any:
        return getattr(ctx, attribute)

    return handler
