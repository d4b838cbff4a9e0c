"""Given: the arguments that a body gives its steps, as they were, to be compared later.

They are handed on as they are. A step that changes them changes a variable of the body, but only
where the step is really called: when the body is replayed, the step is not, and the variable stays
what it was.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import attrs

from ..workflow.invocation import Invocation
from ..workflow.step_scope import StepScope
from .alike import alike, fields_of, holds, shown

NOTHING: Any = object()
"""There is none, or it cannot be copied."""


def copied(value: Any) -> Any:
    """A deep copy, or ``NOTHING``."""
    try:
        return copy.deepcopy(value)
    except Exception:  # locks, connections: whatever a user hands around
        return NOTHING


def arguments(invocation: Invocation) -> Any:
    """What a step is called with, copied; ``NOTHING`` where that cannot be."""
    place: Any = invocation.context._place
    return copied(place.call)


@attrs.frozen(slots=True)
class Given:
    """The arguments of one call of a step, each with its name, itself, and as it was."""

    arguments: tuple[tuple[str, Any, Any], ...]

    @classmethod
    def to(cls, invocation: Invocation) -> Given | None:
        """What this call is given; None if it is no call of a step of a body."""
        place: Any = invocation.context._place
        if not isinstance(place, StepScope):
            return None
        args, kwargs = place.call or ((), {})
        named = [(f"argument {number}", one) for number, one in enumerate(args, 1)]
        named += [(f"argument {name!r}", one) for name, one in kwargs.items()]
        deps = invocation.context.deps
        return cls(
            tuple(
                (name, one, kept)
                for name, one in named
                if one is not deps and _changeable(one) and (kept := copied(one)) is not NOTHING
            )
        )

    def changed(self, value: Any) -> Iterator[str]:
        """What is not as it was, and is not given back either."""
        for name, one, kept in self.arguments:
            if not alike(one, kept) and not holds(value, one):
                yield (
                    f"it changed its {name} (from {shown(kept)} to {shown(one)}), which belongs to "
                    "the body: when that is replayed, the step is not called, and nothing is "
                    "changed; return what the body needs"
                )


def _changeable(value: Any) -> bool:
    return isinstance(value, list | dict | set | bytearray) or fields_of(value) is not None
