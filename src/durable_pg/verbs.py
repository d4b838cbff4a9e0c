"""Verbs: the two ways of doing what the protocol asks for, by functions or by plain statements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs

from durable_core.store import (
    ClaimBatch,
    ClaimRequest,
    Commit,
    CommitResult,
    CreateResult,
    DeliverVerdict,
    Delivery,
    Foreseen,
    InboxRecord,
    Lease,
    Message,
    NewRun,
    RenewResult,
)

from . import claiming, leasing, pruning, writing
from .plain import claiming as plain_claiming
from .plain import committing as plain_committing
from .plain import creating as plain_creating
from .plain import delivering as plain_delivering
from .plain import leasing as plain_leasing
from .plain import pruning as plain_pruning
from .ring import Ring
from .steps import Steps

Delivered = Steps[tuple[DeliverVerdict, ...]]


@attrs.frozen(slots=True, kw_only=True)
class Verbs:
    """Each makes the steps of one verb. The time in ms is None for the database's clock."""

    create: Callable[[Sequence[NewRun], int | None, Ring | None], Steps[tuple[CreateResult, ...]]]
    deliver: Callable[[Sequence[Message], int | None, int, Ring | None], Delivered]
    post: Callable[[Sequence[Message], int | None, int], Delivered]
    claim: Callable[[ClaimRequest, int | None], Steps[ClaimBatch]]
    deliver_and_claim: Callable[
        [Sequence[Message], ClaimRequest, int | None, int, Foreseen | None],
        Steps[Delivery],
    ]
    commit: Callable[[Sequence[Commit], int | None], Steps[CommitResult]]
    renew: Callable[[Sequence[Lease], int, int | None], Steps[RenewResult]]
    inbox: Callable[[Sequence[Lease], int | None], Steps[Mapping[str, tuple[InboxRecord, ...]]]]
    prune: Callable[[int, tuple[str, ...] | None, int], Steps[int]]


FUNCTIONS = Verbs(
    create=writing.create,
    deliver=writing.deliver,
    post=writing.post,
    claim=claiming.claim,
    deliver_and_claim=claiming.deliver_and_claim,
    commit=writing.commit,
    renew=leasing.renew,
    inbox=leasing.inbox,
    prune=pruning.prune,
)
PLAIN = Verbs(
    create=plain_creating.create,
    deliver=plain_delivering.deliver,
    post=plain_delivering.post,
    claim=plain_claiming.claim,
    deliver_and_claim=plain_claiming.deliver_and_claim,
    commit=plain_committing.commit,
    renew=plain_leasing.renew,
    inbox=plain_leasing.inbox,
    prune=plain_pruning.prune,
)
