"""``durable migrate``: brings the schema of a database up to this version of the library."""

from __future__ import annotations

import argparse
import asyncio
import sys

from durable_core.errors import DurableError

from ..databases import Database
from . import which
from .command_line import DONE, Commands, failed, refused

COMMAND = "durable migrate"


def add_to(commands: Commands) -> None:
    """Add the command."""
    migrate = commands.add_parser(
        "migrate",
        help="create or update the tables in a database",
        description="Apply the migrations that a database lacks, and say which. Any number of "
        "processes may do so at once. Status 0 when the schema is this version's, 1 when it is "
        "not or cannot be reached.",
    )
    which.add_to(migrate)
    how = migrate.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="only look; status 1 if any is missing")
    how.add_argument("--sql", action="store_true", help="only print the SQL, connecting to nothing")
    migrate.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Migrate, look or print; gives the exit status."""
    try:
        database = which.database_of(options)
    except DurableError as error:
        return refused(COMMAND, str(error))
    if options.sql:
        sys.stdout.write(database.sql())
        return DONE
    try:
        print(asyncio.run(check(database) if options.check else apply(database)))
    except DurableError as error:
        return failed(COMMAND, error)
    return DONE


async def check(database: Database) -> str:
    """What there is to say when nothing is missing; raises if something is."""
    await database.verify()
    return f"{database.name} is up to date"


async def apply(database: Database) -> str:
    """Migrate; what there is to say afterwards."""
    before = await database.applied()
    await database.migrate()
    new = [name for name in await database.applied() if name not in before]
    if not new:
        return f"nothing to do: {database.name} is up to date"
    return f"applied {', '.join(new)} to {database.name}"
