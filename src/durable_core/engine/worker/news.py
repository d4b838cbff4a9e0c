"""News: what a worker tells of its runs, to observers and to the others in this process."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ...kernel.journal import RunParked
from ...kernel.outcome import Transition
from ...kernel.run import RunStatus
from ..local import Local
from ..observer import LeaseLost, Observers, RunClaimed, RunFinished, RunSuspended
from ..waiting import Completed
from .runner import Runner

log = logging.getLogger("durable.worker")


class News:
    """Of one worker."""

    def __init__(self, worker: str, local: Local, observers: Observers) -> None:
        self._worker = worker
        self._local = local
        self._observers = observers

    def claimed(self, runner: Runner) -> None:
        """The run is held."""
        if self._observers:
            self._observers.tell(
                RunClaimed(
                    run_id=runner.run_id,
                    workflow=runner.workflow,
                    worker=self._worker,
                    deaths=runner.held.run.deaths,
                )
            )

    def committed(self, runner: Runner, transition: Transition, *, due: bool) -> None:
        """A transition is durable; ``due``: and the run may have to be claimed again."""
        if transition.children or due:
            self._local.runs_are_due()
        for message in transition.messages:
            self._local.delivered(message.run_id)
        if transition.ended:
            completed = None
            if transition.status is RunStatus.COMPLETED:
                completed = Completed(runner.held.run, runner.held.journal)
            self._local.run_ended(runner.run_id, completed)
        if self._observers:
            self._tell_of(runner, transition)

    def _tell_of(self, runner: Runner, transition: Transition) -> None:
        if transition.ended:
            self._observers.tell(
                RunFinished(
                    run_id=runner.run_id,
                    workflow=runner.workflow,
                    status=transition.status.value,
                )
            )
        elif transition.release:
            self._observers.tell(
                RunSuspended(
                    run_id=runner.run_id,
                    workflow=runner.workflow,
                    until_ms=transition.resume_at_ms,
                )
            )

    def parked(self, runner: Runner, entry: RunParked) -> None:
        """That the run is parked was recorded."""
        why = "" if entry.failure is None else f": {entry.failure.message}"
        log.error("run %s is parked (%s)%s", runner.run_id, entry.reason, why)

    def given_back(self) -> None:
        """A run may have to be claimed again."""
        self._local.runs_are_due()

    def terminated(self, run_id: str, told: Iterable[str]) -> None:
        """A run was ended unread, and these runs were told."""
        self._local.run_ended(run_id)
        for other in told:
            self._local.delivered(other)

    def lost(self, runner: Runner, why: str) -> None:
        """The run turned out not to be the worker's."""
        log.warning(
            "worker %s lost the lease of run %s: %s; its handlers are cancelled",
            self._worker,
            runner.run_id,
            why,
        )
        if self._observers:
            self._observers.tell(
                LeaseLost(run_id=runner.run_id, workflow=runner.workflow, worker=self._worker)
            )
