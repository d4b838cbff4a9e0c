"""Meetings: two verbs on one run, in a state in which they have to do with each other.

Everything here runs on any store, so that a ``MemoryStore`` can tell what would have come of the
two verbs had they happened one after the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs

from durable_core.store import Lease, Message, RunRecord, Store
from durable_core.testing.contract_kit import (
    LEASE_MS,
    claim_one,
    commit_all,
    entry,
    finish,
    let_go,
    new_run,
    request,
    signal,
    step,
)
from durable_core.testing.memory import MemoryStore
from durable_core.testing.virtual_clock import START_MS, VirtualClock

RUN = "r1"
KIDS = {"first": "kid1", "second": "kid2"}
RUNS = (RUN, *KIDS.values())
"""The run that the verbs are about, and a child of it for each session, which lives."""

Answer = Any
"""What a verb said, without times: equal if it is the same."""


# --- the state of the run --------------------------------------------------------------------


async def arrange(store: Store, state: str) -> None:
    """Bring about a run that was claimed once, under epoch 1, and has one entry.

    *held* by worker ``w1``, or *due*, *idle* (waiting for a message) or *over* (failed) after
    that; or *none*: there is no run yet.
    """
    if state == "none":
        return
    for kid in KIDS.values():
        await store.create([new_run(kid, parent_id=RUN, queue="kids")])
        await claim_one(store, kid, queues=("kids",))
    await store.create([new_run(RUN)])
    await claim_one(store, RUN)
    commits = {
        "held": step(RUN),
        "due": let_go(RUN, n=1, due_at_ms=START_MS),
        "idle": let_go(RUN, n=1),
        "over": finish(RUN, status="failed"),
    }
    await commit_all(store, [commits[state]])


# --- the verbs -------------------------------------------------------------------------------

OWN = Lease(run_id=RUN, epoch=1)
"""The lease of ``w1``; where the run is not held any more, a stale one."""


async def claim(store: Store, who: str) -> Answer:
    """A worker takes what is due."""
    batch = await store.claim(request(worker=who))
    return [
        (
            each.run.run_id,
            each.run.epoch,
            [e.unit for e in each.entries],
            [m.name for m in each.inbox],
        )
        for each in batch.runs
    ]


async def renew(store: Store, who: str) -> Answer:
    """The owner extends its lease, well beyond a takeover."""
    result = await store.renew([OWN], lease_ms=3 * LEASE_MS)
    return sorted(result.lost), sorted(result.mail)


async def commit(store: Store, who: str) -> Answer:
    """The owner writes an entry, and gives the run back to wait for a message."""
    one = let_go(RUN, after_seq=1, n=1, entries=(entry(2, unit=f"{who} commit"),))
    return (await store.commit([one])).verdicts


async def end(store: Store, who: str) -> Answer:
    """The owner ends the run."""
    one = finish(RUN, after_seq=1, status="failed", entries=(entry(2, unit=f"{who} end"),))
    return (await store.commit([one])).verdicts


async def retry(store: Store, who: str) -> Answer:
    """A client opens the run again."""
    return await store.deliver([Message(run_id=RUN, kind="retry", name=who, reopens=True)])


async def send(store: Store, who: str) -> Answer:
    """A client sends a signal."""
    return await store.deliver([signal(RUN, name=who)])


async def cancel(store: Store, who: str) -> Answer:
    """A client cancels the run, which any worker may carry out."""
    return await store.deliver([Message(run_id=RUN, kind="cancel", name=who, anyone=True)])


async def child_end(store: Store, who: str) -> Answer:
    """A child of the run ends, and says so."""
    kid = KIDS[who]
    news = Message(run_id=RUN, kind="child_ended", name=kid, dedupe=f"child:{kid}")
    return (await store.commit([finish(kid, messages=(news,))])).verdicts


async def start(store: Store, who: str) -> Answer:
    """A client starts a run of this id."""
    (result,) = await store.create([new_run(RUN)])
    return result.created, result.record.status


async def retention(store: Store, who: str) -> Answer:
    """Ended runs are removed."""
    return await store.prune(before_ms=START_MS + 5 * LEASE_MS)


@attrs.frozen
class Verb:
    """One of the verbs: how long after the state was arranged it comes, and what it answers when
    it may pass over a run that somebody else has in hand (None: it must not)."""

    name: str
    do: Callable[[Store, str], Awaitable[Answer]]
    later_ms: int = 0
    passing_over: Answer = None


VERBS = {
    verb.name: verb
    for verb in (
        Verb("claim", claim, passing_over=[]),
        Verb("renew", renew),
        Verb("commit", commit),
        Verb("end", end),
        Verb("retry", retry),
        Verb("signal", send),
        Verb("cancel", cancel),
        Verb("child_end", child_end),
        Verb("takeover", claim, later_ms=LEASE_MS, passing_over=[]),
        Verb("start", start),
        Verb("retention", retention, passing_over=0),
    )
}


# --- what has come of it ---------------------------------------------------------------------


async def aftermath(store: Store, clock: VirtualClock) -> Answer:
    """What everybody finds afterwards: a worker at once, another one much later, and readers."""
    found = [await claim(store, "next")]
    runs = await store.get(RUNS)
    found += [(run_id, _facts(runs[run_id])) for run_id in RUNS if run_id in runs]
    found += [[(e.seq, e.unit) for e in await store.journal(run_id)] for run_id in RUNS]
    clock.forward(10 * LEASE_MS)
    found.append(await claim(store, "last"))
    return found


def _facts(run: RunRecord) -> tuple[object, ...]:
    return (
        run.status, run.generation, run.entry_count, run.epoch, run.owner, run.deaths,
        run.due_at_ms is None, run.finished_at_ms is None,
    )  # fmt: skip


@attrs.frozen
class Story:
    """What the two sessions were answered (None: nobody will ever know), and what came of it."""

    first: Answer
    second: Answer
    aftermath: Answer


async def serial_stories(
    state: str, first: Verb, second: Verb, *, waited: bool, kept: bool
) -> list[Story]:
    """All that may come of it, were nothing ever done at the same time.

    ``waited``: the second verb came after the first. ``kept``: the first was committed.
    """
    ours, theirs = Act("first", first, kept), Act("second", second)
    orders = [(ours, theirs)]
    if not waited:
        orders.append((theirs, ours))
        if second.passing_over is not None:
            orders.append((ours, attrs.evolve(theirs, happens=False)))
    return [await _serial(state, order) for order in orders]


@attrs.frozen
class Act:
    """A verb and who does it; if it does not happen, only its time comes."""

    who: str
    verb: Verb
    happens: bool = True


async def _serial(state: str, acts: Sequence[Act]) -> Story:
    clock = VirtualClock()
    store = MemoryStore(clock=clock)
    await store.open()
    await arrange(store, state)
    said: dict[str, Answer] = {"first": None}
    for act in acts:
        clock.forward(act.verb.later_ms)
        if act.happens:
            said[act.who] = await act.verb.do(store, act.who)
        elif act.who == "second":
            said[act.who] = act.verb.passing_over
    return Story(said["first"], said["second"], await aftermath(store, clock))
