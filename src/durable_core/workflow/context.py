"""StepContext: what a user's function is told about where it runs.

One class for all of them. A handler's context has the facts of its attempt; the functions that
shape a run (``select``, ``items``, ``returns``, ...) see its unchanging part alone, and asking for
more says so. Values are decoded when they are first looked at, for this context only.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any, Generic, cast, overload

from typing_extensions import TypeVar  # that of typing knows defaults from Python 3.13 on

from ..errors import DurableError
from ..kernel.ids import idempotency_key
from ..kernel.outcome import Attempt
from ..kernel.run import RunContext
from .callables import describe
from .results import ListValue, Results, Value, assembled, read
from .scope import Place
from .suspend import Resumption, Suspend

DepsT_co = TypeVar("DepsT_co", covariant=True, default=Any)
InputT_co = TypeVar("InputT_co", covariant=True, default=Any)
T = TypeVar("T")

LogOf = Callable[[Attempt, RunContext], Any]
"""Makes the logger of an attempt of a run."""

_NOT_READ: Any = object()


class StepContext(Generic[DepsT_co, InputT_co]):
    """Handed to every handler: the run's input, earlier results, and the facts of this attempt.

    ``StepContext[Deps, Input]``: the type of what ``lifespan`` yields, and of the run's input.
    ``StepContext[Deps]`` and a bare ``StepContext`` leave the rest ``Any``.
    Values are this handler's own copies; changing them changes nothing anywhere else.
    """

    __slots__ = (
        "_attempt",
        "_conn",
        "_deadline",
        "_deps",
        "_input",
        "_log",
        "_place",
        "_results",
        "_revoked",
        "_value",
    )

    def __init__(
        self,
        place: Place,
        attempt: Attempt | None = None,
        *,
        deps: Any = None,
        deadline: datetime | None = None,
        conn: Any = None,
        log: LogOf | None = None,
        value: Value | None = None,
    ) -> None:
        """Made by the library. ``value``: the unit's own result, for its compensator."""
        self._place = place
        self._attempt = attempt
        self._deps = deps
        self._deadline = deadline
        self._conn = conn
        self._log = log
        self._value = value
        self._input: Any = _NOT_READ
        self._results: Results | None = None
        self._revoked = False

    def revoke(self) -> None:
        """The attempt was abandoned: whoever still holds this context can do nothing by it."""
        self._revoked = True

    def __repr__(self) -> str:
        place = self._place
        return f"<StepContext of {str(place.unit) or place.step!r} in run {self.run_id!r}>"

    # --- the run -----------------------------------------------------------------------------

    @property
    def input(self) -> InputT_co:
        """What the run was started with."""
        if self._input is _NOT_READ:
            self._input = self._place.run.read_input()
        return cast(InputT_co, self._input)

    @property
    def results(self) -> Mapping[str, Any]:
        """The results of the steps before this one, by name: read-only.

        An entry of a parallel is found under its own name too. A compensator sees what its unit
        saw, and the unit's own result.
        """
        return self._known

    @overload
    def result(self, step: str) -> Any: ...
    @overload
    def result(self, step: str, type: type[T]) -> T: ...
    @overload
    def result(self, step: Callable[..., Coroutine[Any, Any, T | Suspend]]) -> T: ...
    @overload
    def result(self, step: Callable[..., T | Suspend]) -> T: ...
    def result(self, step: object, type: Any = None) -> Any:
        """One earlier result, by the step's (or entry's) name or by its handler.

        With a ``type`` it is read as that; by a handler, as what the handler is annotated to
        give. Raises ``KeyError`` when there is no such result (yet), ``ValueError`` when the
        handler stands in several steps, or gives many values (a map). To mypy the result of an
        async handler is ``Any`` when its own signature holds ``Any`` (a bare context does): give
        the name and the type then.
        """
        name = step if isinstance(step, str) else self._name_of(step)
        if type is None:
            return self._known[name]
        reference = self._known.reference(name)
        if reference is None:
            return self._known[name]  # says what there is
        codec = self._place.run.codec
        return codec.decode(assembled(reference, codec), type)

    def signal(self, name: str) -> Any:
        """The payload of a signal that was waited for before, by the signal's or the step's name.

        ``None`` if that wait timed out. Raises ``KeyError`` if there was no such wait yet.
        """
        place = self._place
        position, reference = place.run.signals.get(name, (place.steps, None))
        if reference is not None and position < place.steps:
            return read(reference, place.run.codec)
        if name in self._known:
            return self._known[name]
        raise KeyError(
            f"no step before this one waited for a signal {name!r}; "
            f"use .wait_for_signal(...) in an earlier step"
        )

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._place.run.run.run_id

    @property
    def workflow(self) -> str:
        """The workflow's name."""
        return self._place.run.run.workflow

    @property
    def step_name(self) -> str:
        """The name of the step; inside parallel, map, route and loop too."""
        return self._place.step

    @property
    def unit(self) -> str:
        """The path of the unit: ``reserve``, ``check/fraud``, ``pick/3``, ``track/0``."""
        return str(self._place.unit)

    # --- the attempt ---------------------------------------------------------------------------

    @property
    def attempt(self) -> int:
        """Which try this is, from 1."""
        return self._in_handler("attempt").number

    @property
    def idempotency_key(self) -> str:
        """The same over all attempts and redeliveries of this unit; another for its compensator.

        Hand it to whatever the handler calls, so that doing it twice is doing it once.
        """
        attempt = self._in_handler("idempotency_key")
        return idempotency_key(
            self.run_id,
            attempt.generation,
            attempt.key.unit,
            compensating=attempt.key.compensating,
        )

    @property
    def deps(self) -> DepsT_co:
        """What the engine's ``lifespan`` yielded."""
        self._in_handler("deps")
        return cast(DepsT_co, self._deps)

    @property
    def resumption(self) -> Resumption | None:
        """What this unit was resumed with after ``Suspend``; ``None`` if it never was."""
        attempt = self._in_handler("resumption")
        if attempt.snapshot is None or attempt.data is None:
            return None
        codec = self._place.run.codec
        return Resumption(
            codec.decode(attempt.snapshot, what="the snapshot"),
            codec.decode(attempt.data, what="the data it was resumed with"),
        )

    @property
    def deadline(self) -> datetime | None:
        """When this attempt's time is up (aware), or ``None`` without a ``timeout``."""
        self._in_handler("deadline")
        return self._deadline

    @property
    def log(self) -> Any:
        """A logger that knows the run, the unit and the attempt."""
        attempt = self._in_handler("log")
        return None if self._log is None else self._log(attempt, self._place.run.run)

    # --- only in some places -----------------------------------------------------------------

    @property
    def item(self) -> Any:
        """The item of a map that this unit is for."""
        items, index = self._place.items, self._place.index
        if items is None or index is None:
            raise self._only("item", "in the handlers of a map")
        return items.read(index)

    @property
    def index(self) -> int:
        """The place of the item in its list, from 0."""
        if self._place.items is None or self._place.index is None:
            raise self._only("index", "in the handlers of a map")
        return self._place.index

    @property
    def iteration(self) -> int:
        """Which iteration of a loop this is, from 0 as in the unit's path."""
        if self._place.carried is None or self._place.index is None:
            raise self._only("iteration", "in the handlers of a loop")
        return self._place.index

    @property
    def value(self) -> Any:
        """The result of the unit that is to be undone."""
        if self._value is None:
            raise self._only("value", "in compensators")
        return read(self._value, self._place.run.codec)

    @property
    def args(self) -> tuple[Any, ...]:
        """What the body of a workflow called this step with, by position; for its compensator
        too."""
        return self._call()[0]

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """What the body of a workflow called this step with, by name."""
        return self._call()[1]

    def _call(self) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        call = self._place.call
        if call is None:
            raise self._only("args", "in steps that a body of code calls")
        return call

    @property
    def conn(self) -> Any:
        """The store's own connection, inside the transaction that commits this unit's entry."""
        if self._conn is None:
            raise self._only("conn", "in steps with transactional=True")
        self._in_handler("conn")
        return self._conn

    @property
    def _known(self) -> Results:
        if self._results is None:
            place, value = self._place, self._value
            own = None if value is None or place.own is None else (place.own, value)
            self._results = place.results(own)
        return self._results

    def _name_of(self, handler: object) -> str:
        names = [
            name
            for name, handlers in self._place.run.handlers.items()
            if any(known == handler for known in handlers)
        ]
        if not names:
            raise KeyError(
                f"{describe(handler)} is no handler of workflow {self.workflow!r}; "
                f"use the step's name"
            )
        if len(names) > 1:
            raise ValueError(
                f"{describe(handler)} stands in several steps ({', '.join(names)}); "
                f"use ctx.result(name, Type)"
            )
        if isinstance(self._known.reference(names[0]), ListValue):
            raise ValueError(
                f"step {names[0]!r} gives a list of what {describe(handler)} gives; "
                f"use ctx.result({names[0]!r}, list[...])"
            )
        return names[0]

    def _in_handler(self, attribute: str) -> Attempt:
        if self._attempt is None:
            raise self._only(attribute, "in handlers and compensators")
        if self._revoked and attribute != "log":
            raise DurableError(
                f"attempt {self._attempt.number} of {self.unit!r} in run {self.run_id!r} was "
                f"abandoned when it did not end in time, so ctx.{attribute} is closed to it; "
                f"whatever it still does counts for nothing"
            )
        return self._attempt

    def _only(self, attribute: str, where: str) -> AttributeError:
        place = f"step {self.step_name!r}" if self._place.unit else self.step_name
        return AttributeError(f"ctx.{attribute} is there only {where}, not here ({place})")
