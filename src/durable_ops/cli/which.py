"""Which database: what commands that need one ask for, and how they say that they got none."""

from __future__ import annotations

import argparse
import os

from durable_core.errors import DurableError

from ..databases import Database, database_from
from .command_line import Parser

VARIABLE = "DURABLE_DB"


def add_to(command: Parser) -> None:
    """Add ``--db`` and ``--schema``."""
    command.add_argument(
        "--db",
        metavar="URL",
        help=f"sqlite:///path or postgresql://user@host/database (the environment's {VARIABLE})",
    )
    command.add_argument("--schema", metavar="NAME", help="schema of a Postgres database (durable)")


def database_of(options: argparse.Namespace) -> Database:
    """The one that was asked for. Raises ``DurableError``: the command line is wrong."""
    url = options.db or os.environ.get(VARIABLE)
    if not url:
        raise DurableError(f"which database? Give --db URL, or set {VARIABLE}")
    return database_from(url, schema=options.schema)
