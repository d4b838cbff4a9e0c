"""Growth: whether a process that simulates one schedule after another grows.

``python -m tests.kit.growth [schedules]`` (1,000,000, the better part of an hour) prints how much
memory the process has after so many, every tenth of them with a crash.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from durable_core import Workflow
from durable_core.testing import Crash, Faults, simulate


async def act(ctx: Any) -> int:
    return 1


WORKFLOW = Workflow("w").step("s", act)
MARKS = (1_000, 10_000, 100_000)


def resident_kib() -> int:
    """What the process takes; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("/proc/self/status has no VmRSS")


def growth(schedules: int) -> Iterator[tuple[int, int]]:
    """(schedules so far, KiB of the process) at some of them, and at the end."""
    for number in range(1, schedules + 1):
        faults = (Crash(unit="s", when="after"),) if number % 10 == 0 else ()
        simulate(WORKFLOW, None, Faults(*faults, workers=1, seed=number))
        if number in MARKS or number % 100_000 == 0 or number == schedules:
            gc.collect()
            yield number, resident_kib()


def main(schedules: int) -> None:
    """Print the table."""
    logging.disable(logging.CRITICAL)  # each crash leaves a line in the log
    begun = time.monotonic()
    print(f"{'schedules':>12}{'KiB':>10}{'seconds':>9}")
    for number, kib in growth(schedules):
        print(f"{number:>12,}{kib:>10,}{time.monotonic() - begun:>9.0f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
