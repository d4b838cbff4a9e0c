"""``durable demo``: orders through a workflow while its worker is killed."""

from __future__ import annotations

import argparse
import sys

from .command_line import USAGE_ERROR, Commands, count


def add_to(commands: Commands) -> None:
    """Add the command."""
    demo = commands.add_parser(
        "demo",
        help="run a day of orders while the worker is killed again and again",
        description="Run a day of orders through a workflow while its worker is killed with "
        "SIGKILL, then hold the shop's ledger against the orders. Status 0 when it balances.",
    )
    demo.add_argument("--db", metavar="URL", help="engine URL (a temporary SQLite file)")
    demo.add_argument(
        "--orders", metavar="N", type=count(1), help="how many orders (all there are)"
    )
    demo.add_argument("--kills", metavar="N", type=count(0), default=3, help="SIGKILLs (3)")
    demo.add_argument("--seed", metavar="N", type=int, default=0, help="of what is random (0)")
    demo.add_argument("--keep", action="store_true", help="keep database, ledger and log")
    demo.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo; gives the exit status."""
    try:
        from ..demo.command import Options, run_demo
    except ModuleNotFoundError as missing:
        sys.stderr.write(f"durable demo: {missing}; try: pip install 'durable-core[sqlite]'\n")
        return USAGE_ERROR
    return run_demo(
        Options(
            db=options.db,
            orders=options.orders,
            kills=options.kills,
            seed=options.seed,
            keep=options.keep,
        )
    )
