"""Retrying: a client's verb is tried again while the store is out of reach for a moment.

A database that is restarted, or fails over, should not be an error in every caller's hands.
Rules:

1. What certainly did not happen is tried again, with growing pauses, for ``PATIENCE_S``; then
   the caller gets the last error.
2. What may have happened is tried again only where doing it twice is doing it once: a start that
   may join (its id is its key), a message with a dedupe key or a token, a read. Anything else is
   the caller's to decide: the error says so with ``outcome_unknown``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from ...errors import StoreUnavailableError
from ..clock import Backoff

T = TypeVar("T")

PATIENCE_S = 5.0


async def retrying(
    verb: Callable[[], Awaitable[T]],
    entropy: Callable[[int], bytes],
    *,
    repeatable: bool = True,
) -> T:
    """What the verb answers. ``repeatable``: doing it twice is doing it once.

    Raises ``StoreUnavailableError`` when the store stays out of reach.
    """
    loop = asyncio.get_running_loop()
    give_up_at: float | None = None
    backoff = Backoff(entropy)
    while True:
        try:
            return await verb()
        except StoreUnavailableError as error:
            now = loop.time()
            give_up_at = give_up_at or now + PATIENCE_S
            if now >= give_up_at or (error.outcome_unknown and not repeatable):
                raise
        await asyncio.sleep(backoff.next_s())
