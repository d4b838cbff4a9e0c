"""Random schedules by the ten thousand, in several processes, and what they add up to."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import traceback

from tests.properties.schedules import Tally, run_seed, seeds

BATCH = 500
"""Schedules from one seed."""


def random_schedules(options: argparse.Namespace) -> bool:
    """Generated workflows under random plans; whether all was as it should be."""
    drawn = seeds(options.seed, max(1, options.schedules // BATCH))
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        parts, failures = [], []
        for number, tally, failure in pool.imap_unordered(_batch, drawn):
            parts.append(tally)
            print(f"seed {number:>10}: {tally.schedules:>6,} schedules", flush=True)
            if failure is not None:
                failures.append(failure)
                print(failure, flush=True)
    print(f"random schedules: {len(failures)} of {len(drawn)} seeds failed\n{Tally.of(parts)}")
    print(f"  drawn from --seed {options.seed}")
    return not failures


def _batch(number: int) -> tuple[int, Tally, str | None]:
    logging.getLogger("durable").setLevel(logging.CRITICAL)
    tally = Tally()
    try:
        run_seed(number, BATCH, tally)
    except Exception:
        return number, tally, traceback.format_exc()
    return number, tally, None
