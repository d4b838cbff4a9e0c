"""Body: what the engine lends to bodies of code while it drives them: no event loop, and a log.

A body runs between two awaits of a worker, on the worker's own event loop. It must not find that
loop: what it would wait for there is in no journal. So it finds a loop that refuses everything,
with a sentence that names what to write instead.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, NoReturn, TypeVar

from ...errors import NondeterminismError
from ...kernel.run import RunContext
from ...workflow.lent import Hidden
from ..clock import Host

log = logging.getLogger("durable.workflow")

T = TypeVar("T")

INSTEAD = {
    "call_later": "ctx.sleep(...)",
    "call_at": "ctx.sleep(...)",
    "create_future": "ctx.sleep(...) for a pause, ctx.wait_for_signal(...) for an event",
    "create_task": "ctx.all(ctx.step(...), ...) or ctx.first(...)",
    "run_in_executor": "ctx.step(function, ...), which may be a plain function",
}


class NoLoop:
    """Stands where the running event loop would be found, and refuses whatever is asked of it."""

    def create_task(self, coroutine: Any, **more: Any) -> NoReturn:
        """Refused; the coroutine is closed, so that nobody is told it was never awaited."""
        if hasattr(coroutine, "close"):  # what ctx gives is none
            coroutine.close()
        _refuse("create_task")

    def __getattr__(self, name: str) -> NoReturn:
        _refuse(name)

    def __hash__(self) -> int:  # noqa: PLE0309  # it raises
        _refuse("current_task")  # asyncio looks up its tasks by loop


def _refuse(name: str) -> NoReturn:
    instead = INSTEAD.get(name, "ctx.step(function, ...) for whatever needs an event loop")
    raise NondeterminismError(
        f"the body of a workflow used asyncio ({name}), but no event loop runs in it: what it "
        f"waits for there would be in no journal. Use {instead}"
    )


_NO_LOOP: Any = NoLoop()


def hidden(body: object, call: Callable[[], T]) -> T:
    """Call it where the running event loop cannot be found, nor find what it begins: the loop
    would close the asynchronous generators of a body that was dropped, as a task of its own."""
    loop, hooks = asyncio._get_running_loop(), sys.get_asyncgen_hooks()
    asyncio._set_running_loop(_NO_LOOP)
    sys.set_asyncgen_hooks(None, None)
    try:
        return call()
    finally:
        sys.set_asyncgen_hooks(*hooks)
        asyncio._set_running_loop(loop)


def hidden_by(host: Host) -> Hidden:
    """The same, with what the host has around it."""
    driving = host.driving
    if driving is None:
        return hidden

    def driven(body: object, call: Callable[[], T]) -> T:
        answer: T = driving(body, lambda: hidden(body, call))
        return answer

    return driven


class BodyLog(logging.LoggerAdapter[logging.Logger]):
    """The log of one run's body: its lines say the run in ``extra``; silent while it catches up."""

    def __init__(self, run: RunContext, is_silent: Callable[[], bool]) -> None:
        super().__init__(log, {"durable_run": run.run_id, "durable_workflow": run.workflow})
        self._is_silent = is_silent

    def isEnabledFor(self, level: int) -> bool:  # named by logging
        """Not while the body only does again what it did before."""
        return not self._is_silent() and super().isEnabledFor(level)

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """What the caller says in ``extra`` is kept."""
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs
