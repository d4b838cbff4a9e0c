"""A tether: a command that ends when the process that started it does, even by SIGKILL.

Run as a script, this file becomes the user it is told, asks the kernel for SIGQUIT at the death
of its parent, and turns into the command, which keeps the pid. Nothing of this is done between
fork and exec of the parent, where a process with threads may only do very little. Only Linux
makes that promise; elsewhere the command runs untied, and whoever started it has to end it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>

User = tuple[int, int]
"""The numbers of a user and of its group."""


def tethered(command: Sequence[object], user: User | None = None) -> list[str]:
    """The command, tied to this process, as that user (only root can ask for one).

    The kernel watches the *thread* that starts the command: it has to outlive the command.
    """
    script = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
    name = "" if user is None else "{}:{}".format(*user)
    return [*script, name, *map(str, command)]


def main(parent: str, user: str, *command: str) -> None:
    """Become the user, tie the knot, become the command."""
    if user:
        uid, gid = map(int, user.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # a shell has background jobs ignore it
        # After setuid, which takes the wish back; and the parent may have died before it.
        if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGQUIT)) != 0:
            sys.exit("the kernel refuses PR_SET_PDEATHSIG")
        if os.getppid() != int(parent):
            sys.exit("the parent is gone already")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that is inherited
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
