"""A worker process on the store with this URL; it drains on SIGTERM, and dies of SIGKILL."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from tests.torment.ledger import LedgerWriter
from tests.torment.mixed import BEGAN_AT, WORKFLOWS

from durable_core import Engine
from durable_core.engine.observer import AttemptStarted, LeaseLost, ObservedEvent


class Witness:
    """Says when attempts began, and tells the ledger of runs that were lost, so that their
    attempts may be lost too."""

    def __init__(self, ledger: LedgerWriter) -> None:
        self._ledger = ledger

    def on_event(self, event: ObservedEvent) -> None:
        """What is told of an attempt is told in the task that will call the handler."""
        match event:
            case AttemptStarted():
                BEGAN_AT.set(time.monotonic())
            case LeaseLost():
                self._ledger.note_soon(op="lost", run=event.run_id, pid=os.getpid())


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("port", type=int)
    parser.add_argument("--lease", type=float, required=True)
    parser.add_argument("--grace", type=float, default=30.0)
    parser.add_argument("--concurrency", type=int, default=12)
    parser.add_argument("--name")
    options = parser.parse_args()
    writer = LedgerWriter(options.port)

    @asynccontextmanager
    async def ledger() -> AsyncIterator[LedgerWriter]:
        try:
            yield writer
        finally:
            await writer.close()

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    engine = Engine(options.url, WORKFLOWS, lifespan=ledger, observers=[Witness(writer)])
    worker = engine.worker(
        concurrency=options.concurrency,
        lease=timedelta(seconds=options.lease),
        grace=timedelta(seconds=options.grace),
        name=options.name,
    )
    async with engine, worker:
        print("ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
