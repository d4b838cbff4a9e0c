"""Ring: the NOTIFY that may travel with a verb."""

from __future__ import annotations

import attrs


@attrs.define(slots=True)
class Ring:
    """Asked of a verb; ``sounds`` when the verb took it along, and others hear it with the commit.
    Whoever asked sends it afterwards if it does not."""

    channel: str
    sender: str
    sounds: bool = False


def ring_columns(ring: Ring | None) -> tuple[str | None, str | None]:
    """The parameters of a statement that may take it along."""
    return (None, None) if ring is None else (ring.channel, ring.sender)
