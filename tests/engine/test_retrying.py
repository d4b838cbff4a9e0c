"""Clients sit out a short absence of the store, and never do twice what must be done once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from durable_core import DuplicateRunError, Engine, Workflow
from durable_core.engine.client.retrying import PATIENCE_S
from durable_core.engine.clock import Host
from durable_core.errors import StoreUnavailableError
from durable_core.store import CreateResult, DeliverVerdict, Message, NewRun, RunRecord
from durable_core.testing.memory import MemoryStore
from durable_core.testing.virtual_time import VirtualTime

GONE = StoreUnavailableError("gone")
UNKNOWN = StoreUnavailableError("in doubt", outcome_unknown=True)


async def nothing(ctx: Any) -> None:
    """Does nothing."""


waits = Workflow("waits").step("a", nothing).wait_for_signal("go")


class Shaky(MemoryStore):
    """Fails as often as it is told to; with an unknown outcome only after it has done it."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__(clock=time.now_ms)
        self.faults: list[StoreUnavailableError] = []
        self.calls: list[str] = []

    async def create(self, runs: Sequence[NewRun], *, conn: Any = None) -> tuple[CreateResult, ...]:
        results = await self._shaken("create", super().create(runs))
        assert isinstance(results, tuple)
        return results

    async def deliver(
        self, messages: Sequence[Message], *, inbox_limit: int = 10_000, conn: Any = None
    ) -> tuple[DeliverVerdict, ...]:
        verdicts = await self._shaken("deliver", super().deliver(messages))
        assert isinstance(verdicts, tuple)
        return verdicts

    async def get(self, run_ids: Sequence[str]) -> dict[str, RunRecord]:
        return dict(await self._shaken("get", super().get(run_ids)))

    async def _shaken(self, verb: str, done: Any) -> Any:
        self.calls.append(verb)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and not fault.outcome_unknown:
            done.close()
            raise fault
        result = await done
        if fault is not None:
            raise fault
        return result


def on_stage(scene: Any) -> None:
    """Play a scene on virtual time, with an engine over a shaky store and no worker."""
    time = VirtualTime()
    store = Shaky(time)

    async def main() -> None:
        async with Engine(store, [waits], host=Host(renew_in_thread=False)) as engine:
            await scene(engine, store)

    with asyncio.Runner(loop_factory=time.loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("fault", [GONE, UNKNOWN])
def test_a_start_is_tried_again(fault: StoreUnavailableError) -> None:
    async def scene(engine: Engine, store: Shaky) -> None:
        store.faults = [fault, GONE, fault]
        run = await engine.start(waits, id="r")
        assert store.calls == ["create"] * 4
        assert (await run.info()).status == "pending"

    on_stage(scene)


def test_a_start_that_must_be_the_first_is_not_tried_again_in_doubt() -> None:
    async def scene(engine: Engine, store: Shaky) -> None:
        store.faults = [GONE, UNKNOWN]
        with pytest.raises(StoreUnavailableError) as caught:
            await engine.start(waits, id="r", on_duplicate="reject")
        assert caught.value.outcome_unknown
        assert store.calls == ["create"] * 2
        with pytest.raises(DuplicateRunError):
            await engine.start(waits, id="r", on_duplicate="reject")

    on_stage(scene)


def test_a_signal_with_a_key_is_tried_again_and_comes_once() -> None:
    async def scene(engine: Engine, store: Shaky) -> None:
        run = await engine.start(waits, id="r")
        store.faults = [UNKNOWN, GONE]
        await run.signal("go", 1, dedupe_id="k")
        assert store.calls == ["create", "deliver", "deliver", "deliver"]
        assert len(store._shared.state.runs["r"].inbox) == 1

    on_stage(scene)


def test_a_signal_without_a_key_is_the_callers_to_repeat_in_doubt() -> None:
    async def scene(engine: Engine, store: Shaky) -> None:
        run = await engine.start(waits, id="r")
        store.faults = [GONE, UNKNOWN]
        with pytest.raises(StoreUnavailableError) as caught:
            await run.signal("go", 1)
        assert caught.value.outcome_unknown
        assert len(store._shared.state.runs["r"].inbox) == 1

    on_stage(scene)


def test_reads_are_tried_again_and_a_long_absence_is_told() -> None:
    async def scene(engine: Engine, store: Shaky) -> None:
        run = await engine.start(waits, id="r")
        store.faults = [GONE, UNKNOWN]
        assert (await run.info()).id == "r"
        store.faults = [GONE] * 1_000
        began_ms = await store.now_ms()
        with pytest.raises(StoreUnavailableError, match="gone"):
            await run.info()
        passed_s = (await store.now_ms() - began_ms) / 1_000
        assert PATIENCE_S <= passed_s < 2 * PATIENCE_S + 5

    on_stage(scene)
