"""Other codecs: a run whose values this worker cannot read is left to one that can."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from durable_core import Engine, JsonCodec, StepContext, Workflow, ZlibLayer
from durable_core.codec.payload import Codec

WRITTEN = JsonCodec() | ZlibLayer()

done: list[str] = []


async def one(ctx: StepContext) -> str:
    done.append(ctx.unit)
    return "x"


async def undo(ctx: StepContext) -> None:
    done.append(f"undo {ctx.unit}")


child = Workflow("child").wait_for_signal("never")
flow = (
    Workflow("flow")
    .step("a", one, compensate=undo)
    .parallel("p", {"b": one})
    .wait_for_signal("go")
    .route("r", lambda ctx: ctx.results["a"], {"x": one})
)
parent = Workflow("parent").step("a", one).child("c", child)


@pytest.fixture
async def url(tmp_path: Path) -> str:
    """Two runs were begun under the layered codec; their worker is gone."""
    done.clear()
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    async with engine(url, WRITTEN) as at, at.worker():
        await at.start(flow, {"item": "lamp"}, id="flow")
        await at.start(parent, id="parent")
        for run_id in ("flow", "parent"):
            for _ in range(500):
                if (await at.get(run_id)).status == "suspended":
                    break
                await asyncio.sleep(0.01)
    done.clear()
    return url


def engine(url: str, codec: Codec) -> Engine:
    return Engine(url, [flow, parent, child], codec=codec)


async def says(at: Engine, run_id: str, what: str) -> None:
    for _ in range(500):
        if what in str(await at.explain(run_id)):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(str(await at.explain(run_id)))


async def test_it_is_parked_before_any_code_runs_and_goes_on_where_it_can_be_read(url: str) -> None:
    async with engine(url, JsonCodec()) as at, at.worker():
        await at.signal("flow", "go")
        await says(at, "flow", "undecodable")
        async with engine(url, WRITTEN) as other, other.worker():
            # What the first worker's client sent is plain JSON, which the layers read too.
            result = await other.run("flow").result(timeout=30)
    assert result["r"] == "x"
    assert done == ["r/x"]


async def test_it_can_be_terminated_with_its_children_by_a_worker_that_cannot_read_it(
    url: str,
) -> None:
    async with engine(url, WRITTEN) as at:
        (wait,) = (await at.get("parent")).waiting_for
        child_id = wait.name or ""
    async with engine(url, JsonCodec()) as at, at.worker():
        await at.signal("parent", "look")
        await says(at, "parent", "undecodable")
        await at.cancel("parent", mode="terminate")
        await says(at, "parent", "cancelled")
        await says(at, child_id, "cancelled")
    assert done == []
