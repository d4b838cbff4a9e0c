"""Lowering: which steps a workflow asks for, and what it makes of their outcomes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

import attrs
import pytest
from tests.workflow.driver import CODEC, NOW_MS, Driver, drive

from durable_core.errors import NondeterminismError, TerminalError
from durable_core.kernel.failure import Failure
from durable_core.kernel.ids import UnitKey
from durable_core.kernel.limits import Limits
from durable_core.kernel.outcome import Completed
from durable_core.kernel.policy import Retry
from durable_core.kernel.step import All, Call, Child, Record, Timer, Wait
from durable_core.kernel.value import Payload
from durable_core.workflow import SKIP, Branch, StepContext, Undo, Workflow

Context = StepContext[Any, Any]
Anything = Workflow[Any, Any]


def one(ctx: Context) -> int:
    return 1


def boom(ctx: Context) -> int:
    raise ValueError("boom")


def undo(ctx: Context) -> None: ...


# --- step --------------------------------------------------------------------------------------


def test_a_step_is_one_call_with_its_policies() -> None:
    retry = Retry(max_attempts=7)
    workflow = Workflow("w").step(
        "a", one, compensate=Undo(undo, timeout=9), retry=retry, timeout=2, transactional=True
    )
    (ask,) = drive(workflow).asks
    assert isinstance(ask, Call)
    assert (str(ask.unit), ask.handler, ask.retry, ask.timeout_ms) == ("a", one, retry, 2000)
    assert ask.transactional
    assert ask.undo is not None
    assert (ask.undo.handler, ask.undo.timeout_ms, ask.undo.child) == (undo, 9000, False)
    assert ask.undo.retry.max_attempts == 5


def test_steps_run_in_order_and_see_earlier_results() -> None:  # S7, W1, W2
    workflow = (
        Workflow("w", input=int)
        .step("a", lambda ctx: ctx.input + 1)
        .step("b", lambda ctx: ctx.results["a"] * 10)
    )
    run = drive(workflow, 4)
    assert run.units == ["a", "b"]
    assert run.result == {"a": 5, "b": 50}


def test_a_workflow_without_steps_completes_with_nothing() -> None:
    assert drive(Workflow("w")).result == {}


def test_a_failed_step_ends_the_program_with_its_own_failure() -> None:  # W6
    run = drive(Workflow("w").step("a", boom).step("b", one))
    assert run.units == ["a"]
    assert run.failed is not None
    assert run.failed.step == "a"
    assert str(run.failure) == "ValueError: boom"


def test_two_runs_of_one_factory_share_nothing() -> None:
    workflow = Workflow("w").step("a", one)
    first, second = drive(workflow), drive(workflow)
    assert first.step("a").scope is not second.step("a").scope


# --- parallel ------------------------------------------------------------------------------------


def test_parallel_asks_for_all_entries_at_once() -> None:  # S11, R40
    workflow = Workflow("w").parallel("p", {"x": one, "y": Branch(lambda ctx: 2)})
    run = drive(workflow.step("after", lambda ctx: [ctx.results["p"], ctx.results["y"]]))
    ask = run.asks[0]
    assert isinstance(ask, All)
    assert (run.units, ask.max_concurrency) == (["p/x", "p/y", "after"], None)
    assert run.result == {"p": {"x": 1, "y": 2}, "after": [{"x": 1, "y": 2}, 2]}


def test_parallel_hands_on_its_bound() -> None:
    run = drive(Workflow("w").parallel("p", {"x": one, "y": one}, max_concurrency=1))
    assert isinstance(run.asks[0], All)
    assert run.asks[0].max_concurrency == 1


def test_parallel_reports_the_first_failure_in_declaration_order() -> None:  # R41
    def other(ctx: Context) -> int:
        raise KeyError("other")

    run = drive(Workflow("w").parallel("p", {"x": one, "y": other, "z": boom}))
    assert (run.calls, run.failure.type) == (["p/x", "p/y", "p/z"], "KeyError")
    assert run.failed is not None
    assert run.failed.step == "p"


# --- map -----------------------------------------------------------------------------------------


def items(ctx: Context) -> list[int]:
    return [10, 20, 30]


def test_map_records_the_items_and_asks_for_one_unit_each() -> None:
    run = drive(Workflow("w").map("m", items, lambda ctx: ctx.item + ctx.index, max_concurrency=2))
    record, fan = run.asks
    assert isinstance(record, Record)
    assert (str(record.unit), record.kind) == ("m", "items_recorded")
    assert isinstance(fan, All)
    assert fan.max_concurrency == 2
    assert run.units == ["m", "m/0", "m/1", "m/2"]
    assert run.result == {"m": [10, 21, 32]}


def test_map_may_hand_over_the_item() -> None:
    def pick(ctx: Context, item: int) -> int:
        return item * 2

    assert drive(Workflow("w").map("m", items, pick)).result == {"m": [20, 40, 60]}


def test_map_over_nothing_asks_for_nothing() -> None:
    run = drive(Workflow("w").map("m", lambda ctx: [], one, min_success=3))
    assert (run.units, run.result) == (["m"], {"m": []})


@pytest.mark.parametrize("found", [(1, 2), range(1, 3), {1: "a", 2: "b"}.keys(), iter([1, 2])])
def test_items_may_be_anything_that_can_be_listed(found: Any) -> None:
    def keep(ctx: Context) -> Any:
        return ctx.item

    assert drive(Workflow("w").map("m", lambda ctx: found, keep)).result == {"m": [1, 2]}


@pytest.mark.parametrize("found", ["text", b"bytes", {"a": 1}, None, 7])
def test_items_must_be_a_list(found: Any) -> None:
    run = drive(Workflow("w").map("m", lambda ctx: found, one))
    assert run.units == ["m"]
    assert f"the items of step 'm' must be a list, not {type(found).__name__}" in str(run.failure)


def test_a_fan_out_is_bounded_even_if_it_never_ends() -> None:
    def forever(ctx: Context) -> Any:
        while True:
            yield 1

    run = drive(Workflow("w").map("m", forever, one), limits=Limits(fan_out=5))
    assert run.failure.type == "LimitExceededError"
    assert "more than 5 items (Limits.fan_out); map over batches" in run.failure.message
    assert drive(Workflow("w").map("m", items, one), limits=Limits(fan_out=3)).result


def test_a_list_of_items_is_bounded_in_bytes() -> None:
    run = drive(
        Workflow("w").map("m", lambda ctx: ["x" * 500, "y" * 500], one), limits=Limits(result=1000)
    )
    assert run.failure.type == "LimitExceededError"


def even(ctx: Context) -> int:
    if ctx.index % 2:
        raise ValueError(f"odd {ctx.index}")
    return int(ctx.index)


@pytest.mark.parametrize("enough", [0, 1, 2])
def test_min_success_tolerates_failed_items(enough: int) -> None:
    run = drive(Workflow("w").map("m", items, even, min_success=enough))
    zero, failed, two = run.result["m"]
    assert (zero, two, failed.type, failed.message) == (0, 2, "ValueError", "odd 1")
    assert isinstance(failed, Failure)


@pytest.mark.parametrize("enough", [None, 3, 4])
def test_too_few_successes_report_the_first_failure(enough: int | None) -> None:
    run = drive(Workflow("w").map("m", items, even, min_success=enough))
    assert str(run.failure) == "ValueError: odd 1"


# --- route ---------------------------------------------------------------------------------------


def route(key: Any, **more: Any) -> Anything:
    return Workflow("w").route("r", lambda ctx: key, {"x": one, "y": Branch(boom)}, **more)


def test_route_records_its_decision_and_asks_for_the_branch() -> None:  # S13, R42
    run = drive(route("x"))
    record, branch = run.asks
    assert isinstance(record, Record)
    assert (str(record.unit), record.kind) == ("r", "route_decided")
    assert CODEC.decode(record_of(run, "r")) == "x"
    assert isinstance(branch, Call)
    assert (run.units, run.result) == (["r", "r/x"], {"r": 1})


def record_of(run: Driver, unit: str) -> Payload:
    outcome = run.recorded[UnitKey.parse(unit)]
    assert isinstance(outcome, Completed)
    return outcome.payload


def test_a_failed_branch_fails_the_route() -> None:
    run = drive(route("y"))
    assert (run.units, str(run.failure)) == (["r", "r/y"], "ValueError: boom")


def test_an_unknown_key_fails_naming_the_known_ones() -> None:  # R43
    run = drive(route("z"))
    assert run.units == ["r"]
    assert run.failure.message == (
        "step 'r' has no branch for the key 'z'; it has 'x', 'y'. "
        "Add one, or say otherwise=handler or otherwise=SKIP"
    )


@pytest.mark.parametrize("key", ["toString", "__class__", "keys", "otherwise"])
def test_only_the_keys_themselves_count(key: str) -> None:
    assert drive(route(key)).failure.type == "LookupError"


def test_otherwise_may_be_a_handler() -> None:
    run = drive(route("z", otherwise=Branch(lambda ctx: "other")))
    assert (run.units, run.result) == (["r", "r/otherwise"], {"r": "other"})
    assert CODEC.decode(record_of(run, "r")) == "z"


def test_otherwise_may_be_skipped() -> None:
    run = drive(route("z", otherwise=SKIP).step("after", lambda ctx: ctx.results["r"] is None))
    assert (run.units, run.result) == (["r", "after"], {"r": None, "after": True})


class Colour(Enum):
    RED = "red"
    ONE = 1


def test_keys_may_be_enum_members() -> None:
    branches = {Colour.RED: one}
    run = drive(Workflow("w").route("r", lambda ctx: Colour.RED, branches))
    assert (run.units, run.result) == (["r", "r/red"], {"r": 1})


@pytest.mark.parametrize("key", [1, None, True, b"x", ["x"], Colour.ONE])
def test_a_key_is_a_string(key: Any) -> None:
    run = drive(route(key, otherwise=SKIP))
    assert "select of step 'r' must give a route key (a string), not " in run.failure.message


def test_a_decided_key_whose_branch_is_gone_is_never_guessed_at() -> None:
    run = drive(route("x"))
    without = Workflow("w").route("r", lambda ctx: "y", {"y": one})
    recorded = {UnitKey.of("r"): run.recorded[UnitKey.of("r")]}
    with pytest.raises(NondeterminismError, match=r"the route key 'x'"):
        Driver(without, recorded=recorded).go()


# --- loop ----------------------------------------------------------------------------------------


def test_loop_stops_at_until() -> None:  # S14, W5
    seen: list[tuple[int, int]] = []

    def until(result: int, n: int) -> bool:
        seen.append((result, n))
        return result >= 8

    workflow = Workflow("w", input=int).loop(
        "l", lambda ctx, value: value * 2, until=until, feedback=lambda result: result
    )
    run = drive(workflow, 1)
    assert run.units == ["l/0", "l/1", "l/2"]
    assert seen == [(2, 1), (4, 2), (8, 3)]
    assert run.result == {"l": 8}


def test_loop_without_feedback_keeps_its_value() -> None:
    given: list[Any] = []

    def handler(ctx: Context, value: Any) -> int:
        given.append(value)
        return int(ctx.iteration)

    run = drive(Workflow("w").loop("l", handler, max_iterations=3), {"in": 1})
    assert (given, run.result) == ([{"in": 1}] * 3, {"l": 2})


def test_loop_may_take_the_context_alone() -> None:
    assert drive(Workflow("w").loop("l", one, max_iterations=1)).result == {"l": 1}


def test_loop_begins_with_what_is_given() -> None:
    def echo(ctx: Context, value: Any) -> Any:
        return value

    for initial, first in [(None, None), ([1, 2], [1, 2]), (lambda ctx: ctx.input + 1, 8)]:
        run = drive(Workflow("w").loop("l", echo, initial=initial, max_iterations=1), 7)
        record = run.asks[0]
        assert isinstance(record, Record)
        assert (str(record.unit), record.kind) == ("l", "value_recorded")
        assert run.result == {"l": first}


def test_loop_may_collect() -> None:  # R44
    workflow = Workflow("w").loop("l", lambda ctx: ctx.iteration, max_iterations=3, collect=True)
    assert drive(workflow).result == {"l": [0, 1, 2]}


def test_reaching_the_cap_is_success_unless_it_is_said_to_fail() -> None:
    def never(result: Any) -> bool:
        return False

    workflow = Workflow("w")
    assert drive(workflow.loop("l", one, until=never, max_iterations=2)).result == {"l": 1}
    run = drive(workflow.loop("l", one, until=never, max_iterations=2, on_exhausted="fail"))
    assert run.calls == ["l/0", "l/1"]
    assert str(run.failure).startswith("LoopExhausted: step 'l' was not done after 2 iterations")


def test_until_is_asked_at_the_cap_too() -> None:
    workflow = Workflow("w").loop(
        "l", one, until=lambda result, n: n == 2, max_iterations=2, on_exhausted="fail"
    )
    assert drive(workflow).result == {"l": 1}


def test_feedback_is_asked_only_when_the_loop_goes_on() -> None:
    asked: list[int] = []
    workflow = Workflow("w").loop(
        "l", lambda ctx: ctx.iteration, feedback=asked.append, max_iterations=3
    )
    drive(workflow)
    assert asked == [0, 1]


@pytest.mark.parametrize("wrong", ["until", "feedback"])
def test_a_mistake_in_the_verdict_fails_the_step_after_the_iteration(wrong: str) -> None:
    def mistaken(result: Any) -> Any:
        raise ZeroDivisionError(wrong)

    more: Any = {wrong: mistaken}
    run = drive(Workflow("w").loop("l", one, **more))
    assert str(run.failure) == f"ZeroDivisionError: {wrong}"
    outcome = run.recorded[UnitKey.of("l", 0)]
    assert isinstance(outcome, Completed)
    assert isinstance(outcome.verdict, Failure)
    assert run.replay().failure == run.failure


def test_a_failed_iteration_fails_the_loop() -> None:
    run = drive(Workflow("w").loop("l", boom))
    assert (run.units, str(run.failure)) == (["l/0"], "ValueError: boom")


# --- sleep ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration", "due_ms"),
    [
        (timedelta(seconds=2), NOW_MS + 2000),
        (1.5, NOW_MS + 1500),
        (0, NOW_MS),
        (datetime(1970, 1, 2, tzinfo=UTC), 86_400_000),
        (datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), 1),
        (lambda ctx: timedelta(milliseconds=ctx.input), NOW_MS + 7),
        (lambda ctx: 2, NOW_MS + 2000),
        (lambda ctx: datetime(1970, 1, 1, 1, tzinfo=UTC), 3_600_000),
    ],
)
def test_a_sleep_computes_when_it_is_due(duration: Any, due_ms: int) -> None:
    run = drive(Workflow("w").sleep("s", duration), 7)
    (ask,) = run.asks
    assert isinstance(ask, Timer)
    assert (str(ask.unit), ask.due(NOW_MS)) == ("s", due_ms)
    assert run.result == {}


@pytest.mark.parametrize(
    ("duration", "why"),
    [
        (lambda ctx: -1, "the duration of step 's' must not be negative"),
        (lambda ctx: None, "must be a timedelta or a number of seconds, not NoneType"),
        (lambda ctx: float("nan"), "must be finite"),
        (lambda ctx: datetime(2030, 1, 1), "naive datetime"),
        (lambda ctx: ctx.nothing, "nothing"),
    ],
)
def test_a_computed_bad_duration_fails_its_unit(duration: Any, why: str) -> None:
    assert why in drive(Workflow("w").sleep("s", duration)).failure.message


# --- signals -------------------------------------------------------------------------------------


def test_a_wait_hands_its_payload_on() -> None:  # S17, R38
    workflow = (
        Workflow("w").wait_for_signal("s", "go", timeout=5).step("a", lambda c: c.signal("go"))
    )
    run = drive(workflow, signals={"go": {"ok": True}})
    ask = run.asks[0]
    assert isinstance(ask, Wait)
    assert (str(ask.unit), ask.signal(), ask.timeout_ms, ask.may_time_out, ask.accept) == (
        "s",
        "go",
        5000,
        False,
        None,
    )
    assert run.result == {"s": {"ok": True}, "a": {"ok": True}}


def test_a_wait_that_times_out_fails_or_goes_on() -> None:
    assert drive(Workflow("w").wait_for_signal("s", timeout=1)).failure.type == "TimeoutError"
    run = drive(
        Workflow("w")
        .wait_for_signal("s", "go", timeout=1, on_timeout="continue")
        .step("a", lambda ctx: [ctx.results["s"], ctx.signal("go"), ctx.signal("s")])
    )
    assert run.result == {"s": None, "a": [None, None, None]}


@attrs.frozen
class Decision:
    ok: bool


def test_an_ill_typed_signal_is_refused() -> None:
    workflow = Workflow("w").wait_for_signal("s", type=Decision, timeout=1, on_timeout="continue")
    good = CODEC.encode(Decision(ok=True), Decision)
    assert drive(workflow, signals={"s": good}).result == {"s": Decision(ok=True)}
    run = drive(workflow, signals={"s": "yes"})
    assert (run.result, [failure.type for failure in run.rejected]) == (
        {"s": None},
        ["EncodingError"],
    )


def test_a_signal_may_be_named_by_a_function() -> None:
    workflow = Workflow("w").wait_for_signal("s", lambda ctx: f"paid.{ctx.input}")
    run = drive(workflow.step("a", lambda ctx: ctx.signal("s")), 17, signals={"paid.17": 1})
    assert run.result == {"s": 1, "a": 1}


@pytest.mark.parametrize("name", ["", None, 7, "x\n", "x" * 300])
def test_a_computed_bad_name_of_a_signal_fails_its_unit(name: Any) -> None:
    run = drive(Workflow("w").wait_for_signal("s", lambda ctx: name))
    assert run.failure.message.startswith("the name of the signal of step 's' must ")


# --- children ------------------------------------------------------------------------------------

child = Workflow("child", version="4", input=dict[str, Any]).step("s", one)


def test_a_child_gets_its_input_and_its_result_comes_back() -> None:  # S21, R46
    workflow = (
        Workflow("w", input=int)
        .child("c", child, input=lambda ctx: {"n": ctx.input})
        .step("a", lambda ctx: ctx.results["c"]["s"])
    )
    run = drive(workflow, 3, children={"c": {"s": 5}})
    ask = run.asks[0]
    assert isinstance(ask, Child)
    spec = ask.begin()
    assert not isinstance(spec, Failure)
    assert (spec.workflow, spec.version, spec.fingerprint) == ("child", "4", child.fingerprint)
    assert CODEC.decode(spec.input) == {"n": 3}
    assert run.result == {"c": {"s": 5}, "a": 5}


def test_a_child_gets_the_same_input_unless_another_is_given() -> None:
    cases: list[tuple[dict[str, Any], Any]] = [({}, {"a": 1}), ({"input": {"b": 2}}, {"b": 2})]
    for more, given in cases:
        ask = drive(Workflow("w").child("c", child, **more), {"a": 1}, children={"c": {}}).asks[0]
        assert isinstance(ask, Child)
        spec = ask.begin()
        assert not isinstance(spec, Failure)
        assert CODEC.decode(spec.input) == given


def test_the_digest_of_a_start_is_that_of_name_and_input() -> None:
    def digest(workflow: Anything, given: Any) -> str:
        ask = Driver(Workflow("w").child("c", workflow), given, children={"c": {}}).go().asks[0]
        assert isinstance(ask, Child)
        spec = ask.begin()
        assert not isinstance(spec, Failure)
        return spec.digest

    base = digest(child, {"a": 1, "b": 2})
    assert digest(Workflow("child", version="5"), {"b": 2, "a": 1}) == base
    assert digest(child, {"a": 1}) != base
    assert digest(Workflow("other"), {"a": 1, "b": 2}) != base


def test_a_child_by_name_is_the_registered_one() -> None:
    run = drive(Workflow("w").child("c", "child"), {}, others=[child], children={"c": {"s": 1}})
    assert run.result == {"c": {"s": 1}}


def test_a_failed_child_fails_the_step() -> None:  # S22, R47
    cause = Failure(type="RunFailed", message="child run failed")
    assert drive(Workflow("w").child("c", child), {}, children={"c": cause}).failure == cause


def test_an_input_the_child_does_not_take_fails_the_step() -> None:
    assert drive(Workflow("w").child("c", child), 7).failure.type == "EncodingError"
    large = drive(Workflow("w").child("c", child), {"a": "x" * 99}, limits=Limits(input=50))
    assert large.failure.type == "LimitExceededError"


def test_only_what_can_be_undone_is_undone() -> None:
    def undo_of(workflow: Anything) -> Any:
        ask = Driver(workflow, {}, children={"c": {}}).go().asks[0]
        assert isinstance(ask, Child)
        return ask.undo

    saga = Workflow("saga").step("s", one, compensate=undo)
    assert undo_of(Workflow("w").child("c", child)) is None
    assert undo_of(Workflow("w").child("c", saga)).child
    assert undo_of(Workflow("w").child("c", Workflow("x").child("c", saga))).child
    own = undo_of(Workflow("w").child("c", saga, compensate=undo))
    assert (own.child, own.handler) == (False, undo)


# --- returns -------------------------------------------------------------------------------------


def test_returns_makes_the_result() -> None:
    workflow = Workflow("w").step("a", one).returns(lambda ctx: {"was": ctx.results["a"]})
    run = drive(workflow)
    assert run.ending is not None
    assert (run.result, run.ending.shape) == ({"was": 1}, None)
    assert run.ending.assemble() == run.ending.payload


@pytest.mark.parametrize(
    ("returns", "limits", "kind"),
    [
        (lambda ctx: ctx.results["b"], Limits(), "KeyError"),
        (lambda ctx: object(), Limits(), "EncodingError"),
        (lambda ctx: "x" * 100, Limits(result=50), "LimitExceededError"),
    ],
)
def test_a_mistake_in_returns_fails_the_run(returns: Any, limits: Limits, kind: str) -> None:
    assert drive(Workflow("w").returns(returns), limits=limits).failure.type == kind


# --- all of them ---------------------------------------------------------------------------------


def refusing(error: BaseException) -> Any:
    def function(*args: Any) -> Any:
        raise error

    return function


def awaiting(*args: Any) -> Any:
    async def nothing() -> None: ...

    return nothing()


PLACES: list[Any] = [
    lambda f: Workflow("w").map("a", f, one),
    lambda f: Workflow("w").route("a", f, {"x": one}),
    lambda f: Workflow("w").loop("a", one, initial=f),
    lambda f: Workflow("w").loop("a", one, until=f),
    lambda f: Workflow("w").loop("a", one, feedback=f),
    lambda f: Workflow("w").sleep("a", f),
    lambda f: Workflow("w").wait_for_signal("a", f),
    lambda f: Workflow("w").child("a", child, input=f),
    lambda f: Workflow("w").returns(f),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "error",
    [ValueError("x"), TerminalError("x"), SystemExit("x"), GeneratorExit("x"), StopIteration("x")],
)
def test_whatever_a_function_raises_is_an_outcome(place: Any, error: BaseException) -> None:
    run = drive(place(refusing(error)), {})
    assert (run.failure.type, run.failure.message) == (type(error).__name__, "x")


@pytest.mark.parametrize("place", PLACES)
def test_an_interrupt_goes_through(place: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        drive(place(refusing(KeyboardInterrupt())), {})


@pytest.mark.parametrize("place", PLACES)
def test_an_awaitable_is_closed_and_refused(place: Any) -> None:
    failure = drive(place(awaiting), {}).failure
    assert "gave an awaitable, but it must be a plain function" in failure.message


@pytest.mark.parametrize("place", PLACES)
def test_a_function_that_shapes_a_run_has_no_attempt(place: Any) -> None:
    problems: list[str] = []

    def function(*args: Any) -> Any:
        if isinstance(args[0], StepContext):
            for attribute in ("attempt", "deps", "idempotency_key", "log", "deadline", "item"):
                with pytest.raises(AttributeError, match=rf"ctx.{attribute} is there only in"):
                    getattr(args[0], attribute)
            assert (args[0].run_id, args[0].workflow, args[0].input) == ("run-1", "w", {})
            problems.append("none")
        return None

    drive(place(function), {})
    assert problems or "loop" in repr(place(function))


def everything(calls: list[str]) -> Anything:
    def noting(name: str, value: Any) -> Any:
        def function(*args: Any) -> Any:
            calls.append(name)
            return value

        return function

    return (
        Workflow("w")
        .step("a", noting("a", 1))
        .parallel("b", {"x": noting("x", 2), "y": noting("y", 3)})
        .map("c", noting("items", [1, 2]), noting("item", 4))
        .route("d", noting("select", "k"), {"k": noting("k", 5)})
        .loop(
            "e",
            noting("e", 6),
            initial=noting("initial", 0),
            until=lambda result, n: noting("until", n == 2)(),
            feedback=noting("feedback", 7),
            collect=True,
        )
        .sleep("f", noting("duration", 1))
        .wait_for_signal("g", noting("signal", "go"))
        .child("h", child, input=noting("input", {}))
    )


def test_a_replay_calls_nothing_and_asks_for_the_same() -> None:
    calls: list[str] = []
    workflow = everything(calls)
    run = drive(workflow, {}, signals={"go": 8}, children={"h": {"s": 9}})
    assert run.result == {
        "a": 1,
        "b": {"x": 2, "y": 3},
        "c": [4, 4],
        "d": 5,
        "e": [6, 6],
        "g": 8,
        "h": {"s": 9},
    }
    called = list(calls)
    again = run.replay()
    assert (calls, again.units, again.result) == (called, run.units, run.result)


def test_a_child_run_hands_its_whole_result_to_its_parent() -> None:
    run = drive(everything([]), {}, signals={"go": 8}, children={"h": {"s": 9}})
    assert run.ending is not None
    assert CODEC.decode(run.ending.assemble()) == run.result
