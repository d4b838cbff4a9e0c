"""Shared: what the client and the workers of one engine have in common."""

from __future__ import annotations

from datetime import timedelta

import attrs

from ..codec.payload import Codec
from ..kernel.limits import Limits
from ..store import Store
from ..workflow.registry import Registry
from .clock import Host, StoreClock
from .listener import Listener
from .local import Local
from .observer import Observers
from .retention import Retention


@attrs.frozen(slots=True, kw_only=True)
class Shared:
    """Made with the engine, and there as long as it is."""

    store: Store
    clock: StoreClock
    host: Host
    registry: Registry
    codec: Codec
    limits: Limits
    observers: Observers
    listener: Listener
    local: Local


@attrs.frozen(slots=True, kw_only=True)
class WorkerOptions:
    """How a worker works; see ``Engine.worker``."""

    name: str
    concurrency: int
    queues: tuple[str, ...]
    lease: timedelta
    grace: timedelta
    retention: Retention | None = None
