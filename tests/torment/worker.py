"""A worker process on the store with this URL; it drains on SIGTERM, and dies of SIGKILL."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from tests.torment.ledger import LedgerWriter
from tests.torment.mixed import WORKFLOWS

from durable_core import Engine
from durable_core.engine.observer import LeaseLost, ObservedEvent


class Confessions:
    """Tells the ledger of every run that was lost, so that its attempts may be lost too."""

    def __init__(self, ledger: LedgerWriter) -> None:
        self._ledger = ledger

    def on_event(self, event: ObservedEvent) -> None:
        """A lost lease is noted; the rest is nobody's business."""
        if isinstance(event, LeaseLost):
            self._ledger.note_soon(op="lost", run=event.run_id, pid=os.getpid())


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("port", type=int)
    parser.add_argument("--lease", type=float, required=True)
    parser.add_argument("--grace", type=float, default=30.0)
    parser.add_argument("--concurrency", type=int, default=12)
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
    engine = Engine(options.url, WORKFLOWS, lifespan=ledger, observers=[Confessions(writer)])
    worker = engine.worker(
        concurrency=options.concurrency,
        lease=timedelta(seconds=options.lease),
        grace=timedelta(seconds=options.grace),
    )
    async with engine, worker:
        print("ready", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
