"""Held runs: what a worker has in its hands, with the leases, and the messages that come.

A run is held under one lease at a time. What is said of a lease (renewed, lost, over) is said of
the runner that holds it: the run may be held anew by then, by another one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from ...store import MARKS, RenewResult
from ..shared import Shared
from .inboxes import Inboxes
from .lease import Holder, LeaseKeeper
from .news import News
from .reach import Reach
from .runner import Runner

log = logging.getLogger("durable.worker")


class HeldRuns:
    """Of one worker; ``on_mail`` is told of runs for which messages have come."""

    def __init__(
        self, shared: Shared, reach: Reach, news: News, on_mail: Callable[[Iterable[str]], None]
    ) -> None:
        self.closed = False
        """The worker is gone: what is leased to it now is left to expire."""
        self._runners: dict[str, Runner] = {}
        self._suspects: set[str] = set()
        self._told: set[str] = set()  # those that may have got mail
        self._reach = reach
        self._clock = shared.clock
        self._news = news
        self._on_mail = on_mail
        self.inboxes = Inboxes(shared.store, self._runners, log)
        self.keeper = LeaseKeeper(
            shared.store,
            lease_ms=reach.lease_ms,
            stall_limit_s=shared.limits.loop_stall_limit.total_seconds(),
            on_result=self._renewed,
            on_expired=self._expired,
            in_thread=shared.host.renew_in_thread,
        )

    def __len__(self) -> int:
        return len(self._runners)

    def __iter__(self) -> Iterator[Runner]:
        """Those that are held now; they may be let go meanwhile."""
        return iter(list(self._runners.values()))

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._runners

    def get(self, run_id: str) -> Runner | None:
        """Who holds the run."""
        return self._runners.get(run_id)

    @property
    def has_a_suspect(self) -> bool:
        """Whether one of them may be killing its workers."""
        return bool(self._suspects)

    # --- taking and letting go -----------------------------------------------------------------

    def make_way(self, run_id: str, epoch: int) -> bool:
        """Whether this lease can be taken over; then whoever held the run has lost it.

        It cannot if the answer that gave it took longer than it lasts, and was overtaken by a
        claim's, or by the worker's end. Two epochs that differ by their marks alone found the run
        in the same state: the store has lost the former.
        """
        before = self._runners.get(run_id)
        if self.closed or (before is not None and before.epoch // MARKS > epoch // MARKS):
            return False
        if before is not None:
            before.lose("it had expired, and was claimed again")
        return True

    def hold(self, runner: Runner, since: float) -> None:
        """This one, under a lease that was asked for then."""
        run_id = runner.run_id
        if runner.held.run.deaths >= self._reach.suspect_deaths:
            self._suspects.add(run_id)
        self._runners[run_id] = runner
        self.keeper.hold(run_id, runner, since)
        self._news.claimed(runner)

    def let_go(self, runner: Runner) -> None:
        """This one is held no more, if it was."""
        run_id = runner.run_id
        if self._runners.get(run_id) is runner:
            del self._runners[run_id]
            self._suspects.discard(run_id)
            self._told.discard(run_id)
        self.keeper.let_go(run_id, runner)

    # --- what is said of them ------------------------------------------------------------------

    def _expired(self, holders: Iterable[Holder]) -> None:
        for holder in holders:
            runner = self._runners.get(holder.lease.run_id)
            if runner is holder:
                runner.lose("it could not be renewed in time")

    def _renewed(self, result: RenewResult, lost: Iterable[Holder]) -> None:
        self._clock.set(result.now_ms)
        for holder in lost:
            runner = self._runners.get(holder.lease.run_id)
            if runner is holder:
                runner.lease_is_gone()
        self._on_mail(result.mail)

    # --- their messages ------------------------------------------------------------------------

    def look(self, run_ids: Iterable[str]) -> None:
        """Messages may have come for these: read the inboxes of those that are held."""
        held = [run_id for run_id in run_ids if run_id in self._runners]
        self._told.update(held)
        self.inboxes.look(held)

    def look_at_all(self) -> None:
        """The same for all."""
        self.look(self._runners)

    def may_have_mail(self, runner: Runner) -> bool:
        """Whether messages may have come since this run is held."""
        return runner.run_id in self._told
