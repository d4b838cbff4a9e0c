"""Holdings: which process holds which run, by what the store granted and what the process knows.

Two rules need it. A process that was told that a commit of a run was refused begins no handler of
that run, until it claims it again. And a lease runs out only where somebody died, was frozen, or
could not let go: ``takeovers`` are the claims of runs whose lease had run out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import attrs

from ..store import Commit, CommitVerdict, RunRecord
from .calls import Call

PATIENCE_S = 5.0
"""So long a worker that is told to end waits for handlers, and no longer."""


@attrs.frozen(slots=True)
class Takeover:
    """A run was claimed because the lease of this process had run out. ``busy``: a handler of the
    run did not listen there when it was told to end."""

    run_id: str
    process: str
    busy: bool
    event: int


class Holdings:
    """Who holds what, as far as can be seen at the seam to the store."""

    def __init__(self) -> None:
        self.takeovers: list[Takeover] = []
        self.leaving: dict[str, float] = {}
        """When each process was told to end."""
        self._holders: dict[str, str] = {}  # by run, to whom the store last gave it
        self._known: dict[tuple[str, str], int] = {}  # by process and run: under which epoch
        self._out: Counter[tuple[str, str]] = Counter()  # handlers that are being called
        self._ended_s: dict[tuple[str, str], float] = {}  # when the last of them ended

    # --- leases ----------------------------------------------------------------------------------

    def given(self, process: str, run_id: str, *, held: bool, event: int) -> None:
        """The store gives the run to this process; ``held``: another lease had run out."""
        before = self._holders.get(run_id)
        self._holders[run_id] = process
        if held and before is not None:
            busy = self._was_busy(before, run_id)
            self.takeovers.append(Takeover(run_id, before, busy, event))

    def _was_busy(self, process: str, run_id: str) -> bool:
        place, left_s = (process, run_id), self.leaving.get(process)
        if self._out[place]:
            return True
        return left_s is not None and self._ended_s.get(place, 0.0) > left_s + PATIENCE_S

    def granted(self, process: str, runs: Iterable[RunRecord | Commit]) -> None:
        """The answer with these leases has come to this process."""
        for run in runs:
            self._known[(process, run.run_id)] = run.epoch

    def answered(
        self, process: str, commits: Sequence[Commit], verdicts: Sequence[CommitVerdict]
    ) -> None:
        """The answer to its commits has come to this process."""
        for commit, verdict in zip(commits, verdicts, strict=True):
            place = (process, commit.run_id)
            if verdict is not CommitVerdict.APPLIED and self._known.get(place) == commit.epoch:
                del self._known[place]

    # --- handlers --------------------------------------------------------------------------------

    def begun(self, call: Call) -> bool:
        """A handler begins; False if its process knows that the run is not its own."""
        place = (call.process, call.run_id)
        self._out[place] += 1
        return place in self._known

    def ended(self, call: Call, at_s: float) -> None:
        """A handler has ended."""
        place = (call.process, call.run_id)
        self._out[place] -= 1
        self._ended_s[place] = at_s
