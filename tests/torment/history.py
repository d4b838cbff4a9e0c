"""History: what a client asked for, and what it was told of each."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from durable_core.errors import StoreUnavailableError

PATIENCE_S = 30.0
PAUSE_S = 0.1
SUCCEEDED_AT_LEAST = 0.8


@attrs.define
class History:
    """An operation is intended once, and asked for until it is known to have succeeded."""

    intended: int = 0
    succeeded: int = 0
    calls: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    """By operation and answer: ok, failed, unknown, or refused."""
    refused: list[str] = attrs.field(factory=list)
    """What was answered as no outage explains."""

    async def insist(self, operation: str, call: Callable[[], Awaitable[Any]]) -> bool:
        """Do this, again after a failure, and again if it is not known whether it was done; at
        last, whether it is known to be done."""
        self.intended += 1
        give_up_at = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up_at:
            try:
                await call()
            except StoreUnavailableError as error:
                self.calls[operation, "unknown" if error.outcome_unknown else "failed"] += 1
                await asyncio.sleep(PAUSE_S)
            except Exception as error:
                self.calls[operation, "refused"] += 1
                self.refused.append(f"{operation}: {type(error).__name__}: {error}")
                return False
            else:
                self.calls[operation, "ok"] += 1
                self.succeeded += 1
                return True
        return False

    def check(self) -> None:
        """A history in which little was done proves little."""
        assert self.refused == []
        assert self.succeeded >= SUCCEEDED_AT_LEAST * self.intended, self

    def __str__(self) -> str:
        told = (f"{op} {answer} {n}" for (op, answer), n in sorted(self.calls.items()))
        return f"{self.succeeded} of {self.intended} operations succeeded ({', '.join(told)})"
