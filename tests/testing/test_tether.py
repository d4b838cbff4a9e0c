"""A tether: what hangs on it ends when the process that started it is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = """
import os, time

print(os.getpid(), flush=True)
time.sleep(600)
"""
STARTED_IN_THE_BACKGROUND = """
import signal, subprocess, sys
from durable_core.testing.tether import tethered

signal.signal(signal.SIGQUIT, signal.SIG_IGN)
subprocess.Popen(tethered([sys.executable, "-c", sys.argv[1]]))
sys.stdin.read()
"""
PATIENCE_S = 30.0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to us")
def test_a_command_ends_with_its_parent_also_in_the_background_of_a_shell() -> None:
    """Such a shell has its jobs ignore SIGQUIT, which is what the kernel is to send."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTED_IN_THE_BACKGROUND, COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    give_up_at = time.monotonic() + PATIENCE_S
    while _runs(pid) and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    """Whether it is there, and more than a zombie that nobody has collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
