"""Observers: who is told what happened. They are told after the fact and decide nothing.

An observer is any object with ``on_event(event)``; the events are the frozen classes below.
One that raises is logged once, and hurts no run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Protocol

import attrs

from ..errors import DefinitionError

log = logging.getLogger("durable.observer")


@attrs.frozen(slots=True, kw_only=True)
class RunClaimed:
    """A worker holds the run now; ``deaths`` workers died holding it since it last progressed."""

    run_id: str
    workflow: str
    worker: str
    deaths: int


@attrs.frozen(slots=True, kw_only=True)
class RunSuspended:
    """The run was given up, until ``until_ms`` (store time) or a message."""

    run_id: str
    workflow: str
    until_ms: int | None


@attrs.frozen(slots=True, kw_only=True)
class RunFinished:
    """The run has ended with this status."""

    run_id: str
    workflow: str
    status: str


@attrs.frozen(slots=True, kw_only=True)
class AttemptStarted:
    """A handler is called."""

    run_id: str
    workflow: str
    unit: str
    attempt: int
    compensating: bool


@attrs.frozen(slots=True, kw_only=True)
class AttemptEnded:
    """A handler ended: ``outcome`` is ``succeeded``, ``failed``, ``suspended`` or ``stopped``."""

    run_id: str
    workflow: str
    unit: str
    attempt: int
    compensating: bool
    outcome: str
    duration_s: float


@attrs.frozen(slots=True, kw_only=True)
class LeaseLost:
    """Another worker holds the run, or its last commit could not be written."""

    run_id: str
    workflow: str
    worker: str


@attrs.frozen(slots=True, kw_only=True)
class RunStarted:
    """A run was created by this engine (not: joined)."""

    run_id: str
    workflow: str


ObservedEvent = (
    RunStarted | RunClaimed | RunSuspended | RunFinished | AttemptStarted | AttemptEnded | LeaseLost
)


class Observer(Protocol):
    """Told of every event, from the event loop; it must not block."""

    def on_event(self, event: ObservedEvent) -> None:
        """Something happened."""
        ...


class Observers:
    """All observers of an engine; false when there are none."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        if not isinstance(observers, Iterable):
            raise DefinitionError(
                f"observers must be a list of observers, not {type(observers).__name__}"
            )
        self._observers: list[Any] = list(observers)
        self._complained: set[int] = set()
        for observer in self._observers:
            if not callable(getattr(observer, "on_event", None)):
                raise DefinitionError(
                    f"observers need a method on_event(event); {type(observer).__name__} has none"
                )

    def __bool__(self) -> bool:
        return bool(self._observers)

    def tell(self, event: ObservedEvent) -> None:
        """Tell everybody."""
        for observer in self._observers:
            try:
                observer.on_event(event)
            except Exception as error:
                if id(observer) not in self._complained:
                    self._complained.add(id(observer))
                    log.error(
                        "observer %s raised %s; it goes on being told, this is said once",
                        type(observer).__name__,
                        type(error).__name__,
                        exc_info=error,
                    )
