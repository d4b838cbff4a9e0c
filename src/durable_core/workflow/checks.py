"""Checks: what the builder's arguments may be, and the one form they are kept in.

A ``Spot`` is the place in a definition that is being written. Each of its methods takes what the
author wrote and gives it checked, or raises ``DefinitionError`` saying where, what, and the mend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import UnionType
from typing import Any, NewType, TypeVar, get_origin

import attrs

from ..errors import DefinitionError
from ..kernel.policy import DEFAULT_RETRY, DEFAULT_UNDO_RETRY, Duration, Retry, duration_ms
from ..kernel.shown import shown
from .callables import Function, check_handler, check_pure
from .names import check_key, check_label, check_name
from .nodes import Branch, Undo, UndoWork, Work
from .registry import is_definition

CTX = ((1, "ctx"),)
ITEM = ((1, "ctx"), (2, "ctx, item"))
VALUE = ((2, "ctx, value"), (1, "ctx"))
RESULT = ((1, "result"),)
VERDICT = ((2, "result, n"), (1, "result"))

Arities = Sequence[tuple[int, str]]


@attrs.frozen(slots=True)
class Spot:
    """A place in a definition; ``where`` is how messages call it."""

    where: str

    @classmethod
    def of(cls, workflow: str, step: object, taken: frozenset[str]) -> Spot:
        """The place of a new step. Its name must be good, and free in this workflow."""
        spot = cls(f"workflow {workflow!r}, step {shown(step)}")
        check_name(step, what="the name of the step", where=spot.where)
        spot.free(step, taken, what="the name of the step")
        return spot

    def refuse(self, problem: str) -> DefinitionError:
        """The error for this place, to be raised."""
        return DefinitionError(f"{self.where}: {problem}")

    def free(self, name: object, taken: frozenset[str], *, what: str) -> None:
        """Steps and entries of parallels share one name space."""
        if name in taken:
            raise self.refuse(
                f"{what}, {name!r}, is taken by another step or parallel entry of this workflow, "
                f"and results are found by name; choose another"
            )

    def type(self, type_: object, *, what: str) -> Any:
        """An annotation: a class, a union, ``list[...]`` and the like, or ``ANY``."""
        if not is_annotation(type_):
            raise self.refuse(
                f"{what} must be a type to read the value as (a class, list[...], A | B), "
                f"not {shown(type_)}"
            )
        return type_

    def name(self, name: object, *, what: str) -> None:
        """The name of something inside this step."""
        check_name(name, what=what, where=self.where)

    # --- functions -----------------------------------------------------------------------------

    def work(
        self,
        handler: object,
        compensate: object,
        retry: object,
        timeout: object,
        *,
        what: str = "the handler",
        arities: Arities = CTX,
    ) -> Work:
        """A handler with its policies."""
        if isinstance(handler, Branch):
            raise self.refuse(
                f"{what} is a Branch, which is for parallel and route; pass its handler, and its "
                f"policies as arguments"
            )
        takes = check_handler(handler, what=what, where=self.where, arities=arities)
        return Work(
            handler=_function(handler),
            takes=takes,
            retry=self.retry(retry, DEFAULT_RETRY, what=f"retry of {what}"),
            timeout_ms=self.timeout(timeout, what=f"timeout of {what}"),
            undo=self.undo(compensate),
        )

    def branch(self, name: str, branch: object) -> Work:
        """A named handler of a parallel or a route, bare or as a ``Branch``."""
        spot = Spot(f"{self.where}, entry {name!r}")
        if isinstance(branch, Branch):
            return spot.work(branch.handler, branch.compensate, branch.retry, branch.timeout)
        return spot.work(branch, None, None, None)

    def undo(self, compensate: object) -> UndoWork | None:
        """A compensator, bare or as an ``Undo``."""
        if compensate is None:
            return None
        undo = compensate if isinstance(compensate, Undo) else Undo(_function(compensate))
        what = "the compensator"
        check_handler(undo.handler, what=what, where=self.where)
        return UndoWork(
            handler=_function(undo.handler),
            retry=self.retry(undo.retry, DEFAULT_UNDO_RETRY, what=f"retry of {what}"),
            timeout_ms=self.timeout(undo.timeout, what=f"timeout of {what}"),
        )

    def pure(self, function: object, *, what: str, arities: Arities = CTX) -> int:
        """How many arguments a function that shapes the run takes."""
        return check_pure(function, what=what, where=self.where, arities=arities)

    def value_or_pure(self, value: object, *, what: str) -> object:
        """A value, or a function of the context that gives one."""
        if callable(value):
            self.pure(value, what=what)
        return value

    # --- the rest ------------------------------------------------------------------------------

    def branches(self, branches: object, *, what: str) -> tuple[tuple[str, Any], ...]:
        """The items of a mapping that is not empty."""
        if not isinstance(branches, Mapping):
            raise self.refuse(
                f"{what} must be a mapping of names to handlers, not {type(branches).__name__}"
            )
        if not branches:
            raise self.refuse(f"{what} must not be empty; give at least one handler")
        return tuple(branches.items())

    def keys(self, branches: Sequence[tuple[Any, Any]]) -> tuple[tuple[str, Work], ...]:
        """The branches of a route by their keys."""
        checked: dict[str, Work] = {}
        for raw, branch in branches:
            key = check_key(raw, where=self.where)
            if key in checked:
                raise self.refuse(f"the route key {key!r} stands there twice; remove one")
            checked[key] = self.branch(key, branch)
        return tuple(checked.items())

    def retry(self, retry: object, default: Retry, *, what: str) -> Retry:
        """A retry policy; None is the default one."""
        if retry is None:
            return default
        if not isinstance(retry, Retry):
            raise self.refuse(
                f"{what} must be a Retry, not {type(retry).__name__}; "
                f"say e.g. Retry(max_attempts=5), or Retry(max_attempts=1) for no retry"
            )
        return retry

    def timeout(self, timeout: object, *, what: str = "timeout") -> int | None:
        """An attempt's time limit in ms; it must be more than nothing."""
        if timeout is None:
            return None
        limit_ms = self.duration(timeout, what=what)
        if limit_ms == 0:
            raise self.refuse(f"{what} must be more than zero; leave it out for no time limit")
        return limit_ms

    def duration(self, duration: object, *, what: str) -> int:
        """A ``timedelta`` or number of seconds, in ms."""
        return duration_ms(_duration(duration), what=f"{self.where}: {what}")

    def moment(self, duration: object, *, what: str) -> int | datetime | Function:
        """What a sleep waits for: a duration in ms, an aware moment, or a function."""
        if isinstance(duration, datetime):
            if duration.utcoffset() is None:
                raise self.refuse(
                    f"{what} is a naive datetime, {duration}, which means another moment on "
                    f"another machine; give it a timezone, e.g. tzinfo=UTC"
                )
            return duration
        if callable(duration):
            self.pure(duration, what=what)
            return _function(duration)
        return self.duration(duration, what=what)

    def count(self, count: object, *, what: str, minimum: int = 1) -> int:
        """A whole number of at least ``minimum``."""
        if isinstance(count, bool) or not isinstance(count, int) or count < minimum:
            raise self.refuse(f"{what} must be an int of {minimum} or more, not {shown(count)}")
        return count

    def optional_count(self, count: object, *, what: str, minimum: int = 1) -> int | None:
        """The same, or None for no limit."""
        return None if count is None else self.count(count, what=what, minimum=minimum)

    def flag(self, flag: object, *, what: str) -> bool:
        """True or False, and nothing that merely looks like it."""
        if not isinstance(flag, bool):
            raise self.refuse(f"{what} must be True or False, not {shown(flag)}")
        return flag

    def choice(self, chosen: object, choices: Sequence[str], *, what: str) -> str:
        """One of a few words."""
        if not isinstance(chosen, str) or chosen not in choices:
            allowed = " or ".join(repr(choice) for choice in choices)
            raise self.refuse(f"{what} must be {allowed}, not {shown(chosen)}")
        return chosen

    def workflow(self, workflow: object) -> Any:
        """A child workflow: a definition, or a name."""
        if isinstance(workflow, str):
            return check_name(workflow, what="the name of the child workflow", where=self.where)
        if not is_definition(workflow):
            raise self.refuse(
                f"the child must be a workflow or the name of one, not {type(workflow).__name__}"
            )
        return workflow

    def signal(self, signal: object) -> str | Function:
        """A signal's name, or a function that gives it."""
        if callable(signal):
            self.pure(signal, what="signal")
            return _function(signal)
        return check_label(signal, what="the name of the signal", where=self.where)


def check_workflow(name: object, version: object, input_type: object) -> None:
    """A workflow's own name and version, and the type of its input."""
    where = f"workflow {shown(name)}"
    check_name(name, what="the name of the workflow", where=where)
    check_label(version, what="version", where=where)
    Spot(where).type(input_type, what="input")


def is_annotation(value: object) -> bool:
    """Whether this can stand as an annotation that says what a value is."""
    kinds = (type, UnionType, NewType, TypeVar)
    return value is None or value is Any or isinstance(value, kinds) or bool(get_origin(value))


def _function(function: Any) -> Function:
    found: Function = function
    return found


def _duration(duration: Any) -> Duration:
    found: Duration = duration
    return found
