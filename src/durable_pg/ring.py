"""Ring: the NOTIFY that may travel with a verb."""

from __future__ import annotations

from collections.abc import Callable

import attrs


@attrs.define(slots=True)
class Ring:
    """Asked of a verb; it ``sounds`` when the verb had news and took it along: others hear it with
    the commit. None: the verb has not been answered."""

    channel: str
    sender: str
    is_wanted: Callable[[], bool]
    sounds: bool | None = None
    carried: bool = False  # whether any statement was asked to take it along

    def columns(self) -> tuple[str | None, str | None]:
        """Channel and sender, or nothing: asked when the statement is sent, which many that were
        called at once are one after the other."""
        if not self.is_wanted():
            return NO_RING
        self.carried = True
        return self.channel, self.sender


NO_RING = (None, None)
