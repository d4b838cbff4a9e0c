"""An exported run is replayed against today's code: what fits, what does not, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings

from durable_core import (
    DurableError,
    EncodingError,
    Engine,
    NondeterminismError,
    Retry,
    RunExport,
    RunNotFoundError,
    Workflow,
)
from durable_core.testing.plan import Crash, Faults, Raising
from durable_core.testing.replay import check_upgrade, exported, replay
from durable_core.testing.simulate import simulate
from durable_core.testing.strategies import workflows
from durable_core.workflow.nodes import Branch, Undo
from durable_sqlite import SqliteStore

Ctx = Any


async def reserve(ctx: Ctx) -> int:
    return 2


async def pay(ctx: Ctx) -> str:
    return "paid"


def kind_of(ctx: Ctx) -> str:
    return "express"


def order(name: str = "order") -> Workflow[Any, Any]:
    return (
        Workflow(name)
        .step("reserve", reserve)
        .route("ship", kind_of, {"express": pay, "slow": pay})
        .loop("track", lambda ctx, value: value, initial=1, until=lambda result, n: n == 2)
    )


whole = order().wait_for_signal("approval").step("pay", pay)
run = exported(simulate(whole, {"items": [1, 2]}))  # it waits for the approval


def test_a_run_fits_the_definition_it_was_started_with() -> None:
    result = replay(whole, run)
    assert result.fits and result.error is None
    assert result.done == ("reserve", "ship", "track")
    assert result.begun == ("approval",)
    assert str(result) == "run 'run' fits, in approval"
    result.check()


def test_an_ended_run_is_replayed_to_its_end() -> None:
    sim = simulate(whole, None, Faults(Crash(unit="pay")), signals={"approval": True})
    assert replay(whole, sim).fits


@pytest.mark.parametrize(
    ("changed", "unit", "recorded", "asked"),
    [
        (
            Workflow("order").step("pay", pay).step("reserve", reserve),
            "reserve",
            "a call (completed)",
            "'pay', which is not recorded",
        ),
        (Workflow("order"), "reserve", "a call (completed)", "nothing"),
        (Workflow("order").sleep("reserve", 1), "reserve", "a call", "a timer"),
        (
            Workflow("order").step("reserve", reserve).route("ship", kind_of, {"slow": pay}),
            "ship",
            "the route key 'express'",
            "no branch for it",
        ),
    ],
)
def test_a_run_that_does_not_fit_is_told_where_and_why(
    changed: Workflow[Any, Any], unit: str, recorded: str, asked: str
) -> None:
    result = replay(changed, run)
    assert not result.fits and result.error is not None
    error = result.error
    assert (error.run_id, error.unit, error.recorded) == ("run", unit, recorded)
    assert error.asked.startswith(asked)
    assert "would be parked" in str(result)
    with pytest.raises(NondeterminismError):
        result.check()


def test_no_handler_is_called() -> None:
    called = []

    async def counts(ctx: Ctx) -> int:
        called.append(ctx.unit)
        return 1

    flow = Workflow("flow").step("a", counts).step("b", counts)
    sim = simulate(flow)
    called.clear()
    assert replay(flow, sim).fits
    assert called == []


@attrs.frozen
class Receipt:
    number: int


async def pay_with_receipt(ctx: Ctx) -> Receipt:
    return Receipt(1)


def test_recorded_values_that_todays_types_do_not_read_are_named() -> None:
    old = Workflow("flow").step("pay", pay)
    result = replay(Workflow("flow").step("pay", pay_with_receipt), simulate(old))
    assert result.error is None and not result.fits
    (said,) = result.unreadable
    assert "the value of 'pay'" in said
    assert "cannot be read" in str(result)
    with pytest.raises(EncodingError):
        result.check()


def test_a_child_by_its_name_only_is_listed_beside() -> None:
    child = Workflow("child").step("pay", pay)
    parent = Workflow("parent").child("sub", "child")
    sim = simulate(parent, None, children=[child])
    assert replay(parent, sim, children=[child]).fits
    assert replay(child, exported(sim, sim.runs[1])).fits


@settings(max_examples=40)
@given(workflows(3))
def test_every_run_of_every_workflow_fits_at_every_point_of_its_life(
    workflow: Workflow[Any, Any],
) -> None:
    whole = exported(simulate(workflow, {"order": 1}, resume="yes"))
    for length in range(len(whole.entries) + 1):
        cut = attrs.evolve(whole, entries=whole.entries[:length])
        result = replay(workflow, cut)
        assert result.fits, str(result)


# --- exporting -----------------------------------------------------------------------------------


async def test_a_run_of_a_real_store_is_exported_and_read_again(tmp_path: Path) -> None:
    async with Engine(SqliteStore(tmp_path / "runs.db"), [whole]) as engine:
        async with engine.worker():
            started = await engine.start(whole, {"items": [1]}, id="one")
            await engine.signal("one", "approval", True)
            await started.result(timeout=20)
        export = await engine.export("one")
        with pytest.raises(RunNotFoundError):
            await engine.export("two")
    assert export.status == "completed"
    again = RunExport.from_json(export.to_json())
    assert again == export
    assert replay(whole, again).fits
    assert repr(again).startswith("<RunExport of 'one': 'order' version '1', completed,")


@settings(max_examples=30)
@given(workflows(2))
def test_an_export_is_the_same_when_it_is_read(workflow: Workflow[Any, Any]) -> None:
    sim = simulate(workflow, {"order": 1}, resume="yes")
    for run_id in sim.runs:
        export = exported(sim, run_id)
        assert RunExport.from_json(export.to_json()) == export


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 99}', "null"])
def test_what_is_no_export_is_refused(text: str) -> None:
    with pytest.raises(EncodingError, match=r"no exported run|has format 99"):
        RunExport.from_json(text)


def test_what_is_no_run_is_refused() -> None:
    with pytest.raises(DurableError, match=r"engine\.export"):
        replay(whole, simulate(whole).journal)  # type: ignore[arg-type]
    with pytest.raises(DurableError, match="not of 'other'"):
        replay(Workflow("other"), run)


# --- upgrades ------------------------------------------------------------------------------------


def test_an_upgrade_is_judged_by_the_runs_there_are() -> None:
    moved = Workflow("order").wait_for_signal("approval").step("reserve", reserve)
    assert not check_upgrade(whole, moved).safe
    fresh = attrs.evolve(run, run_id="fresh", entries=())
    upgrade = check_upgrade(whole, moved, [fresh, run])
    assert [row.verdict for row in upgrade.rows] == ["continues", "parks"]
    assert [row.position for row in upgrade.rows] == ["run 'fresh'", "run 'run'"]
    assert check_upgrade(whole, moved, [fresh]).safe
    assert "run 'run'" in str(upgrade)


def test_a_run_that_would_go_wrong_is_told_so() -> None:
    old = Workflow("flow").step("pay", pay).wait_for_signal("ok")
    with_receipt = Workflow("flow").step("pay", pay_with_receipt).wait_for_signal("ok")
    other_signal = Workflow("flow").step("pay", pay).wait_for_signal("ok", "okay")
    for new, said in [(with_receipt, "the value of 'pay'"), (other_signal, "'okay' is what")]:
        (row,) = check_upgrade(old, new, [simulate(old)]).wrong
        assert said in str(row)


def test_a_route_whose_other_branch_is_gone_is_safe_for_those_who_did_not_take_it() -> None:
    old = Workflow("flow").route("r", kind_of, {"express": pay, "slow": pay}).sleep("s", 1)
    new = Workflow("flow").route("r", kind_of, {"express": pay}).sleep("s", 1)
    assert not check_upgrade(old, new).safe
    assert check_upgrade(old, new, [simulate(old)]).safe


def test_policies_may_change_freely_also_those_of_compensators() -> None:
    async def undo(ctx: Ctx) -> None: ...

    def with_policies(retry: Retry, timeout: float, most: int) -> Workflow[Any, Any]:
        work = Undo(undo, retry=retry, timeout=timeout)
        return (
            Workflow("shop")
            .step("pay", pay, retry=retry, timeout=timeout, compensate=work)
            .parallel("both", {"x": pay, "y": Branch(pay, compensate=work)}, max_concurrency=most)
            .step("end", pay)
        )

    old = with_policies(Retry(max_attempts=5, initial=10), 60, 2)
    new = with_policies(Retry(max_attempts=1), 1, 1)
    assert check_upgrade(old, new).safe
    assert check_upgrade(new, old).safe

    sim = simulate(old, None, Faults(Raising(unit="pay", times=3)))
    whole = exported(sim)
    failed = next(n for n, one in enumerate(sim.journal) if one.kind == "attempt_failed")
    waits = attrs.evolve(whole, status="suspended", entries=whole.entries[: failed + 3])
    assert waits.entries[-1].kind == "attempt_failed", "more attempts than the new policy has"
    assert check_upgrade(old, new, [whole, waits]).safe
