"""Complaints: what goes on failing is said once a while, not every time."""

from __future__ import annotations

import asyncio
import logging

from ..errors import DurableError

EVERY_S = 30.0


class Complaints:
    """Warnings of one kind, about what is tried on."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said_at: float | None = None

    def say(self, what: str, error: Exception) -> None:
        """Warn, unless it was said a moment ago. A foreign error comes with its traceback."""
        now = asyncio.get_running_loop().time()
        if self._said_at is not None and now - self._said_at <= EVERY_S:
            return
        self._said_at = now
        ours = isinstance(error, DurableError)
        self._log.warning(
            "%s: %s",
            what,
            error if ours else type(error).__name__,
            exc_info=None if ours else error,
        )
