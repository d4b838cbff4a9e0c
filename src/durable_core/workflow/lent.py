"""Lent: what a body of code is lent by whoever drives it: a log, and shelter from the event loop.

Both are the engine's (``engine/worker/body.py``): on this floor there is neither. Where a program
is only replayed, nobody listens and nothing is hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ..kernel.run import RunContext

T = TypeVar("T")


def plainly(body: object, call: Callable[[], T]) -> T:
    """Where there is no loop to hide."""
    return call()


def unheard(run: RunContext, is_silent: Callable[[], bool]) -> Log:
    """Where nobody listens."""
    return _Nobody()


class Log(Protocol):
    """What a body finds as ``ctx.log``: a ``logging.LoggerAdapter``."""

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Say it at this level."""
        ...

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Say it at this level."""
        ...

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Say it at this level."""
        ...

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Say it at this level."""
        ...


class _Nobody:
    """The log of a program that nobody listens to."""

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Nothing."""

    info = warning = error = debug


class Hidden(Protocol):
    """Calls a function of this body where it sees no event loop; see ``Lowering.hidden``."""

    def __call__(self, body: object, call: Callable[[], T], /) -> T: ...
