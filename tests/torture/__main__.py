"""The long version of what the tests do: ``make torture``, or ``python -m tests.torture``.

Each part prints a table of its own when it has ended; the seed it prints is enough to do it all
again: ``python -m tests.torture --seed 7``. CI leaves the longest part out: ``--without clean``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from tests.torture.random_schedules import random_schedules

PARTS = (
    "corpus",  # every single fault, over all pairs of kinds
    "clean",  # workflows without a mistake, over twenty seeds
    "mutants",  # mistakes of the engine, each to be found
    "planted",  # mistakes of users, each to be found
)
"""Programs of their own in ``tests.kit``, the longest first."""


def table(module: str) -> bool:
    """Run the program; whether all was as it should be."""
    done = subprocess.run(
        [sys.executable, "-m", module], check=False, capture_output=True, text=True
    )
    print(f"\n--- {module}: status {done.returncode}\n{done.stdout}{done.stderr}", flush=True)
    return done.returncode == 0


def main() -> None:
    """Every part, whatever the others come to."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--schedules", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--without", action="append", default=[], choices=[*PARTS, "random"])
    options = parser.parse_args()
    sound = [] if "random" in options.without else [random_schedules(options)]
    tables = [f"tests.kit.{part}" for part in PARTS if part not in options.without]
    with ThreadPoolExecutor(options.processes) as threads:
        sound += threads.map(table, tables)
    sys.exit(0 if all(sound) else 1)


if __name__ == "__main__":
    main()
