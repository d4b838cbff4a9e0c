"""Every state of a run has a sentence that says who must act."""

from __future__ import annotations

import pytest

from durable_core.kernel.explain import explain
from durable_core.kernel.failure import Failure
from durable_core.kernel.run import RunStatus, Waiting


def sentence(
    status: RunStatus, *waits: Waiting, owner: str | None = None, due: int | None = None
) -> str:
    return str(
        explain(
            run_id="order-17",
            workflow="checkout",
            status=status,
            waits=waits,
            failure=Failure(type="ValueError", message="boom"),
            now_ms=100_000,
            since_ms=40_000,
            owner=owner,
            due_at_ms=due,
        )
    )


@pytest.mark.parametrize(
    ("wait", "says"),
    [
        (Waiting(kind="timer", unit="nap", since_ms=0, until_ms=160_000), "for 1 minute more"),
        (Waiting(kind="signal", unit="ok", since_ms=0, name="go"), "whoever sends it must act"),
        (Waiting(kind="child", unit="kid", since_ms=0, name="c1"), "child run 'c1'"),
        (Waiting(kind="resume", unit="agent", since_ms=0, token="t"), "holds the token must act"),
        (Waiting(kind="retry", unit="pay", since_ms=0, until_ms=101_000, reason="E: x"), "retries"),
        (Waiting(kind="operator", unit=None, since_ms=0, reason="paused"), "operator must act"),
    ],
)
def test_a_wait_is_said_with_its_producer(wait: Waiting, says: str) -> None:
    text = sentence(RunStatus.SUSPENDED, wait)
    assert (says in text and "order-17" in text and "1.7 minutes" in text) or says in text


@pytest.mark.parametrize("status", RunStatus)
def test_every_status_has_a_sentence(status: RunStatus) -> None:
    text = sentence(status)
    assert text.endswith(".") and "checkout" in text


def test_a_held_run_names_its_worker_and_an_overdue_one_what_is_missing() -> None:
    assert "worker 'w1'" in sentence(RunStatus.RUNNING, owner="w1", due=130_000)
    assert "needs a worker" in sentence(RunStatus.PENDING, due=40_000)


def test_an_overdue_wait_says_that_a_worker_is_missing_and_a_parked_run_who_must_act() -> None:
    nap = Waiting(kind="timer", unit="nap", since_ms=0, until_ms=97_300)
    said = sentence(RunStatus.SUSPENDED, nap, due=97_300)
    assert "sleeps in 'nap'" in said and "ready for 2.7 s: it needs a worker" in said
    assert "needs a worker" not in sentence(RunStatus.SUSPENDED, nap, due=99_900)
    changed = Waiting(kind="operator", unit=None, since_ms=0, reason="definition_changed")
    said = sentence(RunStatus.SUSPENDED, changed, due=40_000)
    assert "a worker that fits, or an operator, must act" in said and "ready" not in said


def test_a_failed_run_does_not_claim_that_all_of_it_was_undone() -> None:
    assert "whatever of it has a compensator was undone" in sentence(RunStatus.FAILED)
