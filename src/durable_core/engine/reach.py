"""Reach: what a worker may claim, and what marks one call's leases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import attrs

from ..store import ClaimRequest, Kind
from .owner import new_owner
from .shared import Shared, WorkerOptions


@attrs.frozen(slots=True, kw_only=True)
class Reach:
    """What a worker may claim, as which ``owner``, and how long it gets it for."""

    worker: str
    owner: str
    lease_ms: int
    queues: tuple[str, ...]
    kinds: tuple[Kind, ...]
    suspect_deaths: int

    def request(self, limit: int, *, suspects: int, mark: int) -> ClaimRequest:
        """A claim of so many runs."""
        return ClaimRequest(
            worker=self.owner,
            lease_ms=self.lease_ms,
            limit=limit,
            queues=self.queues,
            kinds=self.kinds,
            suspect_deaths=self.suspect_deaths,
            suspects=suspects,
            mark=mark,
        )


def new_mark(entropy: Callable[[int], bytes]) -> int:
    """Of one call's leases."""
    return int.from_bytes(entropy(4), "big")


def reach_of(shared: Shared, options: WorkerOptions) -> Reach:
    """What a worker with these options may claim, as a new owner."""
    return Reach(
        worker=options.name,
        owner=new_owner(options.name, shared.host.entropy),
        lease_ms=round(options.lease / timedelta(milliseconds=1)),
        queues=options.queues,
        kinds=tuple(
            Kind(workflow=d.name, version=d.version, fingerprint=d.fingerprint)
            for d in shared.registry
        ),
        suspect_deaths=max(1, shared.limits.worker_deaths - 2),
    )
