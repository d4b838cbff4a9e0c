"""Explore finds nothing where nothing is wrong, and whatever rule is broken it says which."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from durable_core import DurableError, Retry, Workflow
from durable_core.codec import records
from durable_core.engine import mapping
from durable_core.engine.worker.runner import Runner
from durable_core.kernel import decide, ending, fold, saga
from durable_core.kernel.journal import AttemptFailed
from durable_core.kernel.value import Payload
from durable_core.store import CommitVerdict
from durable_core.testing import (
    CounterexampleError,
    Crash,
    Faults,
    Operate,
    Report,
    Signal,
    Simulation,
    SimulationLimitError,
    explore,
    simulate,
    violations,
)
from durable_core.testing.memory import MemoryStore
from durable_core.testing.memory_state import State
from durable_core.testing.points import points_of
from durable_core.testing.surroundings import unheard
from durable_core.workflow.context import StepContext

Ctx = Any
QUICK = Retry(max_attempts=3, initial=1)


class Shop:
    """The world outside."""

    def __init__(self) -> None:
        self.holds: set[str] = set()
        self.charges: dict[str, int] = {}
        self.charged = 0


async def reserve(ctx: Ctx) -> str:
    ctx.deps.holds.add(ctx.unit)
    return str(ctx.unit)


async def release(ctx: Ctx) -> None:
    ctx.deps.holds.discard(ctx.unit)


async def charge(ctx: Ctx) -> int:
    ctx.deps.charges[ctx.idempotency_key] = 10
    return 10


async def refund(ctx: Ctx) -> None:
    ctx.deps.charges.clear()


def quote(ctx: Ctx) -> int:
    return 5


async def charge_without_a_key(ctx: Ctx) -> int:
    ctx.deps.charged += 10
    return 10


checkout = (
    Workflow("checkout")
    .step("reserve", reserve, compensate=release)
    .parallel("check", {"price": quote, "fraud": quote})
    .step("pay", charge, retry=QUICK, compensate=refund)
    .wait_for_signal("approval", "ok", timeout=600)
    .sleep("settle", 3_600)
    .step("receipt", quote)
)

order = (
    Workflow("order")
    .step("reserve", reserve, compensate=release)
    .step("pay", charge, retry=QUICK, compensate=refund)
    .wait_for_signal("approval", "ok", timeout=600)
    .sleep("settle", 60)
    .step("receipt", quote)
)


def no_hold_is_left(sim: Simulation) -> None:
    assert sim.status in ("completed", "failed")
    if sim.status == "failed":
        assert not sim.deps.holds and not sim.deps.charges
    else:
        assert len(sim.deps.charges) == 1


def explored(workflow: Any = checkout, **options: Any) -> Report:
    given: dict[str, Any] = {"deps": Shop, **options}
    if workflow in (checkout, order):
        given.setdefault("signals", {"ok": True})
    return explore(workflow, **given)


# --- nothing is wrong ----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sound_workflow_survives_every_fault_and_pairs_of_crashes() -> None:
    report = explored(crashes=2, sample=150, check=no_hold_is_left)
    report.check()
    assert report.counterexample is None
    assert report.points > 500 and report.schedules > report.points
    assert report.states > 20
    assert {"Crash", "Pause", "StoreError", "Theft", "Stop", "Slow", "SignalAt", "Raising"} <= set(
        report.fired
    )


def test_compensators_and_the_claims_after_crashes_are_explored_too() -> None:
    seen: list[Faults] = []
    explored(order, check=lambda sim: seen.append(sim.plan)).check()
    places = {
        getattr(fault, "unit", None) for plan in seen for fault in plan.faults if len(plan) > 1
    }
    assert {"undo reserve", "undo pay"} & places
    claims = {
        fault.nth
        for plan in seen
        for fault in plan.faults
        if isinstance(fault, Crash) and fault.verb == "claim"
    }
    quiet = simulate(order, None, deps=Shop, signals={"ok": True})
    assert max(claims) > quiet.world.witness.counts["claim"]


def test_the_same_search_twice_is_the_same() -> None:
    first, second = (explored(order, crashes=2, sample=20, seed=3) for _ in range(2))
    assert first == second and str(first) == str(second)


def test_late_and_repeated_signals_change_nothing() -> None:
    waits = Workflow("w").wait_for_signal("a", "go").step("s", quote).wait_for_signal("b", "stop")
    report = explored(waits, signals=[Signal("go", 1), Signal("stop", 2)])
    report.check()
    assert report.fired["SignalAt"] >= 5


def test_a_transaction_that_takes_too_long_fails_by_right() -> None:
    explored(Workflow("t").step("a", quote, transactional=True).step("b", quote)).check()


def test_a_report_is_a_short_table() -> None:
    report = explored(Workflow("one").step("a", quote))
    first, *rows = str(report).splitlines()
    assert first == "one: all as it should be"
    assert [row.split()[0] for row in rows[:4]] == ["points", "schedules", "states", "Crash"]
    assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize("options", [{"crashes": 0}, {"crashes": True}, {"sample": "all"}])
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DurableError, match="must be"):
        explored(**options)


def test_a_workflow_that_never_ends_is_no_counterexample_but_an_error() -> None:
    def spin(ctx: Ctx, value: int) -> int:
        return value

    endless = Workflow("endless").loop(
        "spin", spin, initial=1, until=lambda r, n: False, max_iterations=49_000
    )
    with pytest.raises(SimulationLimitError, match="does the workflow end"):
        explored(endless)


def test_a_run_of_thousands_of_steps_is_refused() -> None:
    def spin(ctx: Ctx, value: int) -> int:
        return value

    long = Workflow("long").loop("spin", spin, initial=1, max_iterations=900)
    with pytest.raises(DurableError, match="smaller input"):
        explored(long)


def test_values_that_are_never_the_same_twice_are_not_compared() -> None:
    def order_number(ctx: Ctx) -> str:
        return f"{ctx.now().isoformat()}" if hasattr(ctx, "now") else str(id(ctx))

    explored(Workflow("stamps").step("number", order_number).step("b", quote)).check()


# --- a mistake of the user's ---------------------------------------------------------------------

careless = Workflow("careless").step("reserve", reserve).step("pay", charge_without_a_key)


def charged_once(sim: Simulation) -> None:
    assert sim.deps.charged == 10


def test_a_double_charge_is_found_with_the_smallest_plan_and_its_story() -> None:
    report = explored(careless, check=charged_once)
    found = report.counterexample
    assert found is not None and len(found.plan) == 1
    with pytest.raises(CounterexampleError) as caught:
        report.check()
    assert isinstance(caught.value, AssertionError) and isinstance(caught.value, DurableError)
    text = str(caught.value)
    assert text.startswith("Your check failed at unit 'pay'")
    assert "charged == 10" in text.splitlines()[0] or "assert" in text
    assert f"The plan:\n  {found.plan!r}" in text
    assert any(line.startswith("  >") for line in text.splitlines()), "the moment is pointed at"
    assert isinstance(caught.value.__cause__, AssertionError)
    again = simulate(careless, None, found.plan, deps=Shop)
    assert again.trace == found.sim.trace
    assert str(report).startswith("careless: fails under Faults(")


def test_a_pair_is_found_where_no_single_crash_shows_it() -> None:
    async def forgives_once(ctx: Ctx) -> int:
        ctx.deps.charged += 1
        return 1

    patient = Workflow("patient").step("pay", forgives_once)

    def at_most_twice(sim: Simulation) -> None:
        assert sim.deps.charged <= 2

    explored(patient, check=at_most_twice, crashes=1).check()
    found = explored(patient, check=at_most_twice, crashes=2).counterexample
    assert found is not None and len(found.plan) == 2


def test_an_effect_that_depends_on_how_often_it_is_called_is_a_result_that_depends() -> None:
    async def counts(ctx: Ctx) -> int:
        ctx.deps.charged += 1
        return int(ctx.deps.charged)

    found = explored(Workflow("counting").step("count", counts)).counterexample
    assert found is not None
    first = found.violations[0]
    assert (first.name, first.unit) == ("I-CRASH", "count")
    assert "expected: unit_completed 1" in str(found) and "found:    unit_completed 2" in str(found)


def test_what_a_dead_handler_would_do_in_its_finally_is_not_seen() -> None:
    async def holds(ctx: Ctx) -> None:
        import asyncio

        ctx.deps.charged += 1
        try:
            await asyncio.sleep(5)
        finally:
            ctx.deps.charged -= 1

    async def brief(ctx: Ctx) -> None:
        ctx.deps.holds.add(ctx.unit)

    both = Workflow("both").parallel("p", {"long": holds, "short": brief})
    sim = simulate(both, None, Faults(Crash(unit="p/short", when="after")), deps=Shop)
    assert sim.status == "completed"
    assert sim.deps.charged == 1, "the dead one's finally ran"


# --- every rule can be seen to be broken ---------------------------------------------------------

Break = Callable[[pytest.MonkeyPatch], None]


def fence_is_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(State, "held", lambda self, run_id, epoch: self.runs.get(run_id))


def renewal_without_a_fence(patch: pytest.MonkeyPatch) -> None:
    renew = MemoryStore.renew

    async def all_of_them(self: MemoryStore, leases: Any, *, lease_ms: int) -> Any:
        result = await renew(self, leases, lease_ms=lease_ms)
        return attrs.evolve(result, lost=frozenset())

    patch.setattr(MemoryStore, "renew", all_of_them)


def claims_while_a_lease_lasts(patch: pytest.MonkeyPatch) -> None:
    claim = State.claim

    def all_of_them(self: State, request: Any, now: int) -> Any:
        for run in self.runs.values():
            if run.owner not in (None, request.worker):
                run.due_at_ms = now
        return claim(self, request, now)

    patch.setattr(State, "claim", all_of_them)


def undone_in_the_order_of_commit(patch: pytest.MonkeyPatch) -> None:
    pending = saga.pending
    patch.setattr(saga, "pending", lambda fold, undos: pending(fold, undos)[::-1])


def one_undo_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    pending = saga.pending
    patch.setattr(saga, "pending", lambda fold, undos: pending(fold, undos)[:-1])


def timers_fire_early(patch: pytest.MonkeyPatch) -> None:
    when_due = decide._when_due

    def early(state: Any, moment: Any, outcome: Any) -> Any:
        due = state.due_at_ms
        state.due_at_ms = None if due is None else due - 5_000
        try:
            return when_due(state, moment, outcome)
        finally:
            state.due_at_ms = due

    patch.setattr(decide, "_when_due", early)


def claims_early(patch: pytest.MonkeyPatch) -> None:
    claim = State.claim
    patch.setattr(State, "claim", lambda self, request, now: claim(self, request, now + 2_000))


def messages_stay_in_the_inbox(patch: pytest.MonkeyPatch) -> None:
    commit_of = mapping.commit_of
    patch.setattr(
        "durable_core.engine.worker.runner.commit_of",
        lambda *args: attrs.evolve(commit_of(*args), consumed=()),
    )


def messages_are_lost(patch: pytest.MonkeyPatch) -> None:
    let_go = State._let_go

    def forget(self: State, run: Any, commit: Any, now: int) -> None:
        if commit.release is not None:
            run.inbox.clear()
        let_go(self, run, commit, now)

    patch.setattr(State, "_let_go", forget)


def wake_ups_are_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("durable_core.testing.memory_state.StoredRun.wake", lambda self, now: None)


def signals_are_not_deduped(patch: pytest.MonkeyPatch) -> None:
    put = State._put

    def anew(self: State, run: Any, message: Any, now: int) -> None:
        put(self, run, message, now)
        run.deduped.clear()

    patch.setattr(State, "_put", anew)


def the_key_changes_with_the_attempt(patch: pytest.MonkeyPatch) -> None:
    key = property(lambda self: f"{self.run_id}:{self.unit}:{self.attempt}")
    patch.setattr(StepContext, "idempotency_key", key)


def values_are_written_loosely(patch: pytest.MonkeyPatch) -> None:
    to_record = records.entry_to_record

    def loosely(entry: Any) -> Any:
        payload = getattr(entry, "payload", None)
        if isinstance(payload, Payload):
            entry = attrs.evolve(entry, payload=Payload(payload.data + b" "))
        return to_record(entry)

    patch.setattr("durable_core.engine.mapping.entry_to_record", loosely)


def handlers_begin_on_an_ended_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Runner, "may_begin", lambda self: not self.closed)


def half_a_commit_is_written(patch: pytest.MonkeyPatch) -> None:
    apply = State._apply

    def half(self: State, commit: Any, now: int) -> CommitVerdict:
        return apply(self, attrs.evolve(commit, entries=commit.entries[:1]), now)

    patch.setattr(State, "_apply", half)


def attempts_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    def forgets(self: Any, state: Any, entry: Any) -> None:
        state.failure, state.due_at_ms = entry.failure, entry.retry_at_ms

    patch.setitem(fold._UNIT_ENTRIES, AttemptFailed, forgets)


BROKEN: list[tuple[Break, str]] = [
    (fence_is_ignored, "I-FENCE"),
    (renewal_without_a_fence, "I-FENCE"),
    (claims_while_a_lease_lasts, "I-FENCE"),
    (undone_in_the_order_of_commit, "I-REVERSE"),
    (one_undo_is_forgotten, "I-REVERSE"),
    (timers_fire_early, "I-TIME"),
    (claims_early, "I-TIME"),
    (messages_stay_in_the_inbox, "I-INBOX"),
    (messages_are_lost, "I-INBOX"),
    (wake_ups_are_lost, "I-LIVE"),
    (signals_are_not_deduped, "I-INBOX"),
    (the_key_changes_with_the_attempt, "I-ONCE"),
    (values_are_written_loosely, "I-VALUE"),
    (handlers_begin_on_an_ended_lease, "I-ONCE"),
    (half_a_commit_is_written, "I-ATOMIC"),
    (attempts_are_not_counted, "I-ONCE"),
]


@pytest.mark.parametrize(("breaks", "name"), BROKEN, ids=[one.__name__ for one, _ in BROKEN])
def test_a_broken_rule_is_found_by_its_name(
    breaks: Break, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        breaks(patch)
        found = explored(order).counterexample
    assert found is not None, "nobody noticed"
    assert name in {violation.name for violation in found.violations}, str(found)
    assert len(found.plan) <= 2
    assert name in str(found)


def test_a_child_that_outlives_its_parent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ship = Workflow("ship").wait_for_signal("courier").step("label", quote)
    family = Workflow("family").child("ship", ship)
    plan = Faults(Operate(what="terminate", nth=1))
    assert not violations(simulate(family, None, plan))
    monkeypatch.setattr(ending.Ender, "_cancel_children", lambda self, draft, mode: None)
    (found,) = violations(simulate(family, None, plan))
    assert (found.name, found.unit) == ("I-LIVE", "ship")
    assert "its parent has ended" in found.sentence


# --- memory --------------------------------------------------------------------------------------


def test_memory_stays_flat_over_many_schedules() -> None:
    with unheard():  # pytest keeps what is logged
        _memory_stays_flat()


def _memory_stays_flat() -> None:
    workflow = Workflow("small").step("a", quote).step("b", charge)

    def play(times: int) -> None:
        quiet = simulate(workflow, None, deps=Shop)
        points = list(points_of(quiet))
        for number in range(times):
            plan = Faults(*points[number % len(points)].faults)
            violations(simulate(workflow, None, plan, deps=Shop), quiet)

    play(100)
    gc.collect()
    tracemalloc.start()
    try:
        play(100)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        play(300)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000, f"{after - before:,} bytes more"


async def charge_twice(ctx: Ctx) -> None:
    ctx.deps.charged += 1


def test_the_plan_that_is_shown_says_nothing_that_is_not_needed() -> None:
    """The first to fail is one of an embedded worker; it fails without as well."""
    flow = Workflow("flow").step("pay", charge_twice)

    def once(sim: Simulation) -> None:
        assert sim.deps.charged == 1

    found = explore(flow, deps=Shop, check=once).counterexample
    assert found is not None and found.plan == Faults(Crash(unit="pay", when="after"))
