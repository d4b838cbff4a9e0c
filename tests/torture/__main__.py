"""The long version of what the tests do: ``make torture``, or ``python -m tests.torture``.

Each part prints a table of its own; the seed it prints is enough to do it all again:
``python -m tests.torture --seed 7``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable

from tests.torture.random_schedules import random_schedules


def table(module: str) -> Callable[[argparse.Namespace], bool]:
    """A part that is a program of its own: ``python -m tests.kit.planted`` and the like."""

    def part(_: argparse.Namespace) -> bool:
        print(f"\n--- {module}", flush=True)
        return subprocess.run([sys.executable, "-m", module], check=False).returncode == 0

    return part


PARTS: tuple[Callable[[argparse.Namespace], bool], ...] = (
    random_schedules,
    table("tests.kit.planted"),  # mistakes of users, each to be found
    table("tests.kit.clean"),  # workflows without one, over twenty seeds
    table("tests.kit.corpus"),  # every single fault, over all pairs of kinds
    table("tests.kit.mutants"),  # mistakes of the engine, each to be found
)
"""Each tells whether all was as it should be."""


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
