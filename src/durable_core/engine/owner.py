"""Owner: who holds a lease, as stores keep it: a worker's name, and which start of it that was.

A supervisor may begin a worker again under the name of one that was killed. The store must tell
the two apart: the new one takes runs over from a dead owner, while a worker that claims its own
expired run again (its claim's answer was lost, or the store was away) is alive. People are shown
the name alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_START = re.compile(r"#[0-9a-f]{12}\Z")


def new_owner(name: str, entropy: Callable[[int], bytes]) -> str:
    """The owner that a worker of this name is from now on, until it is drained."""
    return f"{name}#{entropy(6).hex()}"


def name_of(owner: str) -> str:
    """The name of the worker."""
    return _START.sub("", owner)
