"""Reach: what a worker may claim, and what marks one call's leases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Protocol

import attrs

from ...kernel.limits import Limits
from ...store import ClaimRequest, Kind
from ...workflow.definition import Definition
from ..owner import new_owner


class Options(Protocol):
    """What is said of a worker that matters here."""

    @property
    def name(self) -> str:
        """Its own."""
        ...

    @property
    def lease(self) -> timedelta:
        """For how long it gets what it claims."""
        ...

    @property
    def queues(self) -> tuple[str, ...]:
        """From which it claims."""
        ...


@attrs.frozen(slots=True, kw_only=True)
class Reach:
    """What a worker may claim, as which ``owner``, and how long it gets it for."""

    worker: str
    owner: str
    lease_ms: int
    queues: tuple[str, ...]
    kinds: tuple[Kind, ...]
    suspect_deaths: int

    @classmethod
    def of(
        cls,
        options: Options,
        definitions: Iterable[Definition],
        limits: Limits,
        entropy: Callable[[int], bytes],
    ) -> Reach:
        """Of a worker that starts now."""
        return cls(
            worker=options.name,
            owner=new_owner(options.name, entropy),
            lease_ms=round(options.lease / timedelta(milliseconds=1)),
            queues=options.queues,
            kinds=tuple(
                Kind(workflow=each.name, version=each.version, fingerprint=each.fingerprint)
                for each in definitions
            ),
            suspect_deaths=max(1, limits.worker_deaths - 2),
        )

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
