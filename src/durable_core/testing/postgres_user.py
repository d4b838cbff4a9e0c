"""Who a test server runs as: ourselves, or ``nobody`` when we are root, which Postgres refuses."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from ..errors import DurableError
from .tether import User

if sys.platform != "win32":
    import pwd

SHARED_FOLDERS = ("/tmp", "/var/tmp")
"""Where everybody may look, should our own temporary folder be private."""


def server_user() -> User | None:
    """The user to become before Postgres starts; None means to stay who we are."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise DurableError(
            "Postgres refuses to run as root, and this machine has no user `nobody` to run it as"
        ) from None
    return nobody.pw_uid, nobody.pw_gid


def folder_of(user: User | None) -> Path:
    """A new temporary folder that this user owns and can reach; nobody else can look inside."""
    for parent in (tempfile.gettempdir(), *SHARED_FOLDERS):
        if user is None or _is_open(Path(parent)):
            folder = Path(tempfile.mkdtemp(prefix="durable-pg-", dir=parent))
            give(folder, user)
            return folder
    raise DurableError(
        f"the user `nobody` can reach neither {tempfile.gettempdir()} nor any of "
        f"{', '.join(SHARED_FOLDERS)}; set TMPDIR to a folder that everybody can enter"
    )


def give(path: Path, user: User | None) -> None:
    """Make this user the owner of a file or folder of ours."""
    if user is not None:
        os.chown(path, *user)


def _is_open(folder: Path) -> bool:
    """Whether everybody may pass through this folder."""
    return folder.is_dir() and all(
        each.stat().st_mode & 0o001 for each in (folder.resolve(), *folder.resolve().parents)
    )
