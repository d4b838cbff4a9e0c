"""The command ``durable``: for now the demo and the version, with the standard library alone."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

USAGE_ERROR = 2
BROKEN_PIPE = 141


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where to read on."""

    def error(self, message: str) -> NoReturn:
        """Print the message and end with status 2."""
        sys.stderr.write(f"{self.prog}: {message}\ntry: {self.prog} --help\n")
        raise SystemExit(USAGE_ERROR)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``durable``; gives the exit status, 2 for a wrong command line."""
    options = parser().parse_args(argv)
    if options.command is None:
        parser().print_help()
        return 0
    try:
        return demo(options)
    except BrokenPipeError:  # whoever read our output has gone; so do we, without a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def demo(options: argparse.Namespace) -> int:
    """``durable demo``."""
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


def parser() -> Parser:
    """The command line."""
    top = Parser(prog="durable", description="Workflows that survive crashes.")
    top.add_argument("--version", action="version", version=f"durable-core {installed()}")
    commands = top.add_subparsers(dest="command", metavar="command", parser_class=Parser)
    show = commands.add_parser(
        "demo",
        help="run a day of orders while the worker is killed again and again",
        description="Run a day of orders through a workflow while its worker is killed with "
        "SIGKILL, then hold the shop's ledger against the orders. Status 0 when it balances.",
    )
    show.add_argument("--db", metavar="URL", help="engine URL (a temporary SQLite file)")
    show.add_argument("--orders", metavar="N", type=count(1), help="how many orders (all shipped)")
    show.add_argument("--kills", metavar="N", type=count(0), default=3, help="SIGKILLs (3)")
    show.add_argument("--seed", metavar="N", type=int, default=0, help="another weather (0)")
    show.add_argument("--keep", action="store_true", help="keep database, ledger and log")
    return top


class count:
    """An argument type: a whole number of at least ``minimum``."""

    def __init__(self, minimum: int) -> None:
        self.minimum = minimum

    def __call__(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = self.minimum - 1
        if number < self.minimum:
            raise argparse.ArgumentTypeError(
                f"must be a whole number of at least {self.minimum}, not {text!r}"
            )
        return number


def installed() -> str:
    """The installed version."""
    try:
        return version("durable-core")
    except PackageNotFoundError:
        return "(not installed)"
