"""One worker of the demo, as a process of its own: the one that is killed.

``python -m durable_ops.demo.worker URL LEDGER`` claims and advances runs until its standard
input ends; then it drains and leaves. So it also ends when whoever started it is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from durable_core import Engine

from .workflow import WORKFLOWS, shop_at

LEASE = timedelta(seconds=2)
"""Short, so that the runs of a killed worker are soon free; 30 s is the engine's own default."""

CONCURRENCY = 100
"""Attempts at once."""


async def work(url: str, ledger: Path, *, queue: str = "demo", seed: int = 0) -> None:
    """Advance the runs of this queue until standard input ends."""
    engine = Engine(url, WORKFLOWS, lifespan=shop_at(ledger, seed=seed))
    worker = engine.worker(
        concurrency=CONCURRENCY, queues=[queue], lease=LEASE, grace=timedelta(seconds=5)
    )
    async with engine, worker:
        await end_of_input()


async def end_of_input() -> None:
    """Return when standard input ends.

    A daemon thread reads the bare descriptor: it works for pipes, files and consoles on every
    platform, and takes no lock that the interpreter would miss on its way out.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read, name="end-of-input", daemon=True).start()
    await ended.wait()


def main(argv: Sequence[str] | None = None) -> None:
    """The command line of the process."""
    parser = argparse.ArgumentParser(prog="python -m durable_ops.demo.worker")
    parser.add_argument("url")
    parser.add_argument("ledger", type=Path)
    parser.add_argument("--queue", default="demo")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work(options.url, options.ledger, queue=options.queue, seed=options.seed))


if __name__ == "__main__":
    main()
