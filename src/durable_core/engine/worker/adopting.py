"""Adopting: from a run that one call has leased to one that is held and advanced.

What is wrong with one run must not keep the others of its call from being adopted, so for each
trouble there is a commit that ends the lease.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from ...errors import DurableError, StoreUnavailableError
from ...kernel.program import ProgramFactory
from ...kernel.transition import Held
from ...store import ClaimedRun, Commit, CommitVerdict, EntryRecord, Message, Store
from ..complaints import Complaints
from ..mapping import hand_back_unused, journal_of, newest, run_context
from ..shared import Shared
from .asking import Asked
from .foreseeing import Foresight, WarmRuns, foresight
from .held_runs import HeldRuns
from .news import News
from .runner import Runner, Surface
from .unreadable import held_or_terminated, read_by

log = logging.getLogger("durable.worker")

GIVEN_BACK_MS = 1_000
"""When a claimed run that could not be read, for whatever reason, is tried again."""


class Adopting:
    """What one worker takes over."""

    def __init__(
        self,
        worker: str,
        surface: Surface,
        shared: Shared,
        programs: Mapping[tuple[str, str], ProgramFactory],
        held: HeldRuns,
        warm: WarmRuns,
        news: News,
    ) -> None:
        self._worker = worker
        self._surface = surface
        self._shared = shared
        self._programs = programs
        self._held = held
        self._warm = warm
        self._news = news
        self._complaints = Complaints(log)

    async def adopt(self, claimed: ClaimedRun, asked: Asked) -> None:
        """Take over a run that this call leased; never raises."""
        try:
            await self._adopt(claimed, asked)
        except Exception as error:
            self._complaints.say(f"worker {self._worker} cannot adopt a run, and tries on", error)
            runner = self._held.get(claimed.run.run_id)
            if runner is not None and runner.epoch == claimed.run.epoch:
                runner.drop()
            commit = given_back(claimed, self._shared.clock.now_ms())
            self._surface.submit(commit, lambda verdict: None)

    async def _adopt(self, claimed: ClaimedRun, asked: Asked) -> None:
        record = claimed.run
        if not self._held.make_way(record.run_id, record.epoch):
            return
        try:
            held = await opened(claimed, self._shared, self._programs)
        except StoreUnavailableError:
            raise
        except DurableError as error:
            self._park(claimed, error)
            return
        if not self._held.make_way(record.run_id, record.epoch):  # reading takes its time
            held.close()
            return
        runner = Runner(self._surface, record, held)
        self._hold(runner, asked)
        try:
            runner.begin(claimed.inbox, record.updated_at_ms)
        except DurableError as error:
            runner.drop()
            self._park(claimed, error)
            return
        self._look(runner, asked)

    def _hold(self, runner: Runner, asked: Asked) -> None:
        self._warm.forget(runner.run_id)
        self._held.hold(runner, asked.since)

    def _look(self, runner: Runner, asked: Asked) -> None:
        """For messages that came after the call had read its inbox."""
        if asked.may_have_missed(runner.run_id):
            self._held.look((runner.run_id,))

    def foresee(self, message: Message, mark: int, asked: Asked) -> Foresight | None:
        """What a warm run makes of this message, under the lease that this call asks for."""
        kept, now_ms = self._warm.take(message.run_id), self._shared.clock.now_ms()
        if kept is None:
            return None
        last, before_ms = kept

        def hold(runner: Runner) -> bool:
            if not self._held.make_way(runner.run_id, runner.epoch):
                return False
            self._hold(runner, asked)
            self._look(runner, asked)
            return True

        return foresight(last, message, mark, now_ms, before_ms, hold)

    def _park(self, claimed: ClaimedRun, error: DurableError) -> None:
        """What is stored of it cannot be read: hold it, and go on with the others."""
        run_id, shared = claimed.run.run_id, self._shared
        now_ms = shared.clock.now_ms()
        commit = held_or_terminated(claimed, error, limits=shared.limits, now_ms=now_ms)
        if commit.entries:  # else it was parked before
            log.error("run %s cannot be decoded, and is parked: %s", run_id, error)

        def answer(verdict: CommitVerdict | None) -> None:
            if commit.finished and verdict is CommitVerdict.APPLIED:
                self._news.terminated(run_id, [message.run_id for message in commit.messages])
            self._news.given_back()

        self._surface.submit(commit, answer)


async def opened(
    claimed: ClaimedRun, shared: Shared, programs: Mapping[tuple[str, str], ProgramFactory]
) -> Held:
    """The run with its whole journal and its program, if that is known here.

    Raises ``StoreUnavailableError``, and another ``DurableError`` for what cannot be read.
    """
    record = claimed.run
    entries = await _whole_journal(claimed, shared.store)
    program = programs.get((record.workflow, record.version))
    if program is not None:
        stored = [record.input, *(entry.payload for entry in entries)]
        stored += [message.payload for message in claimed.inbox]
        program = read_by(shared.codec, program, stored)
    return Held(
        run_context(record, shared.limits),
        program,
        journal_of(entries),
    )


async def _whole_journal(claimed: ClaimedRun, store: Store) -> list[EntryRecord]:
    entries = list(claimed.entries)
    last = entries[-1].seq if entries else 0
    while last < claimed.run.entry_count:
        page = await store.journal(claimed.run.run_id, after_seq=last)
        if not page:
            break  # the fold says what is missing
        entries += page
        last = page[-1].seq
    return entries


def given_back(claimed: ClaimedRun, now_ms: int) -> Commit:
    """Undoes the claim: the run is due again in a moment, here or elsewhere."""
    seen = newest(claimed.inbox, 0)
    return hand_back_unused(claimed.run, seen=seen, now_ms=now_ms + GIVEN_BACK_MS)
