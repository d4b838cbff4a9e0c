"""Mail that comes while a run is being given up: the run goes on at once, without any polling."""

from __future__ import annotations

from typing import Any

from tests.flaws.stage import PATIENCE_S, Stage, writes

from durable_core import Engine, Host, Workflow

DEAF = Host(fallback_poll_s=None)
"""A process that hears only what it is told."""


async def test_a_signal_that_crosses_the_commit_that_suspends_is_not_left_lying(
    stage: Stage,
) -> None:
    """The signal is delivered when the run is held and about to be released: its holder has
    decided without it, so the store leaves the run due, and the worker must claim it again."""
    workflow: Workflow[Any, Any] = Workflow("w").wait_for_signal("go")
    store = stage.store()
    store.tap.freezes_claims = False
    async with Engine(store, [workflow], host=DEAF) as engine, engine.worker():
        with store.tap.freezing(before=writes("go")) as frozen:
            run = await engine.start(workflow)
            await frozen.wait()
            await run.signal("go", 1)
        assert await run.result(timeout=PATIENCE_S) == {"go": 1}
