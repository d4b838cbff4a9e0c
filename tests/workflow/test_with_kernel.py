"""Workflow and kernel together: definitions run on the real kernel, warm and cold."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.workflow.driver import CODEC, call_it

from durable_core.codec.failure import failure_from_exception
from durable_core.codec.layers import ZlibLayer
from durable_core.codec.payload import Codec, JsonCodec
from durable_core.codec.records import entry_from_record, entry_to_record
from durable_core.kernel.event import (
    AttemptFailed,
    AttemptSucceeded,
    AttemptSuspended,
    Event,
    MessageArrived,
    MessageKind,
)
from durable_core.kernel.invariants import check_journal
from durable_core.kernel.journal import Journal, RunCompleted
from durable_core.kernel.outcome import Attempt, Transition
from durable_core.kernel.policy import Retry
from durable_core.kernel.run import RunContext, RunStatus
from durable_core.kernel.transition import Held
from durable_core.kernel.value import NULL
from durable_core.workflow import (
    Lowering,
    Registry,
    StepContext,
    Suspend,
    Undo,
    Workflow,
    result_of_run,
)

Context = StepContext[Any, Any]
QUICK = Retry(max_attempts=2, initial=0, jitter=0)


class Engine:
    """The smallest engine: one run, in memory; ``cold`` forgets the cursor after each advance."""

    def __init__(
        self,
        workflow: Workflow[Any, Any],
        input: Any = None,
        *,
        cold: bool,
        codec: Codec = CODEC,
    ) -> None:
        self.workflow = workflow
        self.codec = codec
        self.cold = cold
        self.now_ms = 1_000
        self.run = RunContext(
            run_id="run-1",
            workflow=workflow.name,
            version=workflow.version,
            fingerprint=workflow.fingerprint,
            input=self.codec.encode(input, workflow.input_type),
        )
        self.program = workflow.program(Lowering(codec=self.codec, registry=Registry([workflow])))
        self.held = Held(self.run, self.program, Journal())
        self.calls: list[str] = []
        self.messages: list[MessageArrived] = []
        self.status = RunStatus.PENDING
        self.token = ""

    @property
    def journal(self) -> Journal:
        return self.held.journal

    def go(self, *events: Event) -> Engine:
        """Advance until there is nothing to do."""
        todo: list[Event] = [*self.messages, *events]
        while True:
            transition = self._advance(todo)
            if not transition.attempts:
                return self
            todo = [self._call(attempt) for attempt in transition.attempts]
            if self.cold:
                todo = self._one_by_one(todo)

    def _advance(self, events: list[Event]) -> Transition:
        transition = self.held.advance(events, self.now_ms)
        self.status = transition.status
        self.messages = [m for m in self.messages if m.seq not in transition.consumed]
        if transition.tokens_opened:
            (self.token,) = transition.tokens_opened
        return transition

    def _one_by_one(self, events: list[Event]) -> list[Event]:
        """Commit all but the last; then a crash: another worker begins from the journal."""
        for event in events:
            self._advance([event])
        self.held = Held(self.run, self.program, self.journal)
        return []

    def _call(self, attempt: Attempt) -> Event:
        self.calls.append(("undo " if attempt.key.compensating else "") + str(attempt.key.unit))
        scope: Any = attempt.scope
        invocation = scope.prepare(attempt, deps=None)
        try:
            value = call_it(invocation)
        except Exception as error:
            return AttemptFailed(
                attempt.key, failure_from_exception(error), attempt.retryable(error)
            )
        if isinstance(value, Suspend):
            return AttemptSuspended(attempt.key, self.codec.encode(value.snapshot), "token-1")
        if not invocation.keeps_result:
            return AttemptSucceeded(attempt.key, NULL)
        return AttemptSucceeded(attempt.key, self.codec.encode(value, invocation.result_type))

    @property
    def stands(self) -> str:
        """Its status, in a word."""
        return self.status.value

    def signal(self, name: str, value: Any) -> None:
        seq = len(self.journal) + 100
        self.messages.append(
            MessageArrived(
                seq=seq,
                kind=MessageKind.SIGNAL,
                name=name,
                at_ms=self.now_ms,
                payload=self.codec.encode(value),
            )
        )

    @property
    def kinds(self) -> list[str]:
        return [f"{entry.kind} {entry.unit}".strip() for entry in self.journal]

    @property
    def result(self) -> Any:
        check_journal("run-1", self.journal)
        return result_of_run(
            self.journal,
            self.codec,
            result_type=self.workflow.result_type,
            type_of=self.workflow.unit_type,
        )


either = pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])


def one(ctx: Context) -> int:
    return 1


def undo(ctx: Context) -> None: ...


def boom(ctx: Context) -> int:
    raise ValueError("boom")


@either
def test_a_whole_workflow(cold: bool) -> None:
    def poll(ctx: Context, value: int) -> dict[str, Any]:
        return {"cursor": value + 1, "done": value >= 2}

    decided: list[str] = []

    def choose(ctx: Context) -> str:
        decided.append("once")
        return "wire" if ctx.results["price"] > 10 else "card"

    workflow = (
        Workflow("checkout", input=list[int])
        .step("reserve", lambda ctx: sum(ctx.input))
        .parallel("check", {"price": lambda ctx: 12, "fraud": one}, max_concurrency=1)
        .map("pick", lambda ctx: ctx.input, lambda ctx: ctx.item * 2)
        .route("pay", choose, {"wire": lambda ctx: "wired", "card": one})
        .loop(
            "track",
            poll,
            initial=0,
            until=lambda result, n: result["done"],
            feedback=lambda result: result["cursor"],
        )
        .wait_for_signal("approval", "risk.approved", type=bool)
        .sleep("settle", timedelta(hours=1))
        .step("last", lambda ctx: [ctx.results["pay"], ctx.signal("risk.approved")])
    )
    run = Engine(workflow, [1, 2], cold=cold).go()
    assert run.stands == "suspended"
    run.signal("risk.approved", "not a bool")
    run.signal("risk.approved", True)
    run.go()
    assert run.stands == "suspended"
    run.now_ms += 3_600_000
    run.go()
    assert run.stands == "completed"
    assert run.result == {
        "reserve": 3,
        "check": {"price": 12, "fraud": 1},
        "pick": [2, 4],
        "pay": "wired",
        "track": {"cursor": 3, "done": True},
        "approval": True,
        "last": ["wired", True],
    }
    assert decided == ["once"]
    assert "signal_rejected approval" in run.kinds
    last = run.journal[-1]
    assert isinstance(last, RunCompleted)
    assert last.payload is None


@either
def test_a_rollback_undoes_every_committed_unit_in_reverse(cold: bool) -> None:  # S23, W7, W9, W11
    def flaky(ctx: Context) -> int:
        if ctx.index == 1:
            raise ValueError("item 1")
        return 1

    undone: list[Any] = []

    def note(ctx: Context) -> None:
        undone.append((ctx.unit, ctx.value))

    workflow = (
        Workflow("w")
        .step("a", lambda ctx: "a", compensate=note)
        .loop("l", lambda ctx: ctx.iteration, max_iterations=2, compensate=note)
        .map("m", lambda ctx: [0, 1, 2], flaky, retry=QUICK, compensate=Undo(note, timeout=3))
        .step("never", one, compensate=note)
    )
    run = Engine(workflow, cold=cold).go()
    assert run.stands == "failed"
    assert undone == [("m/2", 1), ("m/0", 1), ("l/1", 1), ("l/0", 0), ("a", "a")]
    assert str(run.journal[-1].failure) == "ValueError: item 1"
    assert run.calls.count("m/1") == 2


@either
def test_a_mistaken_verdict_counts_the_iteration_as_done_and_undoes_it(cold: bool) -> None:
    workflow = Workflow("w").loop(
        "l", one, until=lambda result, n: n == 1 / 0, compensate=undo, retry=QUICK
    )
    run = Engine(workflow, cold=cold).go()
    assert run.calls == ["l/0", "undo l/0"]
    assert str(run.journal[-1].failure) == "ZeroDivisionError: division by zero"


@either
def test_a_suspended_unit_goes_on_with_its_snapshot(cold: bool) -> None:  # S20
    def agent(ctx: Context) -> Suspend | str:
        if ctx.resumption is None:
            return Suspend({"turn": 1})
        return f"{ctx.resumption.snapshot['turn']} {ctx.resumption.data}"

    run = Engine(Workflow("w").parallel("p", {"agent": agent, "other": one}), cold=cold).go()
    assert run.stands == "suspended"
    resume = MessageArrived(
        seq=50,
        kind=MessageKind.RESUME,
        name="",
        at_ms=run.now_ms,
        payload=CODEC.encode("yes"),
        facts={"token": run.token},
    )
    run.go(resume)
    assert run.result == {"p": {"agent": "1 yes", "other": 1}}
    assert run.calls.count("p/other") == 1


@either
def test_a_changed_definition_is_parked_not_guessed(cold: bool) -> None:
    before = Workflow("w").step("a", one).wait_for_signal("s")
    run = Engine(before, cold=cold).go()
    after = Workflow("w").step("b", one).wait_for_signal("s")
    program = after.program(Lowering(codec=CODEC, registry=Registry([after])))
    held = Held(run.run, program, run.journal)
    transition = held.advance([], run.now_ms)
    assert [waiting.reason for waiting in transition.waiting if waiting.kind == "operator"] == [
        "definition_changed"
    ]


def test_verdicts_and_views_survive_the_store() -> None:
    """A journal that was written and read is the same to a program, also through byte layers."""
    codec = JsonCodec() | ZlibLayer()
    workflow = (
        Workflow("w")
        .loop("same", one, max_iterations=2)
        .loop("next", lambda ctx, value: value, initial=1, feedback=lambda r: r + 1, collect=True,
              until=lambda result: result == 3)
        .route("r", lambda ctx: "k", {"k": one})
        .map("m", lambda ctx: ["a"], lambda ctx: ctx.item)
    )  # fmt: skip
    run = Engine(workflow, cold=False, codec=codec).go()
    assert run.result == {"same": 1, "next": [1, 2, 3], "r": 1, "m": ["a"]}
    stored = [entry_from_record(entry_to_record(entry)) for entry in run.journal]
    assert stored == list(run.journal)
    cut = Journal(stored[:-1])
    transition = Held(run.run, run.program, cut).advance([], run.now_ms)
    assert transition.ended
    assert list(transition.entries) == stored[-1:]
