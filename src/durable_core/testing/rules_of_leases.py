"""Rules of leases: without a mishap that costs one, no lease runs out.

A worker that ends hands its runs back, due at once; one that loses a run to the store's word lets
it go. A run that waits until its lease has run out costs its user half a minute, and hides a
defect: what comes of it is right all the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from .plan import ClockJump, Crash, Delay, Interrupt, Pause, Stop, StoreError, Theft
from .simulation import Simulation
from .witness import Violation

ERRORS_MAX = 3
"""So many store errors are ridden out; after more of them a worker may give a run up."""
PATIENT_S = 3.0
"""So long any worker waits for the store, also one that ends."""


def left_to_expire(sim: Simulation) -> Iterator[Violation]:
    """I-LIVE: a run that is held is worked on, or handed back."""
    if _may_expire(sim):
        return
    for takeover in sim.world.witness.holdings.takeovers:
        if not takeover.busy:
            yield Violation(
                "I-LIVE",
                f"{takeover.process} kept run {takeover.run_id!r} until its lease had run out, and "
                "did not work on it",
                event=takeover.event,
            )


def _may_expire(sim: Simulation) -> bool:
    """Whether something happened after which a lease runs out by right."""
    happened = sim.world.mishaps.happened
    transacts = any(call.transactional for call in sim.world.calls)
    leaves = sim.plan.always_suspend or any(isinstance(one, Stop | Interrupt) for one in happened)
    late = any(isinstance(one, Delay) and one.seconds > PATIENT_S for one in happened)
    for fault in happened:
        match fault:
            case Crash() | Pause() | Theft() | ClockJump():
                return True
            case StoreError(verb="claim"):
                return True  # nobody knows of the lease that was given
            case StoreError(verb="create" | "deliver_and_claim") if leaves or late:
                return True  # nor of this one, until it is given up, or the start is tried again
            case StoreError(verb="commit") if transacts:
                return True  # a transaction that is not committed is not tried again at once
            case Delay(verb=verb, seconds=seconds) if seconds > PATIENT_S and (
                verb != "commit" or leaves
            ):
                return True  # the lease is over when it comes, or the worker waits no longer
            case _:
                pass
    return sum(isinstance(one, StoreError) for one in happened) > ERRORS_MAX
