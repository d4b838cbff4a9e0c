"""Retry, durations, ids and the journal's views."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_core.errors import DefinitionError, TerminalError
from durable_core.kernel import journal as j
from durable_core.kernel.failure import Failure, failure_from_plain, failure_to_plain
from durable_core.kernel.ids import RUN_UNIT, UnitKey, child_run_id, idempotency_key
from durable_core.kernel.journal import Journal
from durable_core.kernel.limits import Limits
from durable_core.kernel.policy import Retry, duration_ms

retries = st.builds(
    Retry,
    max_attempts=st.integers(1, 100),
    initial=st.floats(0, 1000),
    factor=st.floats(1, 10),
    max_delay=st.floats(0, 10_000),
    jitter=st.floats(0, 1),
    backoff=st.sampled_from(["exponential", "linear"]),
)


@given(retries, st.integers(1, 10_000), st.text())
def test_a_delay_is_never_below_its_backoff_and_never_above_the_cap_and_its_jitter(
    retry: Retry, attempt: int, seed: str
) -> None:
    delay = retry.delay_ms(attempt, seed)
    cap = retry.max_delay / timedelta(milliseconds=1)
    first = min(retry.initial / timedelta(milliseconds=1), cap)
    assert math.floor(first) <= delay <= math.ceil(cap * (1 + retry.jitter)) + 1
    assert delay == retry.delay_ms(attempt, seed)


def test_delays_grow_by_the_factor_up_to_the_cap() -> None:
    retry = Retry(initial=1, factor=2, max_delay=5, jitter=0)
    assert [retry.delay_ms(n, "s") for n in range(1, 6)] == [1000, 2000, 4000, 5000, 5000]
    linear = Retry.linear(step=5, jitter=0)
    assert [linear.delay_ms(n, "s") for n in (1, 2, 20)] == [5000, 10_000, 60_000]


def test_what_is_worth_another_attempt() -> None:
    retry = Retry(on=(ValueError, OSError), give_up_on=(UnicodeError,))
    assert retry.retryable(ValueError())
    assert retry.retryable(FileNotFoundError())
    assert not retry.retryable(KeyError())
    assert not retry.retryable(UnicodeDecodeError("utf-8", b"", 0, 0, ""))
    assert not Retry().retryable(TerminalError("no"))
    assert Retry(on=lambda error: "again" in str(error)).retryable(ValueError("again"))


@pytest.mark.parametrize(
    "fields",
    [
        {"max_attempts": 0},
        {"max_attempts": True},
        {"max_attempts": 1.5},
        {"initial": -1},
        {"initial": math.nan},
        {"initial": "1 s"},
        {"factor": 0.5},
        {"factor": math.inf},
        {"max_delay": math.inf},
        {"jitter": 2},
        {"on": (1,)},
        {"give_up_on": ("ValueError",)},
        {"backoff": "cubic"},
    ],
)
def test_a_wrong_policy_is_refused_by_name(fields: dict[str, object]) -> None:
    with pytest.raises(DefinitionError, match=next(iter(fields))):
        Retry(**fields)  # type: ignore[arg-type]


@given(st.integers(0, 10**12))
def test_durations_are_milliseconds_rounded_up(ms: int) -> None:
    assert duration_ms(timedelta(milliseconds=ms), what="d") == ms
    assert duration_ms(timedelta(milliseconds=ms, microseconds=1), what="d") == ms + 1


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, 10**15, "1", None, True])
def test_a_wrong_duration_is_refused(value: object) -> None:
    with pytest.raises(DefinitionError, match="the pause"):
        duration_ms(value, what="the pause")  # type: ignore[arg-type]


def test_limits_are_positive_whole_numbers_and_durations() -> None:
    for bad in (0, -1, True, 1.5, "1"):
        with pytest.raises(DefinitionError, match="units"):
            Limits(units=bad)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="cancel_grace"):
        Limits(cancel_grace=timedelta(seconds=-1))


segments = st.text(min_size=1).filter(lambda text: "/" not in text)


@given(st.lists(segments, max_size=4))
def test_a_unit_key_parses_back_from_its_path(path: list[str]) -> None:
    key = UnitKey(path)
    assert UnitKey.parse(str(key)) == key
    assert key.step == (path[0] if path else None)


def test_keys_tell_generations_and_compensations_apart() -> None:
    unit = UnitKey.of("pick", 3)
    keys = {
        idempotency_key("r", 1, unit),
        idempotency_key("r", 2, unit),
        idempotency_key("r", 1, unit, compensating=True),
        idempotency_key("r", 1, UnitKey.of("pick", 30)),
    }
    assert len(keys) == 4
    assert child_run_id("r", 7, 1, unit) == child_run_id("r", 7, 1, unit)
    assert child_run_id("r", 7, 1, unit) != child_run_id("r", 7, 2, unit)
    assert child_run_id("r", 7, 1, unit) != child_run_id("r", 8, 1, unit)


failures = st.recursive(
    st.builds(Failure, type=st.text(), message=st.text(), traceback=st.none() | st.text()),
    lambda inner: st.builds(Failure, type=st.text(), message=st.text(), cause=inner),
    max_leaves=4,
)


@given(failures)
def test_a_failure_survives_as_plain_data(failure: Failure) -> None:
    assert failure_from_plain(failure_to_plain(failure)) == failure
    assert str(failure) == f"{failure.type}: {failure.message}"


def entry(seq: int) -> j.Entry:
    return j.TimerFired(unit=RUN_UNIT, seq=seq)


def test_an_extended_journal_shares_its_log_and_the_old_view_stays_as_it_was() -> None:
    first = Journal([entry(1)])
    second = first.extend([entry(2)])
    branch = first.extend([entry(20)])

    assert [e.seq for e in first] == [1]
    assert [e.seq for e in second] == [1, 2]
    assert [e.seq for e in branch] == [1, 20]
    assert second[-1].seq == 2 and second[:1] == [entry(1)]
    with pytest.raises(IndexError):
        first[1]
