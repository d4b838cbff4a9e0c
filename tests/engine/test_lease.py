"""LeaseKeeper: what its two threads tell each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from durable_core.engine.worker.lease import LeaseKeeper
from durable_core.testing.memory import MemoryStore


async def test_a_main_loop_may_answer_before_it_is_known_to_have_been_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer comes from another thread, so it may come at once."""
    keeper = LeaseKeeper(
        MemoryStore(),
        lease_ms=1_000,
        stall_limit_s=60,
        on_result=lambda result, lost: None,
        on_expired=lambda holders: None,
    )

    def call_at_once(function: Callable[..., None], *args: object) -> None:
        function(*args)

    monkeypatch.setattr(keeper, "_tell", call_at_once)
    assert keeper._main_loop_answers()
