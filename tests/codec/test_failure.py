"""Recording an exception never fails, and what is kept is bounded and safe to show."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_core.codec import JsonCodec, failure_from_exception
from durable_core.codec.records import failure_from_text, failure_to_text
from durable_core.errors import StepFailed
from durable_core.kernel.failure import Failure

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def caught(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        return raised


def size(failure: Failure) -> int:
    return len(failure_to_text(failure).encode())


def chain(failure: Failure) -> list[Failure]:
    found = [failure]
    while found[-1].cause is not None:
        found.append(found[-1].cause)
    return found


def texts(failure: Failure) -> list[str]:
    return [t for each in chain(failure) for t in (each.type, each.message, each.traceback or "")]


class Evil(Exception):
    """Every hook of it raises; ``SystemExit``, since a bare ``Exception`` is easy to catch."""

    def __str__(self) -> str:
        raise SystemExit("str")

    def __repr__(self) -> str:
        raise SystemExit("repr")

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


class NotText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]  # noqa: PLE0307


class Loud(Exception):
    def __str__(self) -> str:
        return "x" * 50_000_000


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class Nameless(Exception, metaclass=Meta):
    pass


class TextLiar(str):
    def __str__(self) -> str:
        raise RuntimeError("str")

    def __len__(self) -> int:
        raise RuntimeError("len")

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("encode")


class Subtext(Exception):
    def __str__(self) -> str:
        return TextLiar("hidden")


def looped() -> Exception:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def long_chain() -> Exception:
    error = ValueError("0" * 5_000)
    for number in range(1, 40):
        outer = ValueError(f"{number}" * 5_000)
        outer.__cause__ = error
        error = outer
    return error


def deep() -> BaseException:
    def down() -> None:
        down()

    try:
        down()
    except RecursionError as error:
        return error
    raise AssertionError


EVIL: dict[str, BaseException] = {
    "evil": Evil(),
    "not text": NotText(),
    "loud": Loud(),
    "nameless": Nameless("a"),
    "subtext": Subtext(),
    "evil argument": ValueError(Evil()),
    "control characters": ValueError("\ud800\0\x1b[31mred\r\x9b\u202e"),
    "huge key": KeyError("a" * 1_000_000),
    "many arguments": ValueError(*range(100_000)),
    "looped": looped(),
    "long chain": long_chain(),
    "deep": deep(),
    "group": ExceptionGroup("a", [ValueError("a\x1b"), Evil(), ExceptionGroup("b", [OSError()])]),
    "base group": BaseExceptionGroup("base", [KeyboardInterrupt()]),
    "interrupt": KeyboardInterrupt(),
    "exit": SystemExit(3),
}


@pytest.mark.parametrize("limit", [0, 1_024, 16_384])
@pytest.mark.parametrize("name", EVIL)
def test_whatever_is_raised_can_be_recorded(name: str, limit: int) -> None:
    failure = failure_from_exception(caught(EVIL[name]), limit=limit, details={"a": Evil(), "b": 1})
    assert size(failure) <= max(limit, 1_024)
    assert not any(UNSAFE.search(text) for text in texts(failure))
    assert len(chain(failure)) <= 6
    assert failure_from_text(failure_to_text(failure)) == failure


@given(st.text(st.characters(), max_size=200), st.integers(0, 3_000))
def test_any_message_is_bounded_safe_and_kept_in_a_payload(message: str, limit: int) -> None:
    failure = failure_from_exception(caught(ValueError(message * 20)), limit=limit)
    assert size(failure) <= max(limit, 1_024)
    assert not UNSAFE.search(failure.message)
    JsonCodec().encode(failure.message)


def test_a_harmless_message_is_kept_as_it_is() -> None:
    failure = failure_from_exception(caught(ValueError("line one\n\tline two: é")))
    assert str(failure) == "ValueError: line one\n\tline two: é"
    assert failure.traceback is not None
    assert "raise error" in failure.traceback
    assert failure.cause is None
    assert failure.details is None


def test_control_characters_are_escaped() -> None:
    failure = failure_from_exception(ValueError("\x1b[31m\0"))
    assert failure.message == "\\x1b[31m\N{REPLACEMENT CHARACTER}"
    assert failure.traceback is None


def test_causes_and_contexts_are_kept() -> None:
    def work() -> None:
        try:
            try:
                raise OSError("root")
            except OSError:
                raise ValueError("context")  # noqa: B904
        except ValueError as error:
            raise KeyError("top") from error

    with pytest.raises(KeyError) as raised:
        work()
    assert [each.type for each in chain(failure_from_exception(raised.value))] == [
        "KeyError",
        "ValueError",
        "OSError",
    ]


def test_a_suppressed_context_is_left_out() -> None:
    def work() -> None:
        try:
            raise OSError("hidden")
        except OSError:
            raise ValueError("shown") from None

    with pytest.raises(ValueError, match="shown") as raised:
        work()
    assert failure_from_exception(raised.value).cause is None


def test_a_recorded_failure_is_kept_as_the_cause() -> None:
    recorded = Failure(type="CardDeclined", message="no money", details={"code": 7})
    assert failure_from_exception(StepFailed("charge", recorded)).cause == recorded


def test_frames_of_this_library_are_left_out() -> None:
    def convert(*_: Any) -> Any:
        raise ValueError("in a hook")

    from durable_core.codec import new_converter

    converter = new_converter()
    converter.register_unstructure_hook(Evil, convert)
    converter.register_structure_hook(Evil, convert)
    with pytest.raises(Exception, match="in a hook") as raised:
        JsonCodec(converter).encode(Evil(), Evil)
    failure = failure_from_exception(raised.value)
    assert failure.traceback is not None
    assert "test_failure.py" in failure.traceback
    assert "codec/payload.py" not in failure.traceback.replace("\\", "/")


def test_details_are_plain_and_bounded() -> None:
    kept = failure_from_exception(ValueError(), details={"a": [1, "x"], "b": {"c": None}})
    assert kept.details == {"a": [1, "x"], "b": {"c": None}}
    cut = failure_from_exception(ValueError(), details={"a": "x" * 100_000}, limit=2_000)
    assert size(cut) <= 2_000


def test_a_group_tells_of_its_members() -> None:
    failure = failure_from_exception(ExceptionGroup("two", [ValueError("a"), OSError("b")]))
    assert "ValueError: a" in failure.message
    assert "OSError: b" in failure.message
