"""What a handler gives, read from its annotation, or ANY."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

import pytest
from tests.codec.samples import Point, Twin

from durable_core.codec import ANY, return_type

T = TypeVar("T")


class Suspend:
    pass


class SuspendOf(Suspend, Generic[T]):
    pass


def plain() -> Point: ...  # type: ignore[empty-body]
async def coroutine(_: Point) -> Point: ...  # type: ignore[empty-body]
def awaitable() -> Awaitable[Point]: ...  # type: ignore[empty-body]
def started() -> Coroutine[Any, Any, Point]: ...  # type: ignore[empty-body]
def nothing() -> None: ...
def silent():  # type: ignore[no-untyped-def]
    ...
def anything() -> Any: ...
def lost() -> Missing: ...  # type: ignore[name-defined]  # noqa: F821
def variable(value: T) -> T: ...  # type: ignore[empty-body]
async def may_suspend() -> Point | Suspend: ...  # type: ignore[empty-body]
async def may_suspend_of() -> Point | SuspendOf[int]: ...  # type: ignore[empty-body]
async def two() -> Point | Twin | Suspend | None: ...
async def only_suspends() -> Suspend: ...  # type: ignore[empty-body]
def broken_argument(_: Missing) -> Point: ...  # type: ignore[name-defined,empty-body]  # noqa: F821


class Handler:
    async def __call__(self) -> Point: ...  # type: ignore[empty-body]
    def method(self) -> Point: ...  # type: ignore[empty-body]
    @staticmethod
    def static() -> Point: ...  # type: ignore[empty-body]
    @classmethod
    def of_class(cls) -> Point: ...  # type: ignore[empty-body]


class Liar:
    @property
    def __annotations__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no annotations")

    def __call__(self) -> Point: ...  # type: ignore[empty-body]


@functools.wraps(coroutine)
def wrapped(*args: Any) -> Any: ...


CASES: list[tuple[Callable[..., Any], object]] = [
    (plain, Point),
    (coroutine, Point),
    (awaitable, Point),
    (started, Point),
    (nothing, type(None)),
    (silent, ANY),
    (anything, ANY),
    (lost, ANY),
    (variable, ANY),
    (broken_argument, Point),
    (may_suspend, Point),
    (may_suspend_of, Point),
    (two, Point | Twin | None),
    (only_suspends, ANY),
    (lambda: 1, ANY),
    (len, ANY),
    (functools.partial(coroutine, Point(1, 2)), Point),
    (functools.partial(functools.partial(Handler().method)), Point),
    (functools.cache(plain), Point),
    (wrapped, Point),
    (Handler(), Point),
    (Handler().method, Point),
    (Handler.static, Point),
    (Handler.of_class, Point),
    (Point, Point),
    (Liar(), Point),
]


@pytest.mark.parametrize(("handler", "expected"), CASES)
def test_the_type_a_handler_gives(handler: Callable[..., Any], expected: object) -> None:
    assert return_type(handler, strip=(Suspend,)) == expected


def test_a_name_of_the_enclosing_function_is_found() -> None:
    class Local:
        pass

    def handler() -> Local:
        return Local()

    assert return_type(handler) is Local


def test_what_is_no_function_at_all_gives_any() -> None:
    assert return_type(5) is ANY  # type: ignore[arg-type]
