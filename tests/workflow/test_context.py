"""The context: what handlers, compensators and shaping functions are told, and what not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from tests.workflow.driver import CODEC, Driver, drive

from durable_core.kernel.outcome import Attempt, AttemptKey
from durable_core.kernel.run import RunContext
from durable_core.workflow import Branch, Invocation, Resumption, StepContext, Undo, Workflow

Context = StepContext[Any, Any]


@attrs.define
class Cart:
    items: list[int]


def one(ctx: Context) -> int:
    return 1


def undo(ctx: Context) -> dict[str, Any]:
    return facts(ctx)


def facts(ctx: Context) -> dict[str, Any]:
    """Everything there is to ask; what is not there is left out."""
    names = (
        "input results run_id workflow step_name unit attempt idempotency_key deps resumption "
        "deadline log item index iteration value conn"
    )
    found = {}
    for name in names.split():
        try:
            found[name] = getattr(ctx, name)
        except AttributeError as error:
            assert f"ctx.{name} is there only in" in str(error)
    found["results"] = dict(ctx.results)
    return found


def one_step(handler: Any, **more: Any) -> Driver:
    workflow = Workflow("w", input=Cart).step("before", one).step("a", handler, **more)
    return drive(workflow, Cart([1]), deps="deps")


def invoke(run: Driver, unit: str, **more: Any) -> Invocation:
    return run.prepare(run.attempt(unit), **more)


def log_of(attempt: Attempt, run: RunContext) -> tuple[int, str]:
    return attempt.number, run.run_id


def test_a_handler_is_told_of_its_run_and_attempt() -> None:
    run = one_step(one)
    deadline = datetime(2030, 1, 1, tzinfo=UTC)
    invocation = run.prepare(run.attempt("a", number=3), deadline=deadline, log=log_of)
    assert (invocation.function, invocation.args) == (one, (invocation.context,))
    assert (invocation.result_type, invocation.keeps_result) == (int, True)
    assert not invocation.is_async
    assert facts(invocation.context) == {
        "input": Cart([1]),
        "results": {"before": 1},
        "run_id": "run-1",
        "workflow": "w",
        "step_name": "a",
        "unit": "a",
        "attempt": 3,
        "idempotency_key": "run-1:1:a",
        "deps": "deps",
        "resumption": None,
        "deadline": deadline,
        "log": (3, "run-1"),
    }
    assert repr(invocation.context) == "<StepContext of 'a' in run 'run-1'>"


def test_a_compensator_is_told_the_same_and_its_units_value() -> None:  # W8
    run = one_step(lambda ctx: [7], compensate=undo)
    told = run.undo("a", number=2)
    assert told == {
        "input": Cart([1]),
        "results": {"before": 1, "a": [7]},
        "run_id": "run-1",
        "workflow": "w",
        "step_name": "a",
        "unit": "a",
        "attempt": 2,
        "idempotency_key": "run-1:1:a:compensate",
        "deps": "deps",
        "resumption": None,
        "deadline": None,
        "log": None,
        "value": [7],
    }


def test_what_a_compensator_returns_is_of_no_interest() -> None:
    run = one_step(one, compensate=Undo(undo, timeout=1))
    step = run.step("a")
    attempt = Attempt(
        key=AttemptKey(unit=step.unit, compensating=True),
        number=1,
        generation=2,
        call=step,
        undo=step.undo,
        value=CODEC.encode(1),
    )
    invocation = run.prepare(attempt)
    assert (invocation.function, invocation.keeps_result, invocation.is_async) == (
        undo,
        False,
        False,
    )
    assert invocation.context.idempotency_key == "run-1:2:a:compensate"


def test_a_compensator_does_not_see_later_steps() -> None:
    workflow = Workflow("w").step("a", one, compensate=undo).step("b", one)
    assert drive(workflow).undo("a")["results"] == {"a": 1}


def test_units_inside_steps_are_told_where_they_are() -> None:
    told: list[dict[str, Any]] = []

    def tell(ctx: Context) -> int:
        told.append(facts(ctx))
        return 5

    workflow = (
        Workflow("w", input=Cart)
        .parallel("p", {"x": Branch(tell, compensate=undo)})
        .map("m", lambda ctx: ["i", "j"], tell, compensate=undo)
        .route("r", lambda ctx: "k", {"k": Branch(tell, compensate=undo)})
        .loop("l", tell, max_iterations=2, compensate=undo)
    )
    run = drive(workflow, Cart([]))
    interesting = ("step_name", "unit", "item", "index", "iteration", "idempotency_key")
    assert [tuple(one.get(name) for name in interesting) for one in told] == [
        ("p", "p/x", None, None, None, "run-1:1:p/x"),
        ("m", "m/0", "i", 0, None, "run-1:1:m/0"),
        ("m", "m/1", "j", 1, None, "run-1:1:m/1"),
        ("r", "r/k", None, None, None, "run-1:1:r/k"),
        ("l", "l/0", None, None, 0, "run-1:1:l/0"),
        ("l", "l/1", None, None, 1, "run-1:1:l/1"),
    ]
    assert [dict(run.undo(unit)["results"]).get(unit[0]) for unit in ("r/k", "l/1", "m/0")] == [
        5,
        None,
        None,
    ]
    told_undo = run.undo("m/1")
    assert (told_undo["item"], told_undo["index"], told_undo["value"]) == ("j", 1, 5)
    assert run.undo("l/1")["iteration"] == 1
    assert run.undo("p/x")["value"] == 5


def test_entries_do_not_see_each_other() -> None:
    def look(ctx: Context) -> list[str]:
        return list(ctx.results)

    run = drive(Workflow("w").step("a", one).parallel("p", {"x": look, "y": look}))
    assert run.result["p"] == {"x": ["a"], "y": ["a"]}


def test_a_childs_compensator_finds_its_result() -> None:
    child = Workflow("child").step("s", one)
    run = drive(Workflow("w").child("c", child, compensate=undo), {}, children={"c": {"s": 4}})
    told = run.undo("c")
    assert (told["value"], told["results"], told["unit"]) == ({"s": 4}, {"c": {"s": 4}}, "c")


def test_a_resumed_handler_finds_snapshot_and_data() -> None:
    run = one_step(one)
    attempt = run.attempt("a", number=2, snapshot=CODEC.encode([1, 2]), data=CODEC.encode(None))
    assert run.prepare(attempt).context.resumption == Resumption([1, 2], None)
    assert run.prepare(run.attempt("a")).context.resumption is None


def test_a_transactional_handler_has_the_connection() -> None:
    run = one_step(one, transactional=True)
    assert invoke(run, "a", conn="conn").context.conn == "conn"
    with pytest.raises(AttributeError, match=r"ctx.conn is there only in steps with transactional"):
        _ = invoke(run, "a").context.conn


def test_copies_are_the_handlers_own() -> None:
    run = one_step(one)
    first, second = invoke(run, "a").context, invoke(run, "a").context
    first.input.items.append(2)
    assert (first.input, second.input) == (Cart([1, 2]), Cart([1]))


def test_items_and_loop_values_are_copies_too() -> None:
    def spoil(ctx: Context, value: Any) -> int:
        value.append(9)
        return len(value)

    workflow = (
        Workflow("w")
        .map("m", lambda ctx: [[1]], spoil)
        .loop("l", spoil, initial=[1], max_iterations=2, collect=True)
    )
    run = drive(workflow)
    assert run.result == {"m": [2], "l": [2, 2]}
    item = invoke(run, "m/0")
    assert (item.args[1], item.context.item) == ([1], [1])


def test_async_handlers_are_told_apart() -> None:
    async def handler(ctx: Context) -> int:
        return 1

    assert invoke(one_step(handler), "a").is_async


# --- ctx.result and ctx.signal -------------------------------------------------------------------


def price(ctx: Context) -> int:
    return 3


def twice(ctx: Context) -> int:
    return 4


def asking(workflow: Any, *args: Any, **more: Any) -> Any:
    """What ``ctx.result`` of these arguments gives in a step after ``workflow``."""
    found: list[Any] = []
    run = drive(workflow.step("ask", lambda ctx: found.append(ctx.result(*args, **more))), {})
    if run.failed is not None:
        return run.failure
    return found[0]


BEFORE = (
    Workflow("w")
    .step("a", price)
    .parallel("p", {"x": one})
    .step("b", twice)
    .step("c", twice)
    .map("m", lambda ctx: [1], undo, min_success=0)
    .loop("l", lambda ctx: ctx.iteration, max_iterations=2, collect=True)
)


def test_a_result_is_found_by_name_type_or_handler() -> None:
    assert asking(BEFORE, "a") == 3
    assert asking(BEFORE, price) == 3
    assert asking(BEFORE, one) == 1
    assert asking(BEFORE, "x") == 1
    assert asking(BEFORE, "a", float) == 3.0
    assert asking(BEFORE, "l", type=tuple[int, ...]) == (0, 1)
    assert asking(BEFORE, "p", dict[str, int]) == {"x": 1}


def test_a_handler_must_say_which_step() -> None:
    assert "stands in several steps (b, c)" in str(asking(BEFORE, twice))
    assert "gives a list of what undo gives; use ctx.result('m', list" in str(asking(BEFORE, undo))
    assert "facts is no handler of workflow 'w'" in str(asking(BEFORE, facts))
    assert "no result of a step 'z'" in str(asking(BEFORE, "z"))
    assert "no result of a step 'z'" in str(asking(BEFORE, "z", int))
    assert asking(BEFORE, "a", list[int]).type == "EncodingError"


def test_the_branch_that_was_taken_is_found_by_its_handler() -> None:
    workflow = Workflow("w").route("r", lambda ctx: "k", {"k": price, "j": price})
    assert asking(workflow, price) == 3


def test_signals_are_found_by_either_name() -> None:
    workflow = (
        Workflow("w")
        .wait_for_signal("first", "go")
        .step("a", lambda ctx: ctx.signal("go"))
        .step("b", lambda ctx: ctx.signal("first"))
        .step("c", lambda ctx: ctx.signal("other"))
    )
    run = drive(workflow, signals={"go": 1})
    assert run.calls == ["a", "b", "c"]
    assert "no step before this one waited for a signal 'other'" in run.failure.message


def test_a_signal_of_a_later_step_is_not_seen_by_an_earlier_one() -> None:
    run = drive(
        Workflow("w").step("a", one, compensate=lambda ctx: ctx.signal("go")).wait_for_signal("go"),
        signals={"go": 1},
    )
    with pytest.raises(KeyError, match=r"no step before this one"):
        run.undo("a")
