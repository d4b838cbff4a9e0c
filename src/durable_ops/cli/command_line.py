"""Command line: the parser that all commands share, and what exit statuses mean."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn, TypeAlias

DONE, FAILED, USAGE_ERROR = 0, 1, 2
INTERRUPTED, BROKEN_PIPE = 130, 141


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where to read on."""

    def error(self, message: str) -> NoReturn:
        """Print the message and end with status 2."""
        raise SystemExit(refused(self.prog, message))


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""Where a command adds itself."""


def refused(command: str, why: str) -> int:
    """Say why the command line is wrong; the exit status."""
    sys.stderr.write(f"{command}: {why}\ntry: {command} --help\n")
    return USAGE_ERROR


def failed(command: str, why: object) -> int:
    """Say in one line what went wrong; the exit status."""
    sys.stderr.write(f"{command}: {' '.join(str(why).split())}\n")
    return FAILED


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
