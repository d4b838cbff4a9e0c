"""The long version of what the tests do: ``make torture``, or ``python -m tests.torture``.

It takes so many random schedules in two processes, and prints what they add up to. A line of
seeds is enough to do it all again: ``python -m tests.torture --seed 7``.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import traceback
from collections.abc import Callable

from tests.properties.schedules import Tally, run_seed, seeds

BATCH = 500
"""Schedules from one seed."""


def random_schedules(options: argparse.Namespace) -> bool:
    """Generated workflows under random plans; whether all was as it should be."""
    drawn = seeds(options.seed, max(1, options.schedules // BATCH))
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        parts, failures = [], []
        for tally, failure in pool.imap_unordered(_batch, drawn):
            parts.append(tally)
            if failure is not None:
                failures.append(failure)
                print(failure, flush=True)
    print(f"random schedules: {len(failures)} of {len(drawn)} seeds failed\n{Tally.of(parts)}")
    print(f"  seeds: {options.seed} -> {', '.join(map(str, drawn[:4]))}, ...")
    return not failures


def _batch(number: int) -> tuple[Tally, str | None]:
    logging.getLogger("durable").setLevel(logging.CRITICAL)
    tally = Tally()
    try:
        run_seed(number, BATCH, tally)
    except Exception:
        return tally, traceback.format_exc()
    return tally, None


PARTS: tuple[Callable[[argparse.Namespace], bool], ...] = (random_schedules,)
"""Each prints its own table. That of the mutants of the engine has its place here."""


def main() -> None:
    """Every part, whatever the others come to."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--schedules", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    sys.exit(0 if all([part(options) for part in PARTS]) else 1)


if __name__ == "__main__":
    main()
