"""Bodies: what a workflow written as code comes to; each test one sentence about `ctx`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import attrs
import pytest

from durable_core import (
    TIMED_OUT,
    Failure,
    Limits,
    Retry,
    StepContext,
    StepFailed,
    Suspend,
    TerminalError,
    Undo,
    Workflow,
    WorkflowContext,
    current_step,
    step,
    workflow,
)
from durable_core.testing import Faults, Operate, simulate

ONCE = Retry(max_attempts=1)


@attrs.frozen
class Order:
    item: str
    count: int = 1


class Book:
    """What the steps did, in order; the deps of a simulation."""

    def __init__(self) -> None:
        self.lines: list[str] = []


def note(line: str) -> None:
    current_step().deps.lines.append(line)


async def undo(ctx: StepContext[Book, Any]) -> None:
    ctx.deps.lines.append(f"undo {ctx.unit} of {ctx.value} called with {ctx.args}")


@step(compensate=undo)
async def reserve(item: str) -> str:
    note(f"reserve {item}")
    return f"held {item}"


@step(compensate=Undo(undo), retry=ONCE)
def pay(amount: int) -> int:
    note(f"pay {amount}")
    return amount


@step(retry=ONCE)
async def fail(why: str) -> None:
    raise ValueError(why)


@step
def double(n: int) -> int:
    return n * 2


def paths(sim: Any) -> list[str]:
    return [f"{entry.kind} {entry.unit}" for entry in sim.journal]


def test_steps_run_in_order_and_the_body_gives_the_result() -> None:
    @workflow
    async def order(ctx: WorkflowContext[Book], given: Order) -> Order:
        held = await ctx.step(reserve, given.item)
        paid = await ctx.step(pay, amount=given.count)
        return Order(held, paid)

    sim = simulate(order, Order("tea", 3), deps=Book)
    assert sim.result == Order("held tea", 3)
    assert sim.deps.lines == ["reserve tea", "pay 3"]
    assert paths(sim) == ["unit_completed reserve", "unit_completed pay", "run_completed "]


def test_a_step_is_a_unit_with_a_context_of_its_own() -> None:
    seen: dict[str, Any] = {}

    @step
    async def look() -> None:
        ctx = current_step()
        seen.update(
            unit=ctx.unit, attempt=ctx.attempt, key=ctx.idempotency_key, workflow=ctx.workflow
        )

    @workflow
    async def looking(ctx: WorkflowContext) -> None:
        await ctx.step(look)

    assert simulate(looking, None).status == "completed"
    assert seen == {"unit": "look", "attempt": 1, "key": "run:1:look", "workflow": "looking"}


def test_keys_are_claimed_at_the_call_and_numbered_by_its_order() -> None:
    @workflow
    async def three(ctx: WorkflowContext) -> list[int]:
        first, second = ctx.step(double, 1), ctx.step(double, 2)
        late = await second
        return [await first, late, await ctx.step(double.with_options(key="third"), 3)]

    sim = simulate(three, None)
    assert sim.result == [2, 4, 6]
    assert paths(sim)[:3] == [
        "unit_completed double#2",
        "unit_completed double",
        "unit_completed third",
    ]


def test_a_plain_function_is_a_step_with_the_default_policies() -> None:
    def halve(n: int) -> int:
        return n // 2

    @workflow
    async def plain(ctx: WorkflowContext, n: int) -> int:
        return await ctx.step(halve, n)

    assert simulate(plain, 8).result == 4


def test_a_failed_step_raises_at_its_await_and_may_be_caught() -> None:
    @workflow
    async def careful(ctx: WorkflowContext) -> str:
        try:
            await ctx.step(fail, "no tea")
        except StepFailed as error:
            assert isinstance(error.failure, Failure)
            return f"{error.step}: {error.failure}"
        return "?"

    assert simulate(careful, None).result == "fail: ValueError: no tea"


def test_an_exception_undoes_what_was_committed_in_reverse() -> None:
    @workflow
    async def order(ctx: WorkflowContext[Book], given: Order) -> None:
        await ctx.step(reserve, given.item)
        ctx.compensate(returned, "the box")
        await ctx.step(pay, 7)
        raise TerminalError("out of paper")

    def returned(what: str) -> None:
        note(f"return {what}")

    sim = simulate(order, Order("tea"), deps=Book)
    assert (sim.status, str(sim.failure)) == ("failed", "TerminalError: out of paper")
    assert sim.deps.lines == [
        "reserve tea",
        "pay 7",
        "undo pay of 7 called with (7,)",
        "return the box",
        "undo reserve of held tea called with ('tea',)",
    ]


def test_an_uncaught_step_failure_is_the_failure_of_the_run() -> None:
    @workflow
    async def order(ctx: WorkflowContext) -> None:
        await ctx.step(fail, "broken")

    assert str(simulate(order, None).failure) == "ValueError: broken"


def test_all_runs_everything_to_its_end_and_reports_the_first_in_order() -> None:
    @workflow
    async def several(ctx: WorkflowContext[Book]) -> Any:
        try:
            await ctx.all(
                ctx.step(fail, "first"), ctx.step(reserve, "tea"), ctx.step(fail, "second")
            )
        except StepFailed as error:
            return [error.step, str(error.failure)]

    sim = simulate(several, None, deps=Book)
    assert sim.result == ["fail", "ValueError: first"]
    assert sim.deps.lines == ["reserve tea"]


def test_settle_gives_failures_in_their_places() -> None:
    @workflow
    async def several(ctx: WorkflowContext) -> list[str]:
        ends = await ctx.settle(ctx.step(double, 2), ctx.step(fail, "no"))
        return [str(end) for end in ends]

    assert simulate(several, None).result == ["4", "ValueError: no"]


def test_all_and_settle_of_nothing_are_empty() -> None:
    @workflow
    async def none(ctx: WorkflowContext) -> list[Any]:
        nothing: list[Any] = await ctx.all(*[])
        return [nothing, await ctx.settle()]

    assert simulate(none, None).result == [[], []]


def test_max_concurrency_bounds_what_runs_at_once() -> None:
    @workflow
    async def narrow(ctx: WorkflowContext, n: int) -> list[int]:
        return await ctx.all(*(ctx.step(double, i) for i in range(n)), max_concurrency=2)

    assert simulate(narrow, 7).result == [0, 2, 4, 6, 8, 10, 12]


def test_the_first_to_end_wins_and_the_others_are_cancelled() -> None:
    @workflow
    async def racing(ctx: WorkflowContext[Book]) -> list[Any]:
        race = ctx.first(ctx.sleep(3600), ctx.step(reserve, "tea"))
        return [await race, race.winner]

    sim = simulate(racing, None, deps=Book)
    assert sim.result == ["held tea", 1]
    assert "unit_cancelled sleep" in paths(sim)


def test_everything_may_race_a_time_limit_and_races_may_be_gathered() -> None:
    @workflow
    async def limited(ctx: WorkflowContext) -> list[Any]:
        work = ctx.all(ctx.step(double, 1), ctx.wait_for_signal("never"))
        race = ctx.first(work, ctx.sleep(60))
        await race
        both = await ctx.all(
            ctx.first(ctx.step(double, 2), ctx.sleep(60)), ctx.settle(ctx.step(fail, "x"))
        )
        return [race.winner, both[0], str(both[1][0])]

    assert simulate(limited, None).result == [1, 4, "ValueError: x"]


def test_sleeps_last_by_the_clock_of_the_store() -> None:
    @workflow
    async def sleepy(ctx: WorkflowContext) -> float:
        began = ctx.now()
        await ctx.sleep(timedelta(hours=1))
        await ctx.sleep_until(began + timedelta(hours=2))
        await ctx.sleep(0)
        return (ctx.now() - began).total_seconds()

    sim = simulate(sleepy, None)
    assert 7200 <= sim.result < 7210


@pytest.mark.parametrize("wanted", [-1, float("nan"), "soon", None])
def test_a_bad_duration_fails_its_unit(wanted: Any) -> None:
    @workflow
    async def sleepy(ctx: WorkflowContext) -> str:
        try:
            await ctx.sleep(wanted)
        except StepFailed as error:
            return error.step
        return "?"

    assert simulate(sleepy, None).result == "sleep"


def test_a_naive_moment_fails_its_unit() -> None:
    @workflow
    async def sleepy(ctx: WorkflowContext) -> None:
        await ctx.sleep_until(datetime(2030, 1, 1))

    assert "naive" in str(simulate(sleepy, None).failure)


def test_a_signal_is_read_by_its_type_and_an_ill_typed_one_is_rejected() -> None:
    @workflow
    async def waiting(ctx: WorkflowContext) -> Order:
        return await ctx.wait_for_signal("order", Order)

    sim = simulate(waiting, None, signals=[])
    assert sim.status == "suspended"
    assert simulate(waiting, None, signals={"order": Order("tea")}).result == Order("tea")


def test_a_wait_that_times_out_is_told_from_a_signal_without_payload() -> None:
    @workflow
    async def waiting(ctx: WorkflowContext) -> list[bool]:
        one = await ctx.wait_for_signal("here", timeout=60)
        two = await ctx.wait_for_signal("never", timeout=60)
        return [one is TIMED_OUT, one is None, two is TIMED_OUT, bool(two)]

    assert simulate(waiting, None, signals={"here": None}).result == [False, True, True, False]


@workflow
async def kid(ctx: WorkflowContext[Book], n: int) -> int:
    await ctx.step(pay, n)
    if n < 0:
        raise ValueError("less than nothing")
    return n * 10


def test_a_child_gives_its_result_or_fails_its_step() -> None:
    @workflow
    async def parent(ctx: WorkflowContext[Book]) -> list[Any]:
        good = await ctx.child(kid, 2)
        try:
            await ctx.child(kid, -1)
        except StepFailed as error:
            return [good, error.step, str(error.failure.cause)]
        return []

    sim = simulate(parent, None, deps=Book)
    assert sim.result == [20, "kid#2", "ValueError: less than nothing"]


def test_a_started_child_goes_on_beside_its_parent() -> None:
    @workflow
    async def parent(ctx: WorkflowContext[Book]) -> list[Any]:
        handle = await ctx.start_child(kid, 2)
        other = await ctx.step(double, 4)
        again = await ctx.all(handle.result(), ctx.step(double, 5))
        return [other, again, await handle, len(handle.run_id)]

    assert simulate(parent, None, deps=Book).result == [8, [20, 10], 20, 32]


def test_a_body_that_ends_with_a_live_child_cancels_it() -> None:
    @workflow
    async def endless(ctx: WorkflowContext[Book]) -> None:
        await ctx.step(pay, 1)
        await ctx.wait_for_signal("never")

    @workflow
    async def parent(ctx: WorkflowContext[Book]) -> str:
        await ctx.start_child(endless)
        await ctx.sleep(60)
        return "done"

    sim = simulate(parent, None, deps=Book)
    assert sim.result == "done"
    assert sim.deps.lines == ["pay 1", "undo pay of 1 called with (1,)"]


def test_a_rollback_undoes_completed_children_as_units() -> None:
    @workflow
    async def parent(ctx: WorkflowContext[Book]) -> None:
        await ctx.child(kid, 2)
        await ctx.step(reserve, "tea")
        raise ValueError("late")

    sim = simulate(parent, None, deps=Book)
    assert sim.deps.lines == [
        "pay 2",
        "reserve tea",
        "undo reserve of held tea called with ('tea',)",
        "undo pay of 2 called with (2,)",
    ]


def test_a_child_that_nobody_listed_fails_its_step_with_what_to_do() -> None:
    @workflow
    async def parent(ctx: WorkflowContext) -> None:
        await ctx.child("nowhere")

    failure = simulate(parent, None).failure
    assert failure is not None and failure.type == "WorkflowNotRegisteredError"
    assert "nowhere" in failure.message and "list it" in failure.message


def test_a_suspended_step_is_resumed_with_data() -> None:
    @step
    async def approve(what: str) -> str | Suspend:
        ctx = current_step()
        if ctx.resumption is None:
            return Suspend({"asked": what})
        return f"{ctx.resumption.snapshot['asked']}: {ctx.resumption.data}"

    @workflow
    async def agent(ctx: WorkflowContext) -> str:
        return await ctx.step(approve, "tea?")

    assert simulate(agent, None, resume="yes").result == "tea?: yes"


def test_drawn_values_are_the_same_whatever_happens() -> None:
    @workflow
    async def drawing(ctx: WorkflowContext) -> list[Any]:
        one = [ctx.uuid(), ctx.random(), ctx.now()]
        await ctx.step(double, 1)
        return [*one, ctx.uuid(), ctx.random(), ctx.now()]

    quiet = simulate(drawing, None).result
    often = simulate(drawing, None, Faults(always_suspend=True)).result
    assert isinstance(quiet[0], UUID) and quiet[0].version == 4 and quiet[0] != quiet[3]
    assert 0 <= quiet[1] < 1 and quiet[1] != quiet[4]
    assert quiet[2].tzinfo is UTC
    assert [quiet[i] for i in (0, 1, 3, 4)] == [often[i] for i in (0, 1, 3, 4)]


def test_continue_as_new_begins_anew_with_an_empty_journal() -> None:
    @workflow
    async def counting(ctx: WorkflowContext[Book], n: int) -> str:
        await ctx.step(pay, n)
        got = await ctx.wait_for_signal("go", int)
        if n < 3:
            ctx.continue_as_new(n + 1)
        return f"{n} {got}"

    signals = [attrs.evolve(one, payload=n) for n, one in enumerate(_gos(4))]
    sim = simulate(counting, 0, deps=Book, signals=signals)
    assert sim.result == "3 3"
    assert sim.deps.lines == ["pay 0", "pay 1", "pay 2", "pay 3"]
    kinds = [entry.kind for entry in sim.journal]
    assert kinds == [
        "run_continued",
        "unit_completed",
        "signal_awaited",
        "signal_consumed",
        "run_completed",
    ]


def _gos(count: int) -> Any:
    from durable_core.testing import Signal

    return [Signal("go", None)] * count


def test_a_body_that_only_continues_goes_on_for_as_long_as_it_says() -> None:
    @workflow
    async def counting(ctx: WorkflowContext, n: int) -> int:
        if n:
            ctx.continue_as_new(n - 1)
        return n

    sim = simulate(counting, 9)
    assert (sim.status, sim.result) == ("completed", 0)


def test_continue_as_new_is_refused_while_a_child_is_live() -> None:
    @workflow
    async def parent(ctx: WorkflowContext[Book], n: int) -> None:
        await ctx.start_child(kid, n)
        ctx.continue_as_new(n)

    sim = simulate(parent, 1, deps=Book)
    assert sim.status == "failed"
    assert "child runs are live (kid)" in str(sim.failure)


def test_finally_and_async_with_behave_when_a_step_fails() -> None:
    lines: list[str] = []

    class Held:
        async def __aenter__(self) -> None:
            lines.append("in")

        async def __aexit__(self, *error: object) -> None:
            lines.append("out")

    @workflow
    async def tidy(ctx: WorkflowContext) -> str:
        try:
            async with Held():
                await ctx.step(fail, "x")
        except StepFailed:
            lines.append("caught")
        finally:
            lines.append("finally")
        return await ctx.step(str, 3)

    assert simulate(tidy, None).result == "3"
    assert lines == ["in", "out", "caught", "finally"]


def test_a_body_without_input_takes_none() -> None:
    @workflow
    async def bare(ctx: WorkflowContext) -> str:
        return ctx.workflow + ctx.version + ctx.run_id

    assert simulate(bare, None).result == "bare1run"


def test_a_result_that_cannot_be_stored_fails_the_run() -> None:
    @workflow
    async def odd(ctx: WorkflowContext) -> object:
        return object()

    failure = simulate(odd, None).failure
    assert failure is not None and failure.type == "EncodingError"
    assert "result of workflow 'odd'" in failure.message


def test_limits_hold_in_bodies_too() -> None:
    @workflow
    async def wide(ctx: WorkflowContext, n: int) -> int:
        return len(await ctx.all(*(ctx.step(double, i) for i in range(n))))

    failure = simulate(wide, 4, limits=Limits(fan_out=3)).failure
    assert failure is not None and failure.type == "LimitExceededError"


def test_both_styles_are_workflows_and_call_each_other() -> None:
    declared = Workflow("declared", input=int).step("a", lambda ctx: ctx.input + 1)

    @workflow
    async def outer(ctx: WorkflowContext, n: int) -> Any:
        return await ctx.child(declared, n)

    whole = Workflow("whole", input=int).child("o", outer)
    assert isinstance(outer, Workflow)
    assert simulate(whole, 3).result == {"o": {"a": 4}}


def test_a_handle_stands_for_the_end_of_its_child() -> None:
    @workflow
    async def parent(ctx: WorkflowContext[Book]) -> list[Any]:
        one, two = await ctx.start_child(kid, 1), await ctx.start_child(kid, 2)
        handles: list[Any] = [one, two]
        return [await ctx.all(*handles), await one]

    assert simulate(parent, None, deps=Book).result == [[10, 20], 10]


@workflow
async def drawn(ctx: WorkflowContext, items: list[str]) -> None:
    await ctx.all(*(ctx.step(reserve, item) for item in items))
    if await ctx.wait_for_signal("go", bool, timeout=60):
        await ctx.step(double.with_options(key="twice"), 2)
    while ctx.random() < 0.5:
        await ctx.sleep(1)
        await ctx.step(double, 1)
        await ctx.step(double, 2)
    await (await ctx.start_child(kid, 3))


def test_a_body_is_drawn_as_its_code_asks() -> None:
    graph = drawn.graph()
    assert [(part.kind, part.id, part.facts) for part in graph.parts[1:-1]] == [
        ("step", "reserve", ("for each item",)),
        ("signal", "go", ()),
        ("step", "twice", ("in a branch",)),
        ("sleep", "sleep", ("in a loop",)),
        ("step", "double", ("in a loop",)),
        ("step", "double#2", ("in a loop",)),
        ("child", "kid", ()),
    ]
    assert [part.id for part in graph.parts if part.compensable] == ["reserve"]
    assert len(graph.links) == len(graph.parts) - 1
    assert "reserve" in drawn.to_mermaid()


def test_a_body_without_source_is_drawn_empty() -> None:
    names: dict[str, Any] = {}
    exec("async def hidden(ctx): await ctx.sleep(1)", names)  # noqa: S102
    assert len(workflow(names["hidden"]).graph().parts) == 2


def test_a_cancelled_run_fits_its_body_though_a_child_ended_after_it() -> None:
    """Found by the kit: of a child that was started and ended after the run was stopped, the body
    is told that it was started, and not how it ended."""

    @workflow
    async def parent(ctx: WorkflowContext[Book]) -> int:
        one, two = await ctx.start_child(kid, 1), await ctx.start_child(kid, 2)
        return await one + await two

    sim = simulate(parent, None, Faults(Operate(what="cancel"), always_suspend=True), deps=Book)
    assert sim.status == "cancelled"
