"""Suspend and Resumption: how a handler gives up its place, and what it finds when it is back."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen(slots=True)
class Suspend:
    """Returned by a handler to suspend its run; nothing is held in memory meanwhile.

    ``engine.resume(run_id, data, token=...)`` calls the handler of the same unit again, from its
    first line, with ``ctx.resumption`` holding this ``snapshot`` and that ``data``. It may
    suspend again. The snapshot is stored like any value without a type annotation.
    """

    snapshot: Any = None


@attrs.frozen(slots=True)
class Resumption:
    """What a resumed handler goes on from: its own snapshot, and the data it was resumed with."""

    snapshot: Any
    data: Any
