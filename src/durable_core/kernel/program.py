"""The program seam: what a front end hands over, and all the kernel knows of it.

A program is a lowered workflow: an object with ``send`` and ``close`` that yields
asks (``step.py``) and is sent outcomes (``outcome.py``); generators and coroutine drivers both
fit. It must be deterministic: asked again with the same outcomes, it asks for the same steps.
It ends by ``StopIteration(Ending(...))``, or by raising: ``StepFailed`` carries the recorded
failure, anything else is the run's own failure.

Between two asks it may have values recorded, without waiting for anything, by its ``Recorder``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..errors import DurableError
from .outcome import Outcome
from .recorder import Recorder
from .run import RunContext
from .step import Ask


class Program(Protocol):
    """A live program; a disposable cursor over the journal."""

    def send(self, outcome: Outcome | None, /) -> Ask:
        """Go on with the outcome of the last ask (None at first); gives the next ask."""
        ...

    def close(self) -> None:
        """Drop the program silently."""
        ...


ProgramFactory = Callable[[RunContext, Recorder], Program]
"""Makes a fresh program for a run; cheap, called once a claim and again when a cursor is lost.
Raises ``UnreadableError``."""


class UnreadableError(DurableError):
    """The values that the program would go over were written with another codec."""
