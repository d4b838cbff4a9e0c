"""Defects of the engine around the kernel: commits whose outcome is unknown, leases, draining."""

from __future__ import annotations

from tests.kit.planting import Edit, Mutant

ENGINE = "durable_core.engine"
WORKER = "durable_core.engine.worker"
CLIENT = "durable_core.engine.client"
STATE = "durable_core.testing.memory_state:State"

COMMITS = (
    Mutant(
        "unknown taken as written",
        "a commit of unknown outcome counts as applied",
        (Edit(
            f"{WORKER}.committer:Committer._try",
            "found = await self._store.settled(writing.commits_left)",
            "found = [CommitVerdict.APPLIED for _ in writing.commits_left]",
        ),),
        bug=27,
    ),
    Mutant(
        "unknown sent again blindly",
        "a commit of unknown outcome is sent again, and the store does not look where it goes",
        (
            Edit(
                f"{WORKER}.committer:Committer._write",
                "writing.unsure or error.outcome_unknown",
                "False",
            ),
            Edit(f"{STATE}._apply", "if run.entry_count != commit.after_seq:", "if False:"),
        ),
        bug=26,
    ),
    Mutant(
        "refused taken as written",
        "a batch that the store refuses counts as applied",
        (Edit(
            f"{WORKER}.committer:Committer._write",
            "failed: Exception = error\n",
            "return [CommitVerdict.APPLIED for _ in commits]\n",
        ),),
        bug=27,
    ),
    Mutant(
        "a batch is dropped",
        "whose commit met an error is never answered",
        (
            Edit(
                f"{WORKER}.committer:Committer._write",
                "failed: Exception = error\n",
                "break\n",
            ),
            Edit(
                f"{WORKER}.committer:Committer._flush",
                "answer(verdict)",
                "verdict is None or answer(verdict)",
            ),
        ),
        bug=30,
    ),
    Mutant(
        "warm after a conflict",
        "the run is kept in memory after a commit that was not applied",
        (Edit(
            f"{WORKER}.runner:Runner.answered",
            "self.lose(",
            "self._soon() if self.run_id else (",
        ),),
        bug=8,
    ),
    Mutant(
        "the last entry is not read",
        "a journal is read without its last entry",
        (Edit(f"{WORKER}.adopting:_whole_journal", "return entries", "return entries[:-1]"),),
        bug=11,
    ),
)  # fmt: skip

WORKERS = (
    Mutant(
        "an eager start is not adopted",
        "what a worker created with its lease it does not work on",
        (Edit(f"{WORKER}.eager:Places.take", "if result.created and", "if not result and"),),
        bug=15,
    ),
    Mutant(
        "a lost start keeps its lease",
        "an eager start whose answer was lost is not given up",
        (Edit(f"{WORKER}.eager:Places.give_up", "for run_id in self._ids:", "for run_id in ():"),),
        bug=15,
    ),
    Mutant(
        "any lease is adopted",
        "who starts a run again works on it beside the worker that has it",
        (Edit(f"{WORKER}.eager:Places.take", "result.created and result", "result"),),
        bug=8,
    ),
    Mutant(
        "a woken run is not adopted",
        "what a worker leased by a delivery it does not work on",
        (Edit(
            f"{WORKER}.eager:Seats.take", "await self._worker.adopt(claimed, self._asked)", "pass"
        ),),
        bug=15,
        first="signals in order",
    ),
    Mutant(
        "a lost delivery keeps its lease",
        "a lease that was given by a delivery whose answer was lost is not given up",
        (Edit(f"{WORKER}.eager:Seats.give_up", "for record in records:", "for record in ():"),),
        bug=15,
        first="signals in order",
    ),
    Mutant(
        "a foreseen run is not gone on with",
        "what landed with a message is forgotten, and its lease is left to expire",
        (Edit(
            f"{CLIENT}.delivering:Delivering._take", "foresight.came_true()", "foresight.forget()"
        ),),
        bug=15,
        first="talk",
    ),
    Mutant(
        "foreseen in vain",
        "what was foreseen for a message is acted upon, whether or not it landed",
        (Edit(
            f"{CLIENT}.delivering:Delivering._take",
            "if foresight is not None and delivery.foreseen is CommitVerdict.APPLIED:",
            "if foresight is not None:",
        ),),
        bug=8,
        first="talk",
    ),
    Mutant(
        "leases are not renewed",
        "a handler that takes longer than a lease loses its run",
        (Edit(
            f"{WORKER}.lease:LeaseKeeper.hold",
            "self._leases.put(run_id, holder, since)",
            "return",
        ),),
        bug=37,
    ),
    Mutant(
        "a lease lasts for ever",
        "a worker that was frozen past its lease begins handlers, and does not ask",
        (Edit(f"{WORKER}.lease:_Leases.lasts", "and now < held.since + self.lease_s", ""),),
        bug=11,
    ),
    Mutant(
        "a lost lease is not noticed",
        "who is told that its lease is lost goes on",
        (
            Edit(f"{WORKER}.runner:Runner.lease_is_gone", "if not self._busy:", "if False:"),
            Edit(f"{WORKER}.runner:Runner.lose", "if not self.closed:", "if False:"),
        ),
        bug=11,
    ),
    Mutant(
        "any verdict will do",
        "a runner goes on after a refused commit, as if it had been applied",
        (Edit(
            f"{WORKER}.runner:Runner.answered",
            "if verdict is CommitVerdict.APPLIED:",
            "if True:",
        ),),
        bug=8,
    ),
    Mutant(
        "drain hands nothing back",
        "a worker that stops leaves its leases to expire",
        (Edit(
            f"{WORKER}.runner:Runner._hand_back_when_idle",
            "self._hand_back(self.held.length, self.held.generation)",
            "self.drop()",
        ),),
        bug=15,
        quick=True,
    ),
    Mutant(
        "the worker's own clock",
        "what is due is judged by the time of day of the worker's machine",
        (Edit(
            f"{ENGINE}.clock:StoreClock.now_ms",
            "return self._store_ms + int((self._loop.time() - self._at) * 1000 + ROUNDING_MS)",
            "return int(__import__('time').time() * 1000)",
        ),),
        bug=2,
    ),
    Mutant(
        "a claim is cut off",
        "a worker that stops cancels the claim under way",
        (Edit(
            f"{WORKER}.worker:Worker._drain",
            "await ended([self._claims.task], self._grace_s + STORE_GRACE_S)",
            "self._claims.task.cancel()",
        ),),
        bug=15,
    ),
    Mutant(
        "cancelled, it lets all fall",
        "a worker that is cancelled while it drains does not drain to the end",
        (Edit(
            "durable_core.engine.shielded:to_the_end",
            "on_cancel()",
            "raise",
        ),),
        bug=15,
    ),
)  # fmt: skip

WORKER_MUTANTS = (*COMMITS, *WORKERS)
