"""The store protocol: what an adapter must do, and the records that cross the seam.

A store commits; it decides nothing. Every verb is set-based, so that one round trip serves
many runs, and every verb is atomic: all of it happens, or none. Rules an adapter must keep:

1. *Fence.* A lease is a row per live run with an ``epoch`` that grows at every claim. A commit,
   renewal or transaction whose epoch is not the current one, or was given up by a release,
   changes nothing. A lease that expired and was not taken over is still good.
2. *Order.* Entries of a run are numbered 1..n without gap (the first ones are gone where a commit
   ``renews``); messages of a run are numbered by a per-run arrival counter that is advanced under
   the lease row's lock.
3. *No lost wake-up.* Delivering to an unowned run makes it due at once, in the same
   transaction. A commit that releases a run while messages newer than ``Commit.seen`` lie in
   its inbox leaves it due at once. One that finishes a run while a newer message that
   ``reopens`` lies there leaves it opened again. The inbox of an ended run is kept.
4. *Time.* "now" is the database's clock, in ms since the epoch, and is returned by the verbs
   that the engine's own sense of time is taken from. ``due_at_ms`` is when a run may be
   claimed: start time, lease expiry, and what is a little before a timer, retry or time-out, all
   in one; null means that only a message can move the run.
5. *Claim.* A run is claimable when it is due, whoever held it last; claiming one that still has
   another owner (whose lease expired) counts one worker death, and a commit with entries sets
   that count back to zero. An owner that claims its own run again lives: that is no death. With
   ``deliver_and_claim`` only runs that just got a message, and that nobody has, are claimed.
   A claim may be lost with the machine of the store, as long as nothing was committed that knows
   of it; then it was never made, and its mark keeps its owner from passing for the next one.
6. *Time's decisions.* A commit that time decided (``not_before_ms``) lands only if no message
   was acknowledged before that moment and is unknown to the holder: clock and inbox are looked
   at when its lease row is locked.
7. *Errors.* No exception of a driver leaves the adapter. What may have committed is reported as
   ``StoreUnavailableError(outcome_unknown=True)``, never re-sent.

Times are integers in ms since 1970 UTC. Texts that look like JSON are opaque to adapters.
"""

from .commits import Commit, CommitResult, CommitVerdict, Delivery, Foreseen
from .leases import (
    MARKS,
    ClaimBatch,
    ClaimedRun,
    ClaimRequest,
    Kind,
    Lease,
    Release,
    RenewResult,
    next_epoch,
)
from .messages import DeliverVerdict, InboxRecord, Message, payload_digest
from .protocol import Store, StoreTransaction
from .runs import CreateResult, EntryRecord, NewRun, RunFilter, RunRecord

__all__ = [
    "ClaimBatch",
    "ClaimRequest",
    "ClaimedRun",
    "Commit",
    "CommitResult",
    "CommitVerdict",
    "CreateResult",
    "DeliverVerdict",
    "Delivery",
    "EntryRecord",
    "Foreseen",
    "InboxRecord",
    "Kind",
    "Lease",
    "MARKS",
    "Message",
    "NewRun",
    "Release",
    "RenewResult",
    "RunFilter",
    "RunRecord",
    "Store",
    "StoreTransaction",
    "next_epoch",
    "payload_digest",
]
