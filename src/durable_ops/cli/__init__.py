"""The command ``durable``, with the standard library alone; a module here is one command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from . import demo, migrate, runs
from .command_line import BROKEN_PIPE, DONE, INTERRUPTED, Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``durable``; gives the exit status, 2 for a wrong command line."""
    options = parser().parse_args(argv)
    if options.command is None:
        parser().print_help()
        return DONE
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone; so do we, without a word
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return status


def parser() -> Parser:
    """The command line."""
    top = Parser(prog="durable", description="Workflows that survive crashes.")
    top.add_argument("--version", action="version", version=f"durable-core {installed()}")
    commands = top.add_subparsers(dest="command", metavar="command", parser_class=Parser)
    for command in (demo, migrate, runs):
        command.add_to(commands)
    return top


def installed() -> str:
    """The installed version."""
    try:
        return version("durable-core")
    except PackageNotFoundError:
        return "(not installed)"
