"""Held runs: what a worker has in its hands, with the leases, and the messages that come.

A run is held under one lease at a time. What is said of a lease (renewed, lost, over) is said of
the runner that holds it: the run may be held anew by then, by another one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from ...store import MARKS, RenewResult
from ..shared import Shared
from .asking import Asked, Asking
from .inboxes import Inboxes
from .lease import Holder, LeaseKeeper
from .news import News
from .reach import Reach
from .runner import Runner

log = logging.getLogger("durable.worker")


class HeldRuns:
    """Of one worker."""

    def __init__(self, shared: Shared, reach: Reach, news: News) -> None:
        self._closed = False
        self._runners: dict[str, Runner] = {}
        self._suspects: set[str] = set()
        self._told: set[str] = set()  # those that may have got mail
        self._reach = reach
        self._clock = shared.clock
        self._news = news
        self._asking = Asking()
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
        if self._closed or (before is not None and before.epoch // MARKS > epoch // MARKS):
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

    def lasts(self, runner: Runner) -> bool:
        """Whether its lease has not ended yet, as far as can be known here."""
        return self.keeper.lasts(runner.run_id, runner)

    def let_go(self, runner: Runner) -> None:
        """This one is held no more, if it was."""
        run_id = runner.run_id
        if self._runners.get(run_id) is runner:
            del self._runners[run_id]
            if not self._runners:
                self._runners.clear()  # a dict keeps the room of the most it had
            self._suspects.discard(run_id)
            self._told.discard(run_id)
        self.keeper.let_go(run_id, runner)

    def close(self) -> None:
        """The worker is gone: what is leased to it now is left to expire."""
        self._closed = True

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
        self.mail(list(result.mail))

    # --- their messages ------------------------------------------------------------------------

    def ask(self) -> Asked:
        """A call that may lease runs is made now."""
        return self._asking.begin(self.keeper.now())

    def answered(self, asked: Asked) -> None:
        """All that it leased was taken over."""
        self._asking.end(asked)

    def mail(self, run_ids: Sequence[str]) -> None:
        """Messages were delivered to these: look, for those that are held, or about to be."""
        self._asking.told(run_ids)
        self.look(run_ids)

    def heard(self) -> None:
        """They may have been to any."""
        self._asking.heard()
        self.look(self._runners)

    def look(self, run_ids: Iterable[str]) -> None:
        """Read the inboxes of those of these that are held."""
        held = [run_id for run_id in run_ids if run_id in self._runners]
        self._told.update(held)
        self.inboxes.look(held)

    def may_have_mail(self, runner: Runner) -> bool:
        """Whether messages may have come since this run is held."""
        return runner.run_id in self._told
