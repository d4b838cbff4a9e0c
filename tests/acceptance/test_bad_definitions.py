"""Whatever is wrong in a definition is refused while it is built, saying which argument it was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from tests.acceptance.hostile import (
    HUGE,
    INFINITE,
    LONG_INT,
    NAIVE,
    NAN,
    NO_COUNTS,
    NO_DURATIONS,
    NO_FUNCTIONS,
    NO_NAMES,
    UNPRINTABLE,
)

from durable_core import Branch, DefinitionError, Limits, Retry, Undo, Workflow

W: Any = Workflow
Case = tuple[str, str, Callable[[Any], Any], list[Any]]


async def h(ctx: Any) -> None:
    return None


def f(ctx: Any) -> Any:
    return None


async def no_arguments() -> None:
    return None


async def three(ctx: Any, one: Any, two: Any) -> None:
    return None


def generator(ctx: Any) -> Iterator[int]:
    yield 1


async def async_generator(ctx: Any) -> AsyncIterator[int]:
    yield 1


PATH_NAMES = [*NO_NAMES, "a/b", "a#b", "__internal", "$internal"]
HANDLERS = [None, *NO_FUNCTIONS, no_arguments, three, generator, async_generator]
PURE = [None, *NO_FUNCTIONS, no_arguments, three, h]
UNDOS = [*NO_FUNCTIONS, no_arguments, generator, Branch(h), Undo(5), Undo(h, retry=3)]  # type: ignore[arg-type]
RETRIES = [3, 0, "x", [], NAN, Retry]
TIMEOUTS = [0, *NO_DURATIONS]
FLAGS = [0, 1, "yes", [], NAN]
WORDS = ["", "maybe", 5, None, [], NAN]

CASES: list[Case] = [
    ("Workflow", "name of the workflow", W, PATH_NAMES),
    ("Workflow", "version", lambda v: W("w", version=v), NO_NAMES),
    ("step", "name of the step", lambda v: W("w").step(v, h), PATH_NAMES),
    ("step", "handler", lambda v: W("w").step("a", v), [*HANDLERS, Branch(h)]),
    ("step", "compensator", lambda v: W("w").step("a", h, compensate=v), UNDOS),
    ("step", "retry", lambda v: W("w").step("a", h, retry=v), RETRIES),
    ("step", "timeout", lambda v: W("w").step("a", h, timeout=v), TIMEOUTS),
    ("step", "transactional", lambda v: W("w").step("a", h, transactional=v), FLAGS),
    ("parallel", "parallel", lambda v: W("w").parallel("p", v), [None, 5, [], {}, [h], h, "x"]),
    ("parallel", "name of the entry", lambda v: W("w").parallel("p", {v: h}),
     [v for v in PATH_NAMES if not isinstance(v, list | dict)]),
    ("parallel", "handler", lambda v: W("w").parallel("p", {"a": v}), HANDLERS),
    ("parallel", "handler", lambda v: W("w").parallel("p", {"a": Branch(v)}), HANDLERS),
    ("parallel", "compensator", lambda v: W("w").parallel("p", {"a": Branch(h, compensate=v)}),
     UNDOS),
    ("parallel", "max_concurrency", lambda v: W("w").parallel("p", {"a": h}, max_concurrency=v),
     NO_COUNTS),
    ("map", "items", lambda v: W("w").map("m", v, h), PURE),
    ("map", "handler", lambda v: W("w").map("m", f, v), HANDLERS),
    ("map", "max_concurrency", lambda v: W("w").map("m", f, h, max_concurrency=v), NO_COUNTS),
    ("map", "min_success", lambda v: W("w").map("m", f, h, min_success=v), NO_COUNTS[1:]),
    ("map", "retry", lambda v: W("w").map("m", f, h, retry=v), RETRIES),
    ("map", "timeout", lambda v: W("w").map("m", f, h, timeout=v), TIMEOUTS),
    ("map", "compensator", lambda v: W("w").map("m", f, h, compensate=v), UNDOS),
    ("route", "select", lambda v: W("w").route("r", v, {"a": h}), PURE),
    ("route", "route", lambda v: W("w").route("r", f, v), [None, 5, [], {}, [h], h, "x"]),
    ("route", "route key", lambda v: W("w").route("r", f, {v: h}),
     [v for v in PATH_NAMES if not isinstance(v, list | dict)]),
    ("route", "handler", lambda v: W("w").route("r", f, {"a": v}), HANDLERS),
    ("route", "otherwise", lambda v: W("w").route("r", f, {"a": h}, otherwise=v), HANDLERS[1:]),
    ("loop", "handler", lambda v: W("w").loop("l", v), [None, *NO_FUNCTIONS, no_arguments, three]),
    ("loop", "initial", lambda v: W("w").loop("l", h, initial=v), [no_arguments, three, h]),
    ("loop", "until", lambda v: W("w").loop("l", h, until=v), [*NO_FUNCTIONS, no_arguments, three]),
    ("loop", "feedback", lambda v: W("w").loop("l", h, feedback=v), [*NO_FUNCTIONS, h, three]),
    ("loop", "max_iterations", lambda v: W("w").loop("l", h, max_iterations=v), [None, *NO_COUNTS]),
    ("loop", "collect", lambda v: W("w").loop("l", h, collect=v), FLAGS),
    ("loop", "on_exhausted", lambda v: W("w").loop("l", h, on_exhausted=v), WORDS),
    ("loop", "on_exhausted", lambda v: W("w").loop("l", h, on_exhausted=v), ["fail"]),
    ("sleep", "duration", lambda v: W("w").sleep("s", v), [None, *NO_DURATIONS, three, h]),
    ("wait", "signal", lambda v: W("w").wait_for_signal("s", v), [*NO_NAMES[1:], three, h]),
    ("wait", "timeout", lambda v: W("w").wait_for_signal("s", timeout=v), NO_DURATIONS),
    ("wait", "on_timeout", lambda v: W("w").wait_for_signal("s", on_timeout=v), WORDS),
    ("child", "child", lambda v: W("w").child("c", v), [*PATH_NAMES, Workflow, h]),
    ("child", "input", lambda v: W("w").child("c", "other", input=v), [no_arguments, three, h]),
    ("child", "compensator", lambda v: W("w").child("c", "other", compensate=v), UNDOS),
    ("returns", "function", lambda v: W("w").returns(v), PURE),
    ("Retry", "max_attempts", lambda v: Retry(max_attempts=v), [None, *NO_COUNTS]),
    ("Retry", "Retry.initial", lambda v: Retry(initial=v), [None, *NO_DURATIONS]),
    ("Retry", "max_delay", lambda v: Retry(max_delay=v), [None, *NO_DURATIONS]),
    ("Retry", "factor", lambda v: Retry(factor=v), [None, 0, 0.5, NAN, INFINITE, "2", True, []]),
    ("Retry", "jitter", lambda v: Retry(jitter=v), [None, -0.1, 1.1, NAN, INFINITE, "0", True, []]),
    ("Retry", "on", lambda v: Retry(on=v), [None, 5, "x", (5,), ["x"], (ValueError, 5), int]),
    ("Retry", "give_up_on", lambda v: Retry(give_up_on=v), [None, 5, "x", (5,), int, f]),
    ("Retry", "backoff", lambda v: Retry(backoff=v), WORDS),
    ("Retry.linear", "step", lambda v: Retry.linear(step=v), [None, *NO_DURATIONS]),
    ("Limits", "result", lambda v: Limits(result=v), [None, *NO_COUNTS]),
    ("Limits", "cancel_grace", lambda v: Limits(cancel_grace=v), [None, *NO_DURATIONS]),
]  # fmt: skip


every_argument = pytest.mark.parametrize(
    ("argument", "build", "values"),
    [
        pytest.param(argument, build, values, id=f"{call}-{argument}-{number}")
        for number, (call, argument, build, values) in enumerate(CASES)
    ],
)


def refusals(argument: str, build: Callable[[Any], Any], values: list[Any]) -> list[str]:
    """What is wrong with how these values are refused; nothing, it is to be hoped."""
    wrong = []
    for number, value in enumerate(values):
        kind = f"value {number} ({type(value).__name__})"
        try:
            build(value)
        except DefinitionError as error:
            text = str(error)
            if argument not in text:
                wrong.append(f"{kind}: {argument!r} is not named in {text[:200]!r}")
            if len(text) > 2_000:
                wrong.append(f"{kind}: the message has {len(text)} characters")
            if not text.isprintable():
                wrong.append(f"{kind}: the message cannot be printed")
        except Exception as error:
            wrong.append(f"{kind}: raised {type(error).__name__}")
        else:
            wrong.append(f"{kind}: was accepted")
    return wrong


@every_argument
def test_a_bad_argument_is_refused_by_name(
    argument: str, build: Callable[[Any], Any], values: list[Any]
) -> None:
    assert refusals(argument, build, values) == []


@every_argument
def test_what_cannot_be_printed_is_refused_too(
    argument: str, build: Callable[[Any], Any], values: list[Any]
) -> None:
    if argument in ("initial", "input"):
        return  # any value will do there, until it is to be stored
    keys = argument in ("name of the entry", "route key")  # which are hashable
    assert refusals(argument, build, [v for v in UNPRINTABLE if not keys or v is LONG_INT]) == []


def test_a_refused_call_leaves_the_workflow_as_it_was() -> None:
    workflow = W("w").step("a", h)
    with pytest.raises(DefinitionError):
        workflow.step("a", h)
    with pytest.raises(DefinitionError):
        workflow.sleep("b", NAIVE)
    with pytest.raises(DefinitionError):
        workflow.parallel("c", {HUGE: h})
    assert [node.name for node in workflow.nodes] == ["a"]
    assert workflow == W("w").step("a", h)
