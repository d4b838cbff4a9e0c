"""Every exception of the library; the ground floor, importing nothing of ours.

Each one derives from ``DurableError``, reads as a sentence with facts, and says whose fault it
is: the author of a workflow, the deployer, the environment, or this library. No exception of
a database driver leaves an adapter: it is translated once, at the adapter's edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class DurableError(Exception):
    """Something in durable execution went wrong; the message says what, where, and the mend."""


class DefinitionError(DurableError):
    """The author's workflow definition is wrong; raised while it is built, before any run."""


class NondeterminismError(DurableError):
    """The program no longer agrees with its journal: the code of a live run was changed.

    The run is parked with the reason ``definition_changed``; nothing is executed by guess.
    ``unit`` is the path of the unit where they differ, ``recorded`` what stands in the journal,
    ``asked`` what today's program asks for.
    """

    def __init__(
        self, message: str, *, run_id: str = "", unit: str = "", recorded: str = "", asked: str = ""
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.unit = unit
        self.recorded = recorded
        self.asked = asked


class WorkflowNotRegisteredError(DurableError):
    """The deployer did not list this workflow (or version) in ``Engine(..., workflows)``."""


class RunNotFoundError(DurableError):
    """No run has this id."""


class RunFinishedError(DurableError):
    """The run has ended already, so it takes no signal, resume or pause."""


class DuplicateRunError(DurableError):
    """A run with this id exists already, and the caller asked for a new one or for another."""


class StaleResumeError(DurableError):
    """The resume token is spent, foreign, or missing where several suspensions are open."""


class EncodingError(DurableError):
    """A value cannot be stored faithfully; names the path inside the value and the type."""


class LimitExceededError(DurableError):
    """A configured limit (size, depth, count) would be passed; nothing was written."""


class LeaseLostError(DurableError):
    """Another worker holds the run now; nothing was written."""


class SchemaVersionError(DurableError):
    """The database has no schema, an older or a newer one than this library works with."""


class StoreUnavailableError(DurableError):
    """The store cannot be reached or used now; what was not acknowledged may be tried again.

    ``outcome_unknown`` is true when a commit was under way: it may or may not have landed,
    and only a keyed re-read can tell.
    """

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown


class RunFailed(DurableError):
    """The run ended ``failed`` or ``compensation_failed``; carries what failed and what was undone.

    ``failure`` is a ``Failure``; ``compensated`` and ``not_compensated`` are unit paths.
    """

    def __init__(
        self,
        run_id: str,
        failure: Any,
        compensated: Sequence[str] = (),
        not_compensated: Sequence[str] = (),
    ) -> None:
        self.run_id = run_id
        self.failure = failure
        self.compensated = tuple(compensated)
        self.not_compensated = tuple(not_compensated)
        undone = f"; not undone: {', '.join(self.not_compensated)}" if self.not_compensated else ""
        super().__init__(f"run {run_id!r} failed with {failure}{undone}")


class RunCancelled(DurableError):
    """The run was cancelled before it could give a result.

    ``not_compensated`` are the paths of the units that ``terminate`` left as they were.
    """

    def __init__(
        self, run_id: str, reason: str | None = None, not_compensated: Sequence[str] = ()
    ) -> None:
        self.run_id = run_id
        self.reason = reason
        self.not_compensated = tuple(not_compensated)
        super().__init__(f"run {run_id!r} was cancelled" + (f": {reason}" if reason else ""))


class StepFailed(DurableError):
    """A step of a workflow failed for good; raised at its place in the program.

    ``step`` is its name, ``failure`` the recorded ``Failure``.
    """

    def __init__(self, step: str, failure: Any) -> None:
        self.step = step
        self.failure = failure
        super().__init__(f"step {step!r} failed with {failure}")


class TerminalError(DurableError):
    """Raised by a handler to say that retrying is pointless: the unit fails at once."""


class InvariantError(DurableError):
    """This library broke one of its own named rules; a bug of ours, caught before the write."""
