"""Defects of the store: leases, fences, inboxes, tokens, times."""

from __future__ import annotations

from tests.kit.planting import Edit, Mutant

WORKER = "durable_core.engine.worker"
STATE = "durable_core.testing.memory_state:State"
RUN = "durable_core.testing.memory_state:StoredRun"
STORE = "durable_core.testing.memory:MemoryStore"

LEASES = (
    Mutant(
        "no fence on renew",
        "a lease is renewed whoever holds the run now",
        (Edit(
            f"{STORE}.renew",
            "run = shared.state.held(lease.run_id, lease.epoch)",
            "run = shared.state.runs.get(lease.run_id)",
        ),),
        bug=1,
        quick=True,
    ),
    Mutant(
        "renew loses nothing",
        "who renews a lease that is another's is not told that it is lost",
        (Edit(f"{STORE}.renew", "lost.add(lease.run_id)", "pass"),),
        bug=11,
    ),
    Mutant(
        "commit without a fence",
        "a commit is applied under any epoch",
        (Edit(
            f"{STATE}._apply",
            "run = self.held(commit.run_id, commit.epoch)",
            "run = self.runs.get(commit.run_id)",
        ),),
        bug=1,
        first="torn",
    ),
    Mutant(
        "half a fence",
        "a commit is fenced by whether the run is held, not by whom",
        (Edit(f"{STATE}.held", " or run.epoch != epoch", ""),),
        bug=1,
        first="torn",
    ),
    Mutant(
        "one epoch for all",
        "a claim does not grow the epoch",
        (Edit(f"{STATE}._lease", "run.epoch = next_epoch(run.epoch, request.mark)", "pass"),),
        bug=1,
        quick=True,
    ),
    Mutant(
        "release keeps the owner",
        "a run that is given up is still held",
        (Edit(f"{STATE}._let_go", "run.owner = None", "pass"),),
        bug=15,
    ),
    Mutant(
        "deaths are not counted",
        "the claim of an expired lease counts no death",
        (Edit(f"{STATE}._lease", "run.deaths += run.owner not in (None, request.worker)", "pass"),),
        bug=32,
        first="poison",
        quick=True,
    ),
    Mutant(
        "progress forgives nothing",
        "deaths before the last progress count too",
        (Edit(
            f"{STATE}._apply",
            "run.deaths = 0",
            "run.deaths = run.deaths",
        ),),
        bug=33,
        first="poison",
    ),
    Mutant(
        "claimed too early",
        "a claim takes what is due in five seconds too",
        (Edit(
            f"{STATE}.claim",
            "(run.due_at_ms or 0) <= now)",
            "(run.due_at_ms or 0) <= now + 5_000)",
        ),),
        bug=2,
    ),
    Mutant(
        "decided too early",
        "a run that rests sends what time decides at once, and the store takes it",
        (
            Edit(
                f"{WORKER}.runner:Runner._act",
                "max(0.0, delay_s - self._surface.lead_s)",
                "0.0",
            ),
            Edit(f"{STATE}._apply", "now < commit.not_before_ms", "now < 0"),
        ),
        bug=2,
    ),
    Mutant(
        "a timer of the process",
        "a claim does not say when something falls due",
        (Edit(f"{STATE}.next_due_ms", "return min(dues, default=None)", "return None"),),
        bug=54,
        quick=True,
        first="silence",
    ),
)  # fmt: skip

RUNS = (
    Mutant(
        "start overwrites",
        "a start looks whether the run is there, and inserts it all the same",
        (Edit(f"{STATE}.create", "if new.run_id in self.runs:", "if new.run_id in ():"),),
        bug=7,
        first="twice",
    ),
    Mutant(
        "the end keeps the lease",
        "a run that has ended is still held, and due",
        (Edit(
            f"{RUN}.finish",
            "self.owner, self.due_at_ms, self.deaths = None, None, 0",
            "self.deaths = 0",
        ),),
        bug=14,
    ),
    Mutant(
        "children after the commit",
        "a parent's commit lands, and its child is not created",
        (Edit(f"{STATE}.commit", "self.create(child, now)", "pass"),),
        quick=True,
        bug=12,
        first="tree",
    ),
    Mutant(
        "nobody tells the parent",
        "the messages of a commit are not delivered",
        (Edit(f"{STATE}.commit", "self.deliver(message, now, None)", "pass"),),
        bug=20,
        first="tree",
    ),
    Mutant(
        "half a commit",
        "of a commit with several entries the last is not written",
        (Edit(
            f"{STATE}._apply",
            "for entry in commit.entries]",
            "for entry in commit.entries[: max(1, len(commit.entries) - 1)]]",
        ),),
        quick=True,
        bug=14,
    ),
)  # fmt: skip

MESSAGES = (
    Mutant(
        "early signal dropped",
        "a message to a run that has not begun is lost",
        (Edit(
            f"{STATE}.deliver",
            "self._put(run, message, now)",
            "run.entries and self._put(run, message, now)",
        ),),
        bug=41,
        first="order",
        quick=True,
    ),
    Mutant(
        "lost wake-up",
        "a message that comes while the run is being given up is slept over",
        (Edit(f"{STATE}._let_go", "    if unseen:\n", "    if False:\n"),),
        bug=13,
    ),
    Mutant(
        "nobody is woken",
        "a message to a run that nobody holds does not make it due",
        (Edit(f"{STATE}.deliver", "run.wake(now)", "pass"),),
        bug=13,
        first="tree",
    ),
    Mutant(
        "not consumed",
        "a consumed message stays in the inbox",
        (Edit(f"{STATE}._apply", "run.inbox.pop(seq, None)", "pass"),),
        bug=28,
        first="order",
    ),
    Mutant(
        "consumed without the commit",
        "a refused commit takes its messages all the same",
        (Edit(
            f"{STATE}._apply",
            "return CommitVerdict.FENCED",
            "[self.runs[commit.run_id].inbox.pop(seq, None) for seq in commit.consumed]\n"
            "        return CommitVerdict.FENCED",
        ),),
        bug=28,
        first="busy",
    ),
    Mutant(
        "dedupe forgotten",
        "once a message is consumed, its key is free again",
        (Edit(
            f"{STATE}._apply",
            "run.inbox.pop(seq, None)",
            "run.deduped.discard(run.inbox.pop(seq)[0].dedupe) if seq in run.inbox else None",
        ),),
        bug=28,
        first="order",
    ),
    Mutant(
        "last in, first out",
        "the inbox is read in reverse",
        (Edit(
            f"{RUN}.mail",
            "sorted(self.inbox.items())",
            "sorted(self.inbox.items(), reverse=True)",
        ),),
        bug=42,
        first="order",
    ),
    Mutant(
        "token never closed",
        "the token of a suspension that was given up stays open",
        (Edit(f"{STATE}._apply", "del run.tokens[token]", "pass"),),
        bug=21,
        first="two tools",
    ),
)  # fmt: skip

STORE_MUTANTS = (*LEASES, *RUNS, *MESSAGES)
