"""Wrong definitions are refused when they are built, naming workflow, step, and the mend."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest

from durable_core.errors import DefinitionError
from durable_core.workflow import SKIP, Branch, StepContext, Undo, Workflow

Context = StepContext[Any, Any]
W: Any = Workflow("w")  # wrong calls are what this file is about


def work(ctx: Context) -> int:
    return 1


async def later(ctx: Context) -> int:
    return 1


BAD_NAMES: list[tuple[Any, str]] = [
    ("", "must not be empty"),
    ("  ", "must not be empty"),
    ("a/b", "contains '/', but it separates"),
    ("a#1", "contains '#'"),
    ("a\nb", r"control character '\\n'"),
    ("a\x00", r"control character '\\x00'"),
    ("a\x85", r"control character '\\x85'"),
    ("__a", "begins with '__', which is kept for the library"),
    ("$a", r"begins with '\$'"),
    ("a" * 201, "at most 200 characters, but has 201; shorten it"),
    ("a\ud800", "lone surrogate"),
    (None, "must be a string, not NoneType"),
    (7, "must be a string, not int"),
    (b"a", "must be a string, not bytes"),
]


@pytest.mark.parametrize(("name", "why"), BAD_NAMES)
def test_bad_names_of_workflows(name: Any, why: str) -> None:  # R1
    with pytest.raises(DefinitionError, match=rf"^workflow .*: the name of the workflow.*{why}"):
        Workflow(name)


@pytest.mark.parametrize(("name", "why"), BAD_NAMES)
def test_bad_names_of_steps(name: Any, why: str) -> None:  # R6
    with pytest.raises(DefinitionError, match=rf"^workflow 'w', step .*: the name.*{why}"):
        W.step(name, work)


@pytest.mark.parametrize(("name", "why"), BAD_NAMES)
def test_bad_names_of_entries(name: Any, why: str) -> None:
    with pytest.raises(DefinitionError, match=rf"^workflow 'w', step 'p': the name of the.*{why}"):
        W.parallel("p", {name: work})


@pytest.mark.parametrize(("name", "why"), BAD_NAMES)
def test_bad_route_keys(name: Any, why: str) -> None:
    with pytest.raises(DefinitionError, match=rf"^workflow 'w', step 'r': a route key.*{why}"):
        W.route("r", work, {name: work})


@pytest.mark.parametrize(("name", "why"), [bad for bad in BAD_NAMES if bad[0] is not None])
def test_bad_names_of_children(name: Any, why: str) -> None:
    with pytest.raises(DefinitionError, match=r"^workflow 'w', step 'c': the "):
        W.child("c", name)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a" * 201, "\udfff", 7, b"x"])
def test_bad_names_of_signals(name: Any) -> None:
    with pytest.raises(DefinitionError, match=r"^workflow 'w', step 's': the name of the signal"):
        W.wait_for_signal("s", name)


@pytest.mark.parametrize(
    "name", ["a", "a" * 200, "größe", "名前", "a b", "a.b-c_d:e", "_a", "a__b"]
)
def test_good_names(name: str) -> None:
    assert Workflow(name).step(name, work).nodes[0].name == name


def test_the_name_of_a_signal_may_hold_what_a_path_must_not() -> None:
    W.wait_for_signal("s", "orders/17#paid")


@pytest.mark.parametrize("version", ["", None, 2, "v\n", "v" * 201])
def test_bad_versions(version: Any) -> None:
    with pytest.raises(DefinitionError, match=r"^workflow 'w': version must"):
        Workflow("w", version=version)


NOT_POSITIVE: list[Any] = [0, -1, True, 1.0, 2.5, "3", math.nan]


@pytest.mark.parametrize("count", NOT_POSITIVE)
@pytest.mark.parametrize(
    "build",
    [
        lambda count: W.parallel("p", {"a": work}, max_concurrency=count),
        lambda count: W.map("p", work, work, max_concurrency=count),
        lambda count: W.loop("p", work, max_iterations=count),
    ],
)
def test_counts_are_positive_ints(build: Callable[[Any], object], count: Any) -> None:
    with pytest.raises(DefinitionError, match=r"^workflow 'w', step 'p': max_\w+ must be an int"):
        build(count)


@pytest.mark.parametrize("count", [-1, True, 1.0, "3"])
def test_min_success_is_a_whole_number(count: Any) -> None:
    with pytest.raises(DefinitionError, match=r"min_success must be an int of 0 or more"):
        W.map("m", work, work, min_success=count)


BAD_DURATIONS: list[Any] = [
    -1,
    timedelta(seconds=-1),
    math.nan,
    math.inf,
    True,
    "5",
    object(),
    10**15,
]


@pytest.mark.parametrize("duration", BAD_DURATIONS)
@pytest.mark.parametrize(
    "build",
    [
        lambda duration: W.step("a", work, timeout=duration),
        lambda duration: W.step("a", work, compensate=Undo(work, timeout=duration)),
        lambda duration: W.parallel("a", {"e": Branch(work, timeout=duration)}),
        lambda duration: W.map("a", work, work, timeout=duration),
        lambda duration: W.loop("a", work, timeout=duration),
        lambda duration: W.wait_for_signal("a", timeout=duration),
        lambda duration: W.sleep("a", duration),
    ],
)
def test_durations_are_durations(build: Callable[[Any], object], duration: Any) -> None:
    with pytest.raises(DefinitionError, match=r"^workflow 'w', step 'a'.*(timeout|duration)"):
        build(duration)


def test_an_attempt_needs_some_time() -> None:
    with pytest.raises(DefinitionError, match=r"timeout of the handler must be more than zero"):
        W.step("a", work, timeout=0)


def test_a_naive_moment_is_none() -> None:
    with pytest.raises(DefinitionError, match=r"naive datetime.*tzinfo=UTC"):
        W.sleep("a", datetime(2030, 1, 1))
    W.sleep("a", datetime(1999, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "build",
    [
        lambda: W.parallel("a", {}),  # S3, R17
        lambda: W.route("a", work, {}),  # R20
        lambda: W.route("a", work, {}, otherwise=work),
    ],
)
def test_empty_branches(build: Callable[[], object]) -> None:
    with pytest.raises(DefinitionError, match=r"step 'a': .* must not be empty; give at least one"):
        build()


def test_branches_are_a_mapping() -> None:
    with pytest.raises(DefinitionError, match=r"parallel must be a mapping.*not list"):
        W.parallel("a", [("x", work)])


NOT_CALLABLE: list[Any] = [None, 1, "work", object(), Branch(work), Undo(work)]


@pytest.mark.parametrize("handler", NOT_CALLABLE)
@pytest.mark.parametrize(
    "build",
    [
        lambda handler: W.step("a", handler),
        lambda handler: W.map("a", work, handler),
        lambda handler: W.loop("a", handler),
        lambda handler: W.parallel("a", {"x": Branch(handler)}),
        lambda handler: W.step("a", work, compensate=Undo(handler)),
    ],
)
def test_handlers_are_functions(build: Callable[[Any], object], handler: Any) -> None:
    with pytest.raises(DefinitionError, match=r"^workflow 'w', step 'a'"):
        build(handler)


def test_a_coroutine_is_not_its_function() -> None:
    coroutine = later(None)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"is an awaitable; pass the function itself"):
        W.step("a", coroutine)
    coroutine.close()


def none() -> int:
    return 1


def two(ctx: Context, value: Any) -> int:
    return 1


def three(ctx: Context, value: Any, more: Any) -> int:
    return 1


def keyword(ctx: Context, *, more: int) -> int:
    return 1


@pytest.mark.parametrize(
    ("build", "wanted"),
    [
        (lambda: W.step("a", none), r"\(ctx\)"),
        (lambda: W.step("a", two), r"\(ctx\)"),
        (lambda: W.step("a", keyword), r"\(ctx\)"),
        (lambda: W.step("a", work, compensate=two), r"\(ctx\)"),
        (lambda: W.map("a", work, three), r"\(ctx\) or \(ctx, item\)"),
        (lambda: W.map("a", none, work), r"\(ctx\)"),
        (lambda: W.loop("a", three), r"\(ctx, value\) or \(ctx\)"),
        (lambda: W.loop("a", work, until=none), r"\(result, n\) or \(result\)"),
        (lambda: W.loop("a", work, feedback=two), r"\(result\)"),
        (lambda: W.loop("a", work, initial=none), r"\(ctx\)"),
        (lambda: W.route("a", none, {"x": work}), r"\(ctx\)"),
        (lambda: W.route("a", work, {"x": work}, otherwise=two), r"\(ctx\)"),
        (lambda: W.parallel("a", {"x": two}), r"\(ctx\)"),
        (lambda: W.sleep("a", none), r"\(ctx\)"),
        (lambda: W.wait_for_signal("a", none), r"\(ctx\)"),
        (lambda: W.child("a", "c", input=none), r"\(ctx\)"),
    ],
)
def test_functions_take_what_they_are_given(build: Callable[[], object], wanted: str) -> None:
    with pytest.raises(DefinitionError, match=rf"step 'a'.* must be callable with {wanted};"):
        build()


class Handlers:
    def method(self, ctx: Context) -> int:
        return 1

    async def __call__(self, ctx: Context) -> int:
        return 1


@pytest.mark.parametrize(
    ("handler", "is_async"),
    [
        (work, False),
        (later, True),
        (lambda ctx: 1, False),
        (functools.partial(two, value=1), False),
        (functools.partial(later), True),
        (Handlers().method, False),
        (Handlers(), True),
        (functools.partial(Handlers()), True),
        (print, False),
        (str, False),
        (lambda *args: 1, False),
        (lambda ctx, name="x": 1, False),
        (AsyncMock(), True),
        (MagicMock(), False),
    ],
)
def test_all_that_is_callable_can_be_a_handler(handler: Any, is_async: bool) -> None:
    node: Any = W.step("a", handler).nodes[0]
    assert (node.work.takes, node.work.is_async) == (1, is_async)


@pytest.mark.parametrize(
    ("build", "takes"),
    [
        (lambda: W.map("a", work, work), 1),
        (lambda: W.map("a", work, two), 2),
        (lambda: W.map("a", work, lambda ctx, name="x": 1), 1),
        (lambda: W.loop("a", work), 1),
        (lambda: W.loop("a", two), 2),
    ],
)
def test_maps_and_loops_may_hand_over_a_value(build: Callable[[], Any], takes: int) -> None:
    assert build().nodes[0].work.takes == takes


def generator(ctx: Context) -> Iterator[int]:
    yield 1


async def async_generator(ctx: Context) -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("handler", [generator, async_generator])
def test_generators_are_no_handlers(handler: Any) -> None:
    with pytest.raises(DefinitionError, match=r"is a generator; return one value instead"):
        W.step("a", handler)


def test_items_may_come_from_a_generator() -> None:
    W.map("a", generator, work)


async def verdict(result: Any, n: int = 1) -> bool:
    return True


@pytest.mark.parametrize(
    "build",
    [
        lambda: W.map("a", later, work),
        lambda: W.map("a", async_generator, work),
        lambda: W.route("a", later, {"x": work}),
        lambda: W.loop("a", work, initial=later),
        lambda: W.loop("a", work, until=verdict),
        lambda: W.loop("a", work, feedback=verdict),
        lambda: W.sleep("a", later),
        lambda: W.wait_for_signal("a", later),
        lambda: W.child("a", "c", input=later),
        lambda: W.returns(later),
        lambda: W.returns(Handlers()),
    ],
)
def test_functions_that_shape_a_run_are_plain(build: Callable[[], object]) -> None:
    with pytest.raises(DefinitionError, match=r"is async, but it must be a plain function"):
        build()


class Words(Enum):
    YES = "yes"
    ONE = 1


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: W.step("a", work, retry=3), "retry of the handler must be a Retry, not int"),
        (lambda: W.step("a", work, transactional=1), "transactional must be True or False"),
        (lambda: W.loop("a", work, collect="no"), "collect must be True or False"),
        (lambda: W.loop("a", work, on_exhausted="stop"), "on_exhausted must be 'return' or 'fail'"),
        (lambda: W.loop("a", work, on_exhausted="fail"), "would always fail; give until="),
        (lambda: W.wait_for_signal("a", on_timeout="go"), "on_timeout must be 'fail' or 'contin"),
        (lambda: W.child("a", 7), "must be a workflow or the name of one, not int"),
        (lambda: W.child("a", Workflow), "must be a workflow or the name of one"),
        (lambda: W.route("a", work, {Words.ONE: work}), "a route key must be a string, not int"),
        (lambda: W.route("a", work, {Words.YES: work, "yes": work}), "stands there twice"),
        (
            lambda: W.route("a", work, {"otherwise": work}, otherwise=work),
            "the branch for the rest, 'otherwise', is taken",
        ),
    ],
)
def test_other_mistakes(build: Callable[[], object], why: str) -> None:
    with pytest.raises(DefinitionError, match=rf"^workflow 'w', step 'a'.*{why}"):
        build()


def test_an_unknown_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"retries"):
        W.step("a", work, retries=3)


def test_returns_is_said_once() -> None:
    with pytest.raises(DefinitionError, match=r"workflow 'w', returns: is said twice"):
        W.returns(work).returns(work)


def test_a_key_called_otherwise_may_be_skipped_over() -> None:
    W.route("a", work, {"otherwise": work}, otherwise=SKIP)


def test_the_message_names_the_entry() -> None:
    with pytest.raises(DefinitionError, match=r"^workflow 'w', step 'p', entry 'x': timeout of"):
        W.parallel("p", {"x": Branch(work, timeout=-1)})
