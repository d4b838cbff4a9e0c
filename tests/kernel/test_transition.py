"""One run through the kernel: what each kind of step, failure and message comes to."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kernel.worlds import Suspending, World, boom, call, done, program_of

from durable_core.errors import EncodingError, StepFailed
from durable_core.kernel import journal as j
from durable_core.kernel.event import AttemptStopped, AttemptSucceeded, MessageKind
from durable_core.kernel.failure import Failure
from durable_core.kernel.ids import UnitKey
from durable_core.kernel.limits import Limits
from durable_core.kernel.nearness import NEAR_MS, claimable_from, is_claimable, is_near
from durable_core.kernel.outcome import Completed, Ending, Failed, Outcome, Settled, TimedOut, Won
from durable_core.kernel.policy import Retry
from durable_core.kernel.program import Program, UnreadableError
from durable_core.kernel.recorder import Recorder
from durable_core.kernel.run import RunContext, RunStatus
from durable_core.kernel.step import (
    All,
    Ask,
    Call,
    Child,
    ChildSpec,
    First,
    Record,
    Timer,
    Undo,
    Wait,
)
from durable_core.kernel.transition import Held
from durable_core.kernel.value import NULL, Payload

Gen = Generator[Ask, Outcome, Ending]


def must(outcome: Outcome) -> Payload:
    if isinstance(outcome, Failed):
        raise StepFailed("step", outcome.failure)
    assert isinstance(outcome, Completed)
    return outcome.payload


def three(run: RunContext) -> Gen:
    must((yield call("a", undo=True)))
    must((yield call("b", undo=True)))
    return done(must((yield call("c"))))


def test_a_straight_run_of_n_steps_costs_n_commits() -> None:
    world = World(three, {"c": [b"3"]})

    status = world.finish()

    assert status is RunStatus.COMPLETED
    assert world.kinds() == [
        "unit_completed a",
        "unit_completed b",
        "unit_completed c",
        "run_completed",
    ]
    ended = world.journal[-1]
    assert isinstance(ended, j.RunCompleted) and ended.payload == Payload(b"3")


def test_a_failed_attempt_is_retried_after_its_delay_and_counted_across_crashes() -> None:
    retry = Retry(max_attempts=3, initial=2, jitter=0)

    def body(run: RunContext) -> Gen:
        return done(must((yield call("a", retry=retry))))

    world = World(body, {"a": [boom(), boom(), b"1"]})
    first = world.advance().attempts[0]
    transition = world.advance(world.report(first))

    assert transition.release and transition.resume_at_ms == 1_000 + 2_000
    assert [w.kind for w in transition.waiting] == ["retry"]
    world.crash()
    assert world.advance().attempts == ()  # never earlier than its backoff
    assert world.finish() is RunStatus.COMPLETED
    assert world.of_kind(j.AttemptFailed) == ["a", "a"]
    assert world.now_ms == 1_000 + 2_000 + 4_000


def test_max_attempts_counts_the_first_try() -> None:
    for tries in (1, 2, 3):
        policy = Retry(max_attempts=tries, initial=0)

        def body(run: RunContext, policy: Retry = policy) -> Gen:
            return done(must((yield call("a", retry=policy))))

        world = World(body, {"a": [boom()]})
        assert world.finish() is RunStatus.FAILED
        assert world.calls == ["a"] * tries


def test_a_failure_undoes_completed_units_in_reverse_commit_order() -> None:
    world = World(three, {"c": [boom("no")]})

    assert world.finish() is RunStatus.FAILED
    assert world.calls[-2:] == ["undo b", "undo a"]
    ended = world.journal[-1]
    assert isinstance(ended, j.RunFailed)
    assert str(ended.failure) == "ValueError: no"
    world.check()


def test_a_compensation_that_keeps_failing_does_not_stop_the_others() -> None:
    world = World(three, {"c": [boom("no")], "undo b": [boom("stuck")]})

    assert world.finish() is RunStatus.COMPENSATION_FAILED
    ended = world.journal[-1]
    assert isinstance(ended, j.RunFailed) and ended.not_compensated == ("b",)
    assert world.of_kind(j.UnitCompensated) == ["a"]


def test_retry_of_a_failed_run_repeats_what_was_undone_and_what_failed() -> None:
    world = World(three, {"c": [boom(), boom(), boom(), b"3"]})
    assert world.finish() is RunStatus.FAILED
    world.script["c"] = [b"3"]
    world.calls.clear()
    world.deliver(MessageKind.RETRY)

    assert world.finish() is RunStatus.COMPLETED
    assert world.calls == ["a", "b", "c"]
    world.check()


def test_retry_of_a_failed_rollback_repeats_only_the_failed_undos() -> None:
    world = World(three, {"c": [boom()], "undo b": [boom()]})
    assert world.finish() is RunStatus.COMPENSATION_FAILED
    world.script["undo b"] = [b"null"]
    world.calls.clear()
    world.deliver(MessageKind.RETRY)

    assert world.finish() is RunStatus.FAILED
    assert world.calls == ["undo b"]


def fan(run: RunContext) -> Gen:
    settled = yield All(
        steps=(call("p", "x", undo=True), call("p", "y"), call("p", "z", undo=True)),
        max_concurrency=2,
    )
    assert isinstance(settled, Settled)
    for outcome in settled.outcomes:
        must(outcome)
    return done()


def test_parallel_runs_everything_and_reports_the_first_failure_in_declaration_order() -> None:
    world = World(fan, {"p/y": [boom("y")], "p/z": [boom("z")]})
    assert len(world.advance().attempts) == 2  # max_concurrency

    assert world.finish() is RunStatus.FAILED
    ended = world.journal[-1]
    assert isinstance(ended, j.RunFailed) and ended.failure.message == "y"
    assert world.of_kind(j.UnitCompensated) == ["p/x"]


def test_a_completed_entry_is_not_run_again_when_its_sibling_is_retried() -> None:
    world = World(fan, {"p/y": [boom(), b"2"]})

    assert world.finish(crash_before={2}) is RunStatus.COMPLETED
    assert world.calls.count("p/x") == 1


def nap(run: RunContext) -> Gen:
    must((yield Timer(unit=UnitKey.of("nap"), due=lambda now_ms: now_ms + 5_000)))
    return done()


def test_a_sleep_never_fires_early_and_is_never_re_anchored() -> None:
    world = World(nap)
    assert world.advance().resume_at_ms == 6_000
    world.now_ms = 5_999
    assert world.advance().entries == ()
    assert world.last is not None and world.last.resume_at_ms == 6_000
    world.now_ms = 6_000
    assert world.advance().ended


def test_a_run_is_given_up_until_a_little_before_its_moment_and_rests_from_then_on() -> None:
    world = World(nap)
    first = world.advance()
    assert first.release and first.claim_at_ms == 6_000 - NEAR_MS
    world.now_ms = 6_000 - NEAR_MS - 1
    again = world.advance()
    assert again.release and again.claim_at_ms == 6_000 - NEAR_MS
    for world.now_ms in (6_000 - NEAR_MS, 5_999):
        near = world.advance()
        assert not near.writes and near.resume_at_ms == 6_000
    world.now_ms = 6_000
    assert world.advance().ended


@given(resume_at_ms=st.integers(0, 10**15), now_ms=st.integers(0, 10**15))
def test_who_claims_a_run_in_time_finds_its_moment_near(resume_at_ms: int, now_ms: int) -> None:
    at_ms = claimable_from(resume_at_ms, now_ms)
    assert at_ms is not None and resume_at_ms - NEAR_MS <= at_ms <= resume_at_ms
    assert at_ms >= min(resume_at_ms, now_ms), "it would overtake what is due"
    assert at_ms == resume_at_ms or is_near(resume_at_ms, at_ms)
    assert is_claimable(resume_at_ms, at_ms)
    assert not is_claimable(resume_at_ms, resume_at_ms - NEAR_MS - 1)


def test_a_computed_duration_that_cannot_be_used_fails_its_unit() -> None:
    def body(run: RunContext) -> Gen:
        must((yield Timer(unit=UnitKey.of("nap"), due=lambda now_ms: boom("negative"))))
        return done()

    world = World(body)
    assert world.finish() is RunStatus.FAILED
    assert world.kinds()[0] == "unit_failed nap"


def signal(run: RunContext) -> Gen:
    first = yield Wait(unit=UnitKey.of("one"), signal=lambda: "go")
    second = yield Wait(
        unit=UnitKey.of("two"), signal=lambda: "go", timeout_ms=1_000, may_time_out=True
    )
    if isinstance(second, TimedOut):
        return done(Payload(b'"timed out"'))
    return done(Payload(must(first).data + must(second).data))


def test_signals_that_came_early_are_consumed_in_order_of_arrival() -> None:
    world = World(signal)
    world.deliver(MessageKind.SIGNAL, "go", Payload(b"1"))
    world.deliver(MessageKind.SIGNAL, "other", Payload(b"9"))
    world.deliver(MessageKind.SIGNAL, "go", Payload(b"2"))

    assert world.finish() is RunStatus.COMPLETED
    ended = world.journal[-1]
    assert isinstance(ended, j.RunCompleted) and ended.payload == Payload(b"12")
    assert [m.name for m in world.inbox] == ["other"]


def test_a_signal_after_the_time_out_loses_the_race_though_both_are_seen_at_once() -> None:
    world = World(signal)
    world.deliver(MessageKind.SIGNAL, "go", Payload(b"1"))
    world.advance()
    world.now_ms += 1_001
    world.deliver(MessageKind.SIGNAL, "go", Payload(b"2"))

    assert world.finish() is RunStatus.COMPLETED
    assert world.of_kind(j.WaitTimedOut) == ["two"]


def test_a_signal_in_time_wins_though_the_worker_comes_late() -> None:
    world = World(signal)
    world.deliver(MessageKind.SIGNAL, "go", Payload(b"1"))
    world.advance()
    world.now_ms += 1_000
    world.deliver(MessageKind.SIGNAL, "go", Payload(b"2"))
    world.now_ms += 60_000

    assert world.finish() is RunStatus.COMPLETED
    assert world.of_kind(j.SignalConsumed) == ["one", "two"]


def test_an_ill_typed_signal_is_rejected_and_the_wait_goes_on() -> None:
    def body(run: RunContext) -> Gen:
        return done(
            must(
                (
                    yield Wait(
                        unit=UnitKey.of("one"),
                        signal=lambda: "go",
                        accept=lambda p: boom("type") if p.data == b"bad" else None,
                    )
                )
            )
        )

    world = World(body)
    world.deliver(MessageKind.SIGNAL, "go", Payload(b"bad"))
    world.deliver(MessageKind.SIGNAL, "go", Payload(b"1"))
    assert world.finish() is RunStatus.COMPLETED
    assert world.of_kind(j.SignalRejected) == ["one"]
    assert world.inbox == []


def test_a_suspended_unit_is_resumed_once_by_its_token() -> None:
    def body(run: RunContext) -> Gen:
        return done(must((yield call("agent"))))

    world = World(body, {"agent": [Suspending("t1")]})
    assert world.finish() is RunStatus.SUSPENDED
    assert world.last is not None
    assert [(w.kind, w.token) for w in world.last.waiting] == [("resume", "t1")]
    world.deliver(MessageKind.RESUME, payload=Payload(b"7"), token="foreign")
    assert world.finish() is RunStatus.SUSPENDED
    world.deliver(MessageKind.RESUME, payload=Payload(b"7"), token="t1")
    transition = world.advance()
    (attempt,) = transition.attempts
    assert (attempt.snapshot, attempt.data) == (Payload(b'"snapshot"'), Payload(b"7"))
    world.crash()
    assert world.finish() is RunStatus.COMPLETED


def test_a_recorded_value_is_computed_once_and_committed_before_what_follows() -> None:
    computed: list[int] = []

    def body(run: RunContext) -> Gen:
        def compute() -> Payload:
            computed.append(1)
            return Payload(b'"wire"')

        key = must((yield Record(unit=UnitKey.of("pay"), kind="route_decided", compute=compute)))
        return done(must((yield call("pay", key.data.decode().strip('"')))))

    world = World(body)
    first = world.advance()
    assert [e.kind for e in first.entries] == ["route_decided"]
    assert [str(a.key.unit) for a in first.attempts] == ["pay/wire"]
    world.crash()
    assert world.finish() is RunStatus.COMPLETED
    assert len(computed) == 1


def test_the_first_to_end_wins_the_race_and_the_loser_is_cancelled() -> None:
    def body(run: RunContext) -> Gen:
        won = yield First(steps=(call("slow", undo=True), call("fast")))
        assert isinstance(won, Won)
        return done(Payload(str(won.index).encode()))

    world = World(body)
    slow, fast = world.advance().attempts
    transition = world.advance(world.report(fast))
    assert transition.stop == (slow.key,)
    assert not transition.ended  # no end while an attempt is out
    transition = world.advance(AttemptStopped(slow.key))
    assert transition.ended
    assert world.kinds() == ["unit_completed fast", "unit_cancelled slow", "run_completed"]


def timer(name: str, ms: int) -> Timer:
    return Timer(unit=UnitKey.of(name), due=lambda now_ms: now_ms + ms)


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize(
    ("ms", "late_ms", "said", "entries"),
    [
        ((2, 1), 9, False, ["unit_cancelled a", "timer_fired b"]),
        ((1, 2), 9, False, ["timer_fired a", "unit_cancelled b"]),
        ((1, 1), 1, False, ["timer_fired a", "unit_cancelled b"]),
        ((1, 2), 9, True, ["signal_consumed c", "unit_cancelled a", "unit_cancelled b"]),
    ],
)
def test_who_comes_late_to_a_race_finds_the_winner_who_was_first(
    cold: bool, ms: tuple[int, int], late_ms: int, said: bool, entries: list[str]
) -> None:
    """Whether or not the run was in memory meanwhile; of what is over no more is begun."""

    def body(run: RunContext) -> Gen:
        wait = Wait(unit=UnitKey.of("c"), signal=lambda: "go", timeout_ms=None)
        yield First(steps=(timer("a", ms[0]), timer("b", ms[1]), wait))
        return done()

    world = World(body)
    begun = len(world.advance().entries)
    assert not world.advance().release  # claimed, it rests
    assert world.held is not None
    world.now_ms += late_ms
    if cold:
        world.crash()
    if said:
        world.deliver(MessageKind.SIGNAL, "go")
    world.advance()
    told = [told for told in world.kinds()[begun:] if told != "unit_cancelled c"]
    assert sorted(told) == sorted([*entries, "run_completed"])
    assert world.kinds()[begun].split()[0] in ("timer_fired", "signal_consumed")


@pytest.mark.parametrize("cold", [False, True])
def test_what_is_due_at_one_time_is_decided_before_what_comes_of_it(cold: bool) -> None:
    """A timer that is due when it begins, behind two that are due at one time."""

    def body(run: RunContext) -> Gen:
        steps = (timer("a", 1_000), timer("b", 1_000), timer("c", 0))
        yield All(steps=steps, max_concurrency=2)
        return done()

    world = World(body)
    world.keeps = not cold
    world.advance()
    world.now_ms += 1_000
    world.advance()
    assert world.kinds()[2:] == [
        "timer_fired a",
        "timer_fired b",
        "timer_started c",
        "timer_fired c",
        "run_completed",
    ]


@pytest.mark.parametrize("cold", [False, True])
def test_nothing_is_due_because_of_what_is_over(cold: bool) -> None:
    """The time-out of a signal that came in time is none of the run's moments any more."""

    def body(run: RunContext) -> Gen:
        yield Wait(unit=UnitKey.of("a"), signal=lambda: "go", timeout_ms=86_400_000)
        yield Wait(unit=UnitKey.of("b"), signal=lambda: "on", timeout_ms=None)
        return done()

    world = World(body)
    world.keeps = not cold
    assert world.advance().resume_at_ms == world.now_ms + 86_400_000
    world.deliver(MessageKind.SIGNAL, "go")
    transition = world.advance()
    assert transition.release
    assert (transition.resume_at_ms, transition.claim_at_ms) == (None, None)


@pytest.mark.parametrize("cold", [False, True])
def test_branches_that_wait_for_one_signal_are_asked_in_the_order_of_the_program(
    cold: bool,
) -> None:
    """Also after a replay, which comes to what has a time-out first."""

    def body(run: RunContext) -> Gen:
        plain = Wait(unit=UnitKey.of("plain"), signal=lambda: "go", timeout_ms=None)
        timed = Wait(unit=UnitKey.of("timed"), signal=lambda: "go", timeout_ms=60_000)
        yield First(steps=(plain, timed))
        return done()

    world = World(body)
    world.keeps = not cold
    world.advance()
    world.crash()
    world.advance()  # replayed without the message
    world.deliver(MessageKind.SIGNAL, "go")
    world.advance()
    assert "signal_consumed plain" in world.kinds()


def test_a_late_success_of_the_loser_is_recorded_and_replay_keeps_the_winner() -> None:
    def body(run: RunContext) -> Gen:
        won = yield First(steps=(call("slow"), call("fast")))
        assert isinstance(won, Won)
        must((yield call("next")))
        return done(Payload(str(won.index).encode()))

    world = World(body)
    slow, fast = world.advance().attempts
    world.advance(world.report(fast))
    world.advance(AttemptSucceeded(slow.key, NULL))
    world.crash()
    assert world.finish() is RunStatus.COMPLETED
    ended = world.journal[-1]
    assert isinstance(ended, j.RunCompleted) and ended.payload == Payload(b"1")


def parent(run: RunContext) -> Gen:
    must((yield call("a", undo=True)))
    spec = ChildSpec(workflow="c", version="1", fingerprint="f", input=NULL, digest="d")
    result = must((yield Child(unit=UnitKey.of("kid"), begin=lambda: spec, undo=Undo(child=True))))
    must((yield call("z")))
    return done(result)


def test_the_childs_end_reaches_exactly_its_wait() -> None:
    world = World(parent)
    world.finish()
    (entry,) = [e for e in world.journal if isinstance(e, j.ChildStarted)]
    world.deliver(MessageKind.CHILD_ENDED, "kid", Payload(b"0"), child_id="another")
    assert world.finish() is RunStatus.SUSPENDED
    assert world.inbox == []
    world.deliver(MessageKind.CHILD_ENDED, "kid", Payload(b"5"), child_id=entry.child_id)
    assert world.finish() is RunStatus.COMPLETED
    ended = world.journal[-1]
    assert isinstance(ended, j.RunCompleted) and ended.payload == Payload(b"5")


def test_a_completed_child_is_rolled_back_as_a_unit_by_a_message() -> None:
    world = World(parent, {"z": [boom()]})
    world.finish()
    (entry,) = [e for e in world.journal if isinstance(e, j.ChildStarted)]
    world.deliver(MessageKind.CHILD_ENDED, "kid", Payload(b"5"), child_id=entry.child_id)
    assert world.finish() is RunStatus.COMPENSATING
    (rollback,) = world.sent
    assert (rollback.kind, rollback.run_id, rollback.reopens) == (
        MessageKind.ROLLBACK,
        entry.child_id,
        True,
    )
    assert "undo a" not in world.calls
    world.deliver(MessageKind.CHILD_UNDONE, "kid", child_id=entry.child_id)
    assert world.finish() is RunStatus.FAILED
    assert world.of_kind(j.UnitCompensated) == ["kid", "a"]


def test_a_child_that_is_asked_to_roll_back_opens_a_generation_and_tells_its_parent() -> None:
    world = World(three, parent_id="p", parent_unit="kid")
    assert world.finish() is RunStatus.COMPLETED
    assert [m.kind for m in world.sent] == [MessageKind.CHILD_ENDED]
    world.deliver(MessageKind.ROLLBACK)
    assert world.finish() is RunStatus.CANCELLED
    assert world.calls[-2:] == ["undo b", "undo a"]
    assert [m.kind for m in world.sent] == [MessageKind.CHILD_ENDED, MessageKind.CHILD_UNDONE]
    assert world.last is not None and world.last.generation == 2


def test_cancel_stops_attempts_waits_for_them_and_undoes_a_late_success() -> None:
    world = World(three)
    world.advance(world.report(world.advance().attempts[0]))
    world.deliver(MessageKind.CANCEL, mode="compensate", reason="enough")
    (b,) = [one.key for one in world.held._in_flight] if world.held else []
    transition = world.advance()
    assert transition.stop == (b,)
    assert not transition.ended
    transition = world.advance(AttemptSucceeded(b, NULL))
    assert [str(a.key.unit) for a in transition.attempts] == ["b"]
    assert world.finish() is RunStatus.CANCELLED
    assert world.of_kind(j.UnitCompensated) == ["b", "a"]


def test_terminate_undoes_nothing_and_lists_what_was_not_undone() -> None:
    world = World(nap_after_a)
    world.finish_until_suspended()
    world.deliver(MessageKind.CANCEL, mode="terminate")
    assert world.advance().ended
    ended = world.journal[-1]
    assert isinstance(ended, j.RunCancelled) and ended.not_compensated == ("a",)


def nap_after_a(run: RunContext) -> Gen:
    must((yield call("a", undo=True)))
    must((yield Timer(unit=UnitKey.of("nap"), due=lambda now_ms: now_ms + 5_000)))
    return done()


def test_terminate_and_pause_need_no_definition() -> None:
    world = World(nap_after_a)
    world.finish_until_suspended()
    world.body = None  # type: ignore[assignment]
    world.deliver(MessageKind.PAUSE)
    transition = world.advance()
    assert transition.waiting[0].reason == "paused"
    world.deliver(MessageKind.CANCEL, mode="terminate")
    assert world.advance().ended


def test_a_paused_run_starts_nothing_and_its_timers_go_on() -> None:
    world = World(nap_then_b)
    world.advance()
    world.deliver(MessageKind.PAUSE)
    assert world.advance().resume_at_ms is None
    world.now_ms += 60_000
    assert world.advance().attempts == ()
    world.deliver(MessageKind.UNPAUSE)
    assert [str(a.key.unit) for a in world.advance().attempts] == ["b"]


def nap_then_b(run: RunContext) -> Gen:
    must((yield Timer(unit=UnitKey.of("nap"), due=lambda now_ms: now_ms + 5_000)))
    must((yield call("b")))
    return done()


def test_a_deadline_fails_the_run_and_rolls_it_back() -> None:
    world = World(nap_after_a, deadline_ms=3_000)
    assert world.finish() is RunStatus.FAILED
    assert world.now_ms == 3_000
    ended = world.journal[-1]
    assert isinstance(ended, j.RunFailed) and ended.failure.type == "DeadlineExceeded"
    assert world.of_kind(j.UnitCompensated) == ["a"]


def test_a_run_that_keeps_killing_workers_is_held_before_any_user_code_runs() -> None:
    started: list[str] = []

    def body(run: RunContext) -> Gen:
        started.append(run.run_id)
        yield call("a")
        return done()

    world = World(body, deaths=5)
    transition = world.advance()
    assert transition.release and transition.resume_at_ms is None
    assert [w.reason for w in transition.waiting] == ["poisoned"]
    assert started == []
    world.body = three
    world.deliver(MessageKind.RETRY)
    assert world.finish() is RunStatus.COMPLETED


def test_a_program_that_no_longer_asks_for_a_recorded_unit_parks_the_run() -> None:
    world = World(nap_after_a)
    world.finish_until_suspended()
    world.body = nap
    transition = world.advance()
    assert transition.release and not transition.attempts
    assert transition.waiting[0].reason == "definition_changed"
    world.body = nap_after_a
    assert world.finish() is RunStatus.COMPLETED


def test_a_program_that_asks_for_another_kind_at_a_recorded_unit_parks_the_run() -> None:
    def body(run: RunContext) -> Gen:
        must((yield call("a", undo=True)))
        must((yield call("nap")))
        return done()

    world = World(nap_after_a)
    world.finish_until_suspended()
    world.body = body
    assert world.advance().waiting[0].reason == "definition_changed"


def renamed(run: RunContext) -> Gen:
    must((yield call("other")))
    must((yield Timer(unit=UnitKey.of("nap"), due=lambda now_ms: now_ms + 10)))
    return done()


def misfit(**facts: Any) -> World:
    """A run that sleeps behind its first unit, under code that does not ask for that."""
    world = World(nap_after_a, **facts)
    world.finish_until_suspended()
    world.crash()
    world.body = renamed
    return world


@pytest.mark.parametrize("parked_before", [False, True])
def test_a_run_that_does_not_fit_is_terminated_and_paused_all_the_same(parked_before: bool) -> None:
    world = misfit()
    if parked_before:
        world.advance()
        world.crash()
    world.deliver(MessageKind.PAUSE)
    transition = world.advance()
    assert [w.reason for w in transition.waiting][:2] == ["definition_changed", "paused"]
    world.crash()
    world.deliver(MessageKind.CANCEL, mode="terminate")
    assert world.advance().ended and world.status is RunStatus.CANCELLED
    assert world.inbox == []


def test_a_run_that_does_not_fit_is_tried_again_and_records_that_once() -> None:
    """By ever longer pauses, at least once an hour; its other messages wait in the inbox."""
    world = misfit()
    world.deliver(MessageKind.SIGNAL, "go")
    pauses = []
    for _ in range(20):
        transition = world.advance()
        assert transition.release and transition.resume_at_ms is not None
        pauses.append(transition.resume_at_ms - world.now_ms)
        world.now_ms = transition.resume_at_ms
        world.crash()
    assert pauses[:3] == [1_000, 1_000, 2_000] and pauses[-1] == 3_600_000
    assert pauses == sorted(pauses)
    world.deliver(MessageKind.RETRY)
    world.advance()
    assert [message.kind for message in world.inbox] == [MessageKind.SIGNAL]
    assert world.kinds().count("run_parked") == 1
    world.crash()
    world.body = nap_after_a
    assert world.finish() is RunStatus.COMPLETED


def test_reports_are_recorded_where_the_first_of_them_shows_that_the_run_does_not_fit() -> None:
    """Else the second handler would be called again, and its run never be given up."""

    def body(run: RunContext) -> Gen:
        yield First(steps=(call("a"), call("b")))
        yield call("a")  # asked for once already
        return done()

    world = World(body)
    first, second = world.advance().attempts
    transition = world.advance(world.report(first), world.report(second))
    assert world.kinds() == ["unit_completed a", "unit_completed b", "run_parked"]
    assert transition.release and transition.waiting[0].reason == "definition_changed"


def test_a_parked_run_that_kills_its_workers_is_poisoned() -> None:
    world = misfit()
    world.advance()
    world.crash()
    world.run = attrs.evolve(world.run, deaths=5)
    world.body = nap_after_a
    assert world.advance().waiting[0].reason == "poisoned"


def test_an_error_of_our_own_parks_nothing() -> None:
    """A transition that broke off within an entry must not be committed, whatever it is about."""

    def broken(run: RunContext, recorder: Recorder) -> Program:
        raise EncodingError("the journal is corrupt")

    with pytest.raises(EncodingError):
        Held(World(three).run, broken, World(three).journal).advance([], 0)


def test_other_code_and_another_codec_in_turns_record_one_parking() -> None:
    world = misfit()
    world.advance()

    def unreadable(run: RunContext, recorder: Recorder) -> Program:
        raise UnreadableError("written with another codec")

    for program in (unreadable, program_of(renamed), unreadable):
        transition = Held(world.run, program, world.journal).advance([], world.now_ms)
        assert not transition.entries and transition.resume_at_ms is not None


@pytest.mark.parametrize(
    ("kind", "script", "before", "after"),
    [
        (MessageKind.RETRY, {"c": [boom()]}, RunStatus.FAILED, RunStatus.COMPLETED),
        (MessageKind.ROLLBACK, {}, RunStatus.COMPLETED, RunStatus.CANCELLED),
        (
            MessageKind.RETRY,
            {"c": [boom()], "undo a": [boom()]},
            RunStatus.COMPENSATION_FAILED,
            RunStatus.FAILED,
        ),
    ],
)
def test_an_ended_run_that_is_opened_by_a_message_is_parked_where_it_does_not_fit(
    kind: str, script: dict[str, Any], before: RunStatus, after: RunStatus
) -> None:
    """Else whoever asked for it would be told that it is done, and nothing would be; and what the
    other code does not ask for would not be undone."""
    world = World(three, script)
    assert world.finish() is before
    world.script.clear()
    undone = world.of_kind(j.UnitCompensated)
    world.body = renamed
    world.deliver(kind)
    for _ in range(3 if before is not RunStatus.FAILED else 1):
        world.crash()
        transition = world.advance()
        assert not transition.ended and not transition.attempts
        assert transition.waiting[0].reason == "definition_changed"
        world.now_ms += 10_000
    world.crash()
    world.body = three
    assert world.finish() is after
    assert sorted(world.of_kind(j.UnitCompensated)) == ["a", "b"]
    assert len(undone) == {RunStatus.FAILED: 2, RunStatus.COMPENSATION_FAILED: 1}.get(before, 0)
    world.check()


def test_a_message_that_does_not_open_an_ended_run_leaves_it_as_it_is() -> None:
    world = World(three)
    assert world.finish() is RunStatus.COMPLETED
    length = len(world.journal)
    world.crash()
    world.body = renamed
    world.deliver(MessageKind.RETRY)
    assert world.advance().ended and len(world.journal) == length


def test_the_unit_limit_fails_the_unit_that_would_pass_it() -> None:
    world = World(three, limits=Limits(units=2))
    assert world.finish() is RunStatus.FAILED
    ended = world.journal[-1]
    assert isinstance(ended, j.RunFailed) and ended.failure.type == "LimitExceededError"
    assert world.of_kind(j.UnitCompensated) == ["b", "a"]


def test_a_verdict_is_recorded_with_its_result_and_never_taken_again() -> None:
    asked: list[bytes] = []

    def body(run: RunContext) -> Gen:
        def verdict(payload: Payload) -> Payload | Failure:
            asked.append(payload.data)
            return Payload(b'"stop"')

        step: Call = call("loop", "0", conclude=verdict)
        outcome = yield step
        assert isinstance(outcome, Completed) and outcome.verdict == Payload(b'"stop"')
        must((yield call("after")))
        return done()

    world = World(body)
    assert world.finish(crash_before={1, 2}) is RunStatus.COMPLETED
    assert len(asked) == 1


@pytest.mark.parametrize("lost", range(8))
def test_a_lost_commit_changes_nothing(lost: int) -> None:
    plain = World(three, {"b": [boom(), b"2"], "c": [boom()]})
    plain.finish()
    world = World(three, {"b": [boom(), b"2"], "c": [boom()]})
    world.lose_commit(lost)
    assert world.finish() is plain.status
    assert [e.kind for e in world.journal] == [e.kind for e in plain.journal]


def test_a_child_is_told_to_terminate_once_while_an_attempt_is_waited_for() -> None:
    def body(run: RunContext) -> Gen:
        spec = ChildSpec(workflow="c", version="1", fingerprint="f", input=NULL, digest="d")
        yield All(steps=(Child(unit=UnitKey.of("kid"), begin=lambda: spec), call("a"), call("b")))
        return done()

    world = World(body)
    a, b = world.advance().attempts
    world.deliver(MessageKind.CANCEL, mode="terminate")
    world.advance()
    world.advance(AttemptStopped(a.key))
    assert world.advance(AttemptStopped(b.key)).ended
    assert [m.kind for m in world.sent] == [MessageKind.CANCEL]
