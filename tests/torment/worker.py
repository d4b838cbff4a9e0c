"""A worker process on a SQLite file; it drains on SIGTERM, and dies of SIGKILL."""

from __future__ import annotations

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from tests.torment.ledger import LedgerWriter
from tests.torment.mixed import WORKFLOWS

from durable_core import Engine
from durable_sqlite import SqliteStore


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("port", type=int)
    parser.add_argument("--lease", type=float, required=True)
    parser.add_argument("--grace", type=float, default=30.0)
    parser.add_argument("--concurrency", type=int, default=12)
    options = parser.parse_args()

    @asynccontextmanager
    async def ledger() -> AsyncIterator[LedgerWriter]:
        writer = LedgerWriter(options.port)
        try:
            yield writer
        finally:
            await writer.close()

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    engine = Engine(SqliteStore(options.database), WORKFLOWS, lifespan=ledger)
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
