"""Processes: several simulated processes in one event loop, any of which can die or freeze.

A process is a context variable: every task, timer and callback that a process begins inherits
it, and each callback looks at its process before it runs. When a process dies, none of its
callbacks ever runs again, so its code stands still in the middle of whatever it was doing, as
after ``kill -9``: no ``finally`` runs, nobody is cancelled. When it freezes, its callbacks wait
until it thaws, as after ``SIGSTOP``, and then all of them run late.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import selectors
import warnings
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, TypeVar, TypeVarTuple, Unpack

from ..errors import DurableError
from .virtual_time import DeadlockError, InlineExecutor, VirtualLoop, VirtualTime

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Process:
    """One simulated process."""

    def __init__(self, name: str, loop: ProcessLoop) -> None:
        self.name = name
        self.dead = False
        self.skew_s = 0.0
        """How far its own clocks are off."""
        self.on_turn: Callable[[], None] | None = None
        """Told before each of its turns."""
        self._loop = loop
        self._backlog: list[_Waiting] | None = None

    def begin(self, main: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run this as a main task of the process."""
        context = self._loop.outside.copy()
        context.run(_PROCESS.set, self)
        return self._loop.create_task(main, context=context)

    async def die(self) -> None:
        """End here and now. Called by the process itself, this never returns."""
        self.dead = True
        self._loop.forget(self)
        await self._loop.create_future()

    async def freeze(self, seconds: float) -> None:
        """Stand still for so long, with all that is going on; called by the process itself."""
        if self._backlog is None:
            self._backlog = []
            self._loop.call_later(seconds, self._thaw, context=self._loop.outside)
        await asyncio.sleep(0)

    def holds_up(self, handle: _Waiting) -> bool:
        """Whether this callback of ours must not run now."""
        if self.dead:
            return True
        if self._backlog is not None:
            self._backlog.append(handle)
            return True
        if self.on_turn is not None:
            self.on_turn()
        return False

    def _thaw(self) -> None:
        backlog, self._backlog = self._backlog or [], None
        for handle in backlog:
            self._loop.run_late(handle)


_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar(
    "durable_process", default=None
)


BEGUN: contextvars.ContextVar[list[asyncio.Task[Any]] | None] = contextvars.ContextVar(
    "durable_begun", default=None
)
"""Where the tasks go on record that a handler begins, while it is called."""


def current_process() -> Process:
    """The process whose code is running."""
    process = _PROCESS.get()
    assert process is not None, "only simulated processes ask"
    return process


def skew_s() -> float:
    """How far the clocks of the process are off whose code is running."""
    process = _PROCESS.get()
    return 0.0 if process is None else process.skew_s


class _Soon(asyncio.Handle):
    """A callback that asks its process first."""

    __slots__ = ("process",)

    process: Process | None

    def _run(self) -> None:
        if self.process is None or not self.process.holds_up(self):
            super()._run()


class _Later(asyncio.TimerHandle):
    """A timer that asks its process first. Of those that are due at one time, the one that was set
    first fires first: what happens must not depend on whatever other timers there are."""

    __slots__ = ("number", "process")

    process: Process | None
    number: int

    def __lt__(self, other: Any) -> bool:
        when, its = self.when(), other.when()
        return bool(when < its or (when == its and self.number < other.number))

    def _run(self) -> None:
        if self.process is None or not self.process.holds_up(self):
            super()._run()


_Waiting = _Soon | _Later


class _Nothing(selectors.BaseSelector):
    """There is no world outside to wait for: time passes at once, and asking the system whether
    anything came would take as long as a step."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time

    def select(self, timeout: float | None = None) -> list[Any]:
        """Nothing ever comes but the next timer."""
        if timeout is None:
            raise DeadlockError("the simulated processes wait for something that never comes")
        self._time.seconds += max(0.0, timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        """Refused."""
        raise DurableError(
            "a simulated handler cannot reach the network or another process: give deps that "
            "stand for them"
        )

    def unregister(self, fileobj: Any) -> Any:
        """There is none."""
        raise KeyError(fileobj)

    def get_map(self) -> Mapping[Any, Any]:
        """Empty."""
        return {}


class ProcessLoop(VirtualLoop):
    """An event loop on virtual time that knows which process a callback belongs to."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__(time, _Nothing(time))
        self.outside = contextvars.copy_context()
        """The context of what belongs to no process."""
        self.turns = 0
        self._timers = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self._inside: Any = self  # asyncio's own queues

    def time(self) -> float:
        """What the clock of the process shows whose code is running."""
        return self._virtual.seconds + skew_s()

    def call_soon(
        self,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """As usual."""
        self.turns += 1
        handle = _Soon(callback, args, self, context)
        handle.process = _PROCESS.get() if context is None else context.get(_PROCESS, None)
        self._inside._ready.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """As usual; ``when`` is by the clock of whoever calls."""
        off_s = skew_s()
        if off_s:
            when = round(when - off_s, 9)
        timer = _Later(when, callback, args, self, context)
        self._timers += 1
        timer.number = self._timers
        timer.process = _PROCESS.get() if context is None else context.get(_PROCESS, None)
        heapq.heappush(self._inside._scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined]  # so that it can be cancelled
        return timer

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Args]], T], *args: *Args
    ) -> asyncio.Future[T]:
        """As usual; the loop's own threads (``asyncio.to_thread``) are this one."""
        return super().run_in_executor(executor or InlineExecutor(), func, *args)

    def _make_self_pipe(self) -> None:
        """Nobody sleeps who would have to be woken."""

    def _close_self_pipe(self) -> None:
        """There is none."""

    def _write_to_self(self) -> None:
        """There is none."""

    def run_late(self, handle: _Waiting) -> None:
        """Its process stood still when it was due."""
        self._inside._ready.append(handle)

    def forget(self, process: Process) -> None:
        """Its timers must not hold up the end of the simulation."""
        for timer in self._inside._scheduled:
            if timer.process is process:
                timer.cancel()

    def create_task(
        self,
        coro: Any,
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        """As usual; asyncio holds its tasks weakly, and those of the dead would be collected."""
        task = super().create_task(coro, name=None if name is None else str(name), context=context)
        self._tasks.append(task)
        begun = BEGUN.get()
        if begun is not None:
            begun.append(task)
        return task

    def hush(self) -> None:
        """Nobody is to complain of tasks that stand still for good."""
        for task in self._tasks:
            left: Any = task
            left._log_destroy_pending = False

    def bury(self) -> None:
        """Close the coroutines of all tasks that are left, so that nobody hears of them again.
        Their ``finally`` blocks run then, so nobody must look at the dead any more."""
        self.hush()
        tasks, self._tasks = self._tasks, []
        loop = asyncio._get_running_loop()
        asyncio._set_running_loop(None)  # whoever collects garbage has another one, if any
        with warnings.catch_warnings():
            # What a ``finally`` would have awaited, it does not.
            warnings.simplefilter("ignore", RuntimeWarning)
            for task in tasks:
                left: Any = task
                if not task.done():
                    with suppress(BaseException):
                        left.get_coro().close()
        asyncio._set_running_loop(loop)
