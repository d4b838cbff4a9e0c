"""Refusal: why a value cannot be stored, and where inside it; becomes an ``EncodingError``.

Nothing here calls a method of a user's object: a refusal must be able to speak of any of them.
"""

from __future__ import annotations

import enum
import json
import types

BUILTINS = (str, int, float, bool, bytes, dict, list, tuple, set, frozenset)
CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType)
SEGMENT_LENGTH = 60
SEGMENTS = 16
"""The most steps of a path that are shown."""
ANNOTATE = "annotate the handler's return type (or the input's, or the signal's) with it"


class Refusal(Exception):
    """A problem at a place; segments are added from the inside out while it travels up."""

    def __init__(self, problem: str, mend: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.mend = mend
        self.segments: list[str] = []

    def within(self, segment: str) -> Refusal:
        """The same refusal, seen from one level further out."""
        self.segments.append(segment)
        return self

    def sentence(self) -> str:
        """``at $.items[3].price: problem; mend``."""
        steps = self.segments[::-1]
        if len(steps) > SEGMENTS:
            steps = [*steps[: SEGMENTS // 2], " ... ", *steps[-SEGMENTS // 2 :]]
        path = "$" + "".join(steps)
        mend = f"; {self.mend}" if self.mend else ""
        return f"at {path}: {self.problem}{mend}"


def at_key(key: object) -> str:
    """The path segment of a key or an attribute."""
    if type(key) is not str:
        return f"[{type_name(type(key))} key]"
    if key.isidentifier() and key.isascii() and len(key) <= SEGMENT_LENGTH:
        return f".{key}"
    return f"[{json.dumps(key[:SEGMENT_LENGTH])}]"


def at_index(index: int) -> str:
    """The path segment of an item."""
    return f"[{index}]"


def type_name(type_: object) -> str:
    """A readable name of a class or an annotation; never raises."""
    try:
        name = type.__dict__["__name__"].__get__(type_) if isinstance(type_, type) else str(type_)
        if hasattr(type_, "__origin__"):
            name = str(type_)
        return str(name).replace("typing.", "")[:SEGMENT_LENGTH]
    except Exception:
        return "an unnamed type"


def mismatch(value: object, expected: object) -> Refusal:
    """The value is not what the annotation says."""
    wanted = type_name(expected)
    return Refusal(
        f"the annotation says {wanted}, the value is of type {type_name(type(value))}",
        f"return a value of type {wanted}, or correct the annotation",
    )


def unknown(value: object) -> Refusal:
    """The value is of a type that is not in the closed set."""
    kind = type(value)
    name = type_name(kind)
    mro = type.__dict__["__mro__"].__get__(kind)
    if BaseException in mro:
        return Refusal(f"{name} is an exception", "raise it, or return its facts as plain values")
    if enum.Enum in mro:
        return Refusal(f"{name} is an enum and nothing says so on reading", ANNOTATE)
    for base in BUILTINS:
        if base in mro:
            return Refusal(
                f"{name} is a subclass of {base.__name__} and would come back as another type",
                f"convert it with {base.__name__}(...), or {ANNOTATE}",
            )
    if kind is types.CoroutineType:
        return Refusal("a coroutine is not a value", "an `await` is missing")
    if any("__next__" in vars(base) or "__anext__" in vars(base) for base in mro):
        return Refusal(f"{name} can be read only once", "return a list")
    if kind in (bytearray, memoryview):
        return Refusal(f"{name} is not stored", "convert it with bytes(...)")
    if type in mro or kind in CODE:
        return Refusal(f"{name} is code, not a value", "return data")
    return Refusal(
        f"{name} is not a type that can be stored without an annotation",
        f"{ANNOTATE}, or return plain values",
    )
