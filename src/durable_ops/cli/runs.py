"""``durable runs``: looks at single runs of a database. ``export`` prints one with its journal, as
the JSON that ``durable_core.testing.replay`` reads."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from durable_core import Engine
from durable_core.engine.client.exporting import RunExport
from durable_core.errors import DurableError

from ..databases import Database
from . import which
from .command_line import DONE, Commands, Parser, failed, refused

COMMAND = "durable runs export"


def add_to(commands: Commands) -> None:
    """Add the command."""
    runs = commands.add_parser("runs", help="look at single runs", description="Look at runs.")
    verbs = runs.add_subparsers(
        dest="verb", metavar="verb", required=True, parser_class=Parser, title="verbs"
    )
    export = verbs.add_parser(
        "export",
        help="print a run with its journal as JSON",
        description="Print a run with its journal as JSON, to be replayed against today's code "
        "(replay of durable_core.testing, with RunExport.from_json). Values are printed as they "
        "are stored: keep the file as you keep the database. Nothing is changed. Status 0, or 1 "
        "when there is no such run or the database cannot be reached.",
    )
    export.add_argument("run_id", metavar="RUN_ID", help="the run's id")
    export.add_argument("--out", metavar="FILE", help="write it there; no file is overwritten")
    which.add_to(export)
    export.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Export a run; gives the exit status."""
    try:
        database = which.database_of(options)
    except DurableError as error:
        return refused(COMMAND, str(error))
    try:
        text = asyncio.run(exported(database, options.run_id)).to_json() + "\n"
        if options.out is None:
            sys.stdout.write(text)
        else:
            _write(options.out, text)
    except FileExistsError:
        return failed(COMMAND, f"{options.out!r} exists already: give another --out, or remove it")
    except (DurableError, OSError) as error:
        return failed(COMMAND, error)
    return DONE


async def exported(database: Database, run_id: str) -> RunExport:
    """The run as it is stored. Raises ``DurableError``."""
    await database.verify()  # opening a SQLite file that is not there would make one
    async with Engine(database.store(), migrate=False) as engine:
        return await engine.export(run_id)


def _write(path: str, text: str) -> None:
    """What was exported may hold secrets: only its owner reads it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
