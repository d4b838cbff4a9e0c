"""Scope: where a unit stands in its run, and all that the user's code at that place may see.

``RunScope`` belongs to one live program: the run's facts, the codec, and the book of results.
``Place`` is one unit of it. Both only read; contexts are views of a place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ..codec.failure import failure_from_exception
from ..codec.payload import Codec
from ..codec.types import ANY
from ..kernel.empty import NO_DICT
from ..kernel.failure import Failure
from ..kernel.ids import RUN_UNIT, UnitKey
from ..kernel.run import RunContext
from ..kernel.value import Payload
from .results import NO_BOOK, Results, Value

T = TypeVar("T")

_UNCHANGEABLE = (str, int, float, bool, type(None))


class RunScope:
    """What the units of one run share."""

    __slots__ = ("book", "codec", "handlers", "input_type", "run", "signals")

    def __init__(
        self,
        run: RunContext,
        codec: Codec,
        *,
        input_type: Any = ANY,
        handlers: Mapping[str, tuple[object, ...]],
    ) -> None:
        """``handlers``: by step or parallel entry, whose results are found under that name."""
        self.run = run
        self.codec = codec
        self.input_type = input_type
        self.handlers = handlers
        self.book = NO_BOOK
        self.signals: dict[str, tuple[int, Value]] = NO_DICT

    def read_input(self) -> Any:
        """The run's input, a fresh copy."""
        return self.codec.decode(self.run.input, self.input_type, what="the run's input")

    def failure(self, error: BaseException) -> Failure:
        """This exception as a recorded failure."""
        return failure_from_exception(error, limit=self.run.limits.error)

    def attempt(self, compute: Callable[[], T]) -> T | Failure:
        """What it computes, or the failure of the user's code in it: a mistake is an outcome."""
        try:
            return compute()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return self.failure(error)


class Carried:
    """A value handed on to a unit: a loop's next input. Each reading is a fresh copy."""

    __slots__ = ("boxed", "payload", "type")

    def __init__(self, payload: Payload, type_: Any, *, boxed: bool = False) -> None:
        """``boxed``: the payload is a list with the value alone in it."""
        self.payload = payload
        self.type = type_
        self.boxed = boxed

    def read(self, codec: Codec) -> Any:
        """The decoded value."""
        value = codec.decode(self.payload, self.type)
        return value[0] if self.boxed else value


class Items:
    """The items of a map. They are decoded once; each reading is a fresh copy of one."""

    __slots__ = ("_codec", "_type", "_values")

    def __init__(self, values: Sequence[Any], type_: Any, codec: Codec) -> None:
        self._values = values
        self._type = type_
        self._codec = codec

    def __len__(self) -> int:
        return len(self._values)

    def read(self, index: int) -> Any:
        """The item at ``index``."""
        item = self._values[index]
        if isinstance(item, _UNCHANGEABLE):
            return item
        codec = self._codec
        return codec.decode(codec.encode(item, self._type, what="the item"), self._type)


class Place:
    """Where user code stands: a unit of a run, with what was known when it began.

    ``own``: the name a compensator of this unit finds the unit's result under, if there is one.
    """

    __slots__ = ("call", "carried", "index", "items", "own", "run", "step", "steps", "unit")

    def __init__(
        self,
        run: RunScope,
        step: str,
        unit: UnitKey = RUN_UNIT,
        *,
        own: str | None = None,
        index: int | None = None,
        items: Items | None = None,
        carried: Carried | None = None,
    ) -> None:
        self.run = run
        self.step = step
        self.unit = unit
        self.steps = len(run.book)
        self.own = own
        self.index = index
        self.items = items
        self.carried = carried
        self.call: tuple[tuple[Any, ...], Mapping[str, Any]] | None = None
        """The arguments that a body of code calls the unit's handler with."""

    def results(self, own: tuple[str, Value] | None = None) -> Results:
        """The results of the steps before this place, not decoded yet."""
        return Results(self.run.book, self.steps, self.run.codec, own)
