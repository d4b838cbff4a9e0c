"""Arguments: what callers hand in, checked before anything is written.

Each function takes an argument and gives it in the form it is used in, or raises ``DurableError``
with a sentence that names the argument, what is wrong with it, and the mend.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ..errors import DefinitionError, DurableError
from ..kernel.policy import duration_ms
from ..kernel.run import RunStatus
from ..kernel.shown import shown
from ..workflow.decisions import EPOCH
from ..workflow.names import signal_name_problem

PRIORITY_MAX = 1_000_000
TEXT_MAX = 1_000
"""The longest attribute, in characters of its JSON text."""
STATUSES = tuple(status.value for status in RunStatus)
ENDED = tuple(status.value for status in RunStatus if status.terminal)


def text(value: object, *, what: str, limit: int) -> str:
    """A name or an id: printable, not empty, at most ``limit`` characters."""
    problem = signal_name_problem(value, limit)
    if problem is not None:
        raise DurableError(f"{what} {problem}")
    return str(value)


def optional_text(value: object, *, what: str, limit: int) -> str | None:
    """The same, or None."""
    return None if value is None else text(value, what=what, limit=limit)


def whole(value: object, *, what: str, least: int, most: int) -> int:
    """An int within bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise DurableError(f"{what} must be an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise DurableError(f"{what} must be between {least} and {most}, not {shown(value)}")
    return value


def choice(value: object, choices: Iterable[str], *, what: str) -> str:
    """One of a few words."""
    words = tuple(choices)
    if not isinstance(value, str) or value not in words:
        raise DurableError(
            f"{what} must be one of {', '.join(map(repr, words))}, not {shown(value)}"
        )
    return value


def milliseconds(value: object, *, what: str) -> int:
    """A ``timedelta`` or a number of seconds."""
    try:
        return duration_ms(value, what=what)  # type: ignore[arg-type]  # it checks the type
    except DefinitionError as error:
        raise DurableError(str(error)) from None


def seconds(value: object, *, what: str) -> float | None:
    """A time limit as seconds; None is none."""
    if value is None:
        return None
    return milliseconds(value, what=what) / 1000


def moment_ms(value: object, *, what: str) -> int:
    """An aware ``datetime`` as ms since 1970 UTC, rounded up."""
    if not isinstance(value, datetime):
        raise DurableError(f"{what} must be an aware datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise DurableError(
            f"{what} is a naive datetime, which means another moment on another machine; give it "
            "a timezone, e.g. tzinfo=UTC"
        )
    return math.ceil((value - EPOCH) / timedelta(milliseconds=1))


def cursor(value: object, *, limit: int) -> tuple[int, str]:
    """The (created_at, id) of a run to go on behind."""
    match value:
        case (created_at, run_id):
            return moment_ms(created_at, what="after"), text(run_id, what="after", limit=limit)
        case _:
            raise DurableError(
                f"after must be a pair of a run's created_at and its id, not {type(value).__name__}"
            )


def attributes(value: object, *, limit: int) -> dict[str, str]:
    """Attribute names to canonical JSON texts of scalars."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise DurableError(f"attributes must be a mapping, not {type(value).__name__}")
    return {
        text(name, what="the name of an attribute", limit=limit): _scalar(name, one)
        for name, one in value.items()
    }


def _scalar(name: object, value: object) -> str:
    what = f"attribute {name!r}"
    if not isinstance(value, str | bool | int | float):
        raise DurableError(
            f"{what} must be a string, number or bool, not {type(value).__name__}; put structured "
            "values into the input"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise DurableError(f"{what} must be a finite number")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise DurableError(f"{what} must fit into 64 bits")
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        value = int(value)  # 1.0 and 1 are equal, and so are their texts
    plain: Any = value
    canonical = json.dumps(plain, ensure_ascii=False)
    try:
        canonical.encode()
    except UnicodeEncodeError:
        raise DurableError(f"{what} holds a lone surrogate; remove it") from None
    if "\\u0000" in canonical:
        raise DurableError(f"{what} holds a zero character; remove it")
    if len(canonical) > TEXT_MAX:
        raise DurableError(f"{what} has more than {TEXT_MAX} characters; shorten it")
    return canonical


def statuses(value: object) -> tuple[str, ...] | None:
    """One status or several; None is any."""
    return _statuses(value, STATUSES, what="status")


def ended_statuses(value: object) -> tuple[str, ...] | None:
    """The same, of runs that have ended."""
    return _statuses(value, ENDED, what="the status of runs to be removed")


def _statuses(value: object, known: tuple[str, ...], *, what: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    several = (value,) if isinstance(value, str) else value
    if not isinstance(several, Iterable):
        raise DurableError(f"status must be a status or several, not {type(value).__name__}")
    return tuple(choice(one, known, what=what) for one in several)
