"""Lifespan: the user's resources, opened once a process for all handlers.

The user's context manager is entered and left by one task of its own, so that it may hold what
must end in the task it began in (cancel scopes, task groups).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from ..errors import DefinitionError
from ..workflow.callables import takes

LifespanFactory = Callable[..., AbstractAsyncContextManager[Any]]


def checked(lifespan: object) -> LifespanFactory | None:
    """The function given as ``lifespan``. Raises ``DefinitionError``."""
    if lifespan is None:
        return None
    if not callable(lifespan) or not (takes(lifespan, 0) or takes(lifespan, 1)):
        raise DefinitionError(
            "lifespan must be an async context manager function without arguments (or with one, "
            f"the engine), not {type(lifespan).__name__}"
        )
    if inspect.isasyncgenfunction(lifespan):
        return asynccontextmanager(lifespan)
    found: LifespanFactory = lifespan
    return found


class Lifespan:
    """Opened when first asked for, closed with the engine."""

    def __init__(self, factory: LifespanFactory | None, engine: object) -> None:
        self._factory = factory
        self._engine = engine
        self._deps: asyncio.Future[Any] | None = None
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def deps(self) -> Any:
        """What the user's context manager yielded. Raises what it raises."""
        if self._factory is None:
            return None
        if self._deps is None:
            self._deps = asyncio.get_running_loop().create_future()
            self._closing = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._hold(self._deps))
        opening = self._deps
        try:
            return await asyncio.shield(opening)
        except BaseException:
            if opening.done() and opening is self._deps:
                self._deps = None  # it failed; the next worker tries again
            raise

    async def close(self) -> None:
        """Leave the context manager. Raises what it raises."""
        task, self._task, self._deps = self._task, None, None
        self._closing.set()
        if task is not None:
            await task

    async def _hold(self, opening: asyncio.Future[Any]) -> None:
        try:
            async with self._enter() as deps:
                if not opening.done():
                    opening.set_result(deps)
                await self._closing.wait()
        except BaseException as error:
            if opening.done():
                raise
            opening.set_exception(error)
            opening.exception()  # somebody may have stopped waiting

    def _enter(self) -> AbstractAsyncContextManager[Any]:
        assert self._factory is not None
        manager = self._factory() if takes(self._factory, 0) else self._factory(self._engine)
        if not hasattr(manager, "__aenter__"):
            raise DefinitionError(
                "lifespan must give an async context manager; decorate it with "
                "@contextlib.asynccontextmanager"
            )
        return manager
