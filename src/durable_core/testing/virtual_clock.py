"""Virtual clock: what a store under test takes for the time; it stands until it is moved."""

from __future__ import annotations

START_MS = 1_700_000_000_000


class VirtualClock:
    """A store's clock, in ms since 1970 UTC, that moves only when it is told to."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def forward(self, ms: int) -> int:
        """Let time pass; answers with the new time."""
        self.now_ms += ms
        return self.now_ms
