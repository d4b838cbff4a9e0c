"""Sender: a process without a worker that starts runs; the other end of ``waking_pg``.

``python -m benchmarks.sender_pg DSN SCHEMA LISTEN ROUNDS AT_ONCE``: so many rounds, and in each so
many starts at once. It rests between rounds, for as long as chance has it, so that a round meets
the worker asleep, at any moment between two looks of one that polls.
"""

from __future__ import annotations

import asyncio
import random
import sys

from benchmarks.whole_engine import new_input, workflow_of
from durable_core import Engine
from durable_pg import PgStore

REST_S = (0.06, 0.26)


async def rest() -> None:
    """Long enough for everything to fall asleep."""
    await asyncio.sleep(random.uniform(*REST_S))


async def send(dsn: str, schema: str, listen: bool, rounds: int, at_once: int) -> None:
    workflow = workflow_of(1)
    store = PgStore(dsn, schema=schema, listen=listen)
    async with Engine(store, [workflow], migrate=False) as engine:
        for _ in range(rounds):
            await rest()
            await asyncio.gather(*(engine.start(workflow, new_input()) for _ in range(at_once)))


if __name__ == "__main__":
    dsn, schema, listen, rounds, at_once = sys.argv[1:]
    asyncio.run(send(dsn, schema, listen == "True", int(rounds), int(at_once)))
