"""Refused: why a value or a stored text is not taken, and where inside it."""

from __future__ import annotations

from typing import Any, get_origin

MAX_STEP = 60


class Refused(Exception):
    """Internal to the codec: becomes an ``EncodingError`` at its door.

    ``steps`` lead from the refused part outwards, as they are added on the way up.
    """

    def __init__(self, reason: str, *steps: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps = list(steps)

    def at(self, step: str) -> Refused:
        """Say that this happened one level inside ``step``."""
        self.steps.append(step)
        return self

    @property
    def path(self) -> str:
        """The place, e.g. ``$.items[3].price``."""
        return "$" + "".join(reversed(self.steps))


def key_step(key: object) -> str:
    """The path step of a mapping's key or a field's name."""
    if type(key) is str and key.isidentifier() and len(key) <= MAX_STEP:
        return f".{key}"
    text = ascii(key) if type(key) in (str, int, bool, type(None)) else type_name(type(key))
    return f"[{text if len(text) <= MAX_STEP else text[:MAX_STEP] + '...'}]"


def index_step(index: int) -> str:
    """The path step of a list's or tuple's item."""
    return f"[{index}]"


def type_name(type_: Any) -> str:
    """A type as its author writes it, whatever its metaclass does."""
    try:
        if isinstance(type_, type) and get_origin(type_) is None:
            return str(type_.__qualname__).rpartition("<locals>.")[2]
        return str(type_).replace("typing.", "").replace("NoneType", "None")
    except Exception:
        return "a type whose name cannot be read"


def told(error: BaseException) -> str:
    """A foreign exception in a line, whatever its ``__str__`` does."""
    try:
        text = str(error)
    except Exception:
        text = "its message cannot be read"
    return f"{type_name(type(error))}: {text[:300]}"
