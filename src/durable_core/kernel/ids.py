"""Names of things: runs, units, idempotency keys, tokens; all derived, none drawn.

A unit is identified by (run, generation, unit path). The path is a tuple of segments: the
step's name, then the entry's name or the index. Names never contain ``/``, so the printed
path ``check/fraud`` or ``pick/3`` parses back to exactly one key.
"""

from __future__ import annotations

import hashlib
from typing import NewType

RunId = NewType("RunId", str)

SEPARATOR = "/"


class UnitKey(tuple[str, ...]):
    """Path of a unit inside its run; the empty key stands for the run itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return SEPARATOR.join(self)

    def __repr__(self) -> str:
        return f"UnitKey({str(self)!r})"

    def child(self, segment: str | int) -> UnitKey:
        """The unit one level below, e.g. an entry, an item or an iteration."""
        return UnitKey((*self, str(segment)))

    @property
    def step(self) -> str | None:
        """The name of the step this unit belongs to; None for the run itself."""
        return self[0] if self else None

    @classmethod
    def of(cls, *segments: str | int) -> UnitKey:
        """A key from its segments."""
        return cls(str(segment) for segment in segments)

    @classmethod
    def parse(cls, text: str) -> UnitKey:
        """The inverse of ``str``."""
        return cls(text.split(SEPARATOR)) if text else RUN_UNIT


RUN_UNIT = UnitKey()


def idempotency_key(
    run_id: str, generation: int, unit: UnitKey, *, compensating: bool = False
) -> str:
    """Key handed to handlers: stable over attempts and redeliveries, new in each generation."""
    suffix = ":compensate" if compensating else ""
    return f"{run_id}:{generation}:{unit}{suffix}"


def derived_id(*parts: str | int) -> str:
    """32 hex characters determined by the parts, for child run ids and suspension tokens."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def child_run_id(parent_id: str, created_at_ms: int, generation: int, unit: UnitKey) -> RunId:
    """The id of the child run that this unit spawns; deterministic, so a spawn is idempotent.

    ``created_at_ms`` is the parent's. A parent that was pruned may be survived by its children for
    a while; a later run of the parent's id must not take them for its own.
    """
    return RunId(derived_id("child", parent_id, created_at_ms, generation, str(unit)))
