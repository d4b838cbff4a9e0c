"""Defects of the engine around the kernel: commits whose outcome is unknown, leases, draining."""

from __future__ import annotations

from tests.kit.planting import Edit, Mutant

ENGINE = "durable_core.engine"
STATE = "durable_core.testing.memory_state:State"

COMMITS = (
    Mutant(
        "unknown taken as written",
        "a commit of unknown outcome counts as applied",
        (Edit(
            f"{ENGINE}.committer:Committer._try",
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
                f"{ENGINE}.committer:Committer._write",
                "writing.unsure or error.outcome_unknown",
                "False",
            ),
            Edit(f"{STATE}._apply", "if len(run.entries) != commit.after_seq:", "if False:"),
        ),
        bug=26,
    ),
    Mutant(
        "refused taken as written",
        "a batch that the store refuses counts as applied",
        (Edit(
            f"{ENGINE}.committer:Committer._write",
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
                f"{ENGINE}.committer:Committer._write",
                "failed: Exception = error\n",
                "break\n",
            ),
            Edit(
                f"{ENGINE}.committer:Committer._flush",
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
            f"{ENGINE}.runner:Runner._answered",
            "self.lose(",
            "self._soon() if self.run_id else (",
        ),),
        bug=8,
    ),
    Mutant(
        "the last entry is not read",
        "a journal is read without its last entry",
        (Edit(f"{ENGINE}.adopting:_whole_journal", "return entries", "return entries[:-1]"),),
        bug=11,
    ),
)  # fmt: skip

WORKERS = (
    Mutant(
        "leases are not renewed",
        "a handler that takes longer than a lease loses its run",
        (Edit(
            f"{ENGINE}.lease:LeaseKeeper.hold",
            "self._leases.put(run_id, holder, since)",
            "return",
        ),),
        bug=37,
    ),
    Mutant(
        "a lease lasts for ever",
        "a worker that was frozen past its lease begins handlers, and does not ask",
        (Edit(f"{ENGINE}.lease:_Leases.lasts", "and now < held.ends_at", ""),),
        bug=11,
    ),
    Mutant(
        "a lost lease is not noticed",
        "who is told that its lease is lost goes on",
        (
            Edit(f"{ENGINE}.runner:Runner.lease_is_gone", "if not self._busy:", "if False:"),
            Edit(f"{ENGINE}.runner:Runner.lose", "if not self.closed:", "if False:"),
        ),
        bug=11,
    ),
)  # fmt: skip

WORKER_MUTANTS = (*COMMITS, *WORKERS)

UNKILLED = (
    Mutant(
        "any verdict will do",
        "a runner goes on after a refused commit, as if it had been applied",
        (Edit(
            f"{ENGINE}.runner:Runner._answered",
            "if verdict is CommitVerdict.APPLIED:",
            "if True:",
        ),),
        bug=8,
    ),
    Mutant(
        "drain hands nothing back",
        "a worker that stops leaves its leases to expire",
        (Edit(
            f"{ENGINE}.runner:Runner._hand_back_when_idle",
            "    self._busy = True\n",
            "    self.drop()\n    return\n",
        ),),
        bug=15,
    ),
)  # fmt: skip
"""Not in the table. The first is held off by a second lock: no handler begins unless its lease
lasts, and every later commit is fenced. The second is a hole: such a run goes on a lease later,
and nothing says that this was too late. A rule is wanted: without a crash, no claim takes over a
lease that has run out."""
