"""Workers that come at one moment spread out, and come on time again afterwards."""

from __future__ import annotations

from durable_core.engine.worker.crowding import FIRST_S, LONGEST_S, Crowding


def entropy(share: int) -> Crowding:
    return Crowding(lambda count: share.to_bytes(count, "big"))


def test_a_worker_that_finds_something_comes_on_time() -> None:
    crowding = entropy(65_535)
    assert crowding.pause_s() == 0
    crowding.found(3, was_due=True)
    assert crowding.pause_s() == 0


def test_a_worker_that_comes_in_vain_holds_back_longer_each_time_and_not_for_ever() -> None:
    crowding = entropy(65_535)
    pauses = []
    for _ in range(12):
        crowding.found(0, was_due=True)
        pauses.append(crowding.pause_s())
    assert pauses == sorted(pauses)
    assert 0.9 * FIRST_S < pauses[0] < FIRST_S
    assert 0.9 * LONGEST_S < pauses[-1] < LONGEST_S
    crowding.found(1, was_due=True)
    assert crowding.pause_s() == 0


def test_a_worker_that_parked_a_run_lets_others_come_first_once() -> None:
    crowding = entropy(65_535)
    crowding.let_others()
    assert 0.9 * LONGEST_S < crowding.pause_s() < LONGEST_S
    crowding.found(1, was_due=True)
    assert crowding.pause_s() == 0


def test_a_look_for_nothing_in_particular_costs_no_delay() -> None:
    crowding = entropy(65_535)
    crowding.found(0, was_due=False)
    assert crowding.pause_s() == 0


def test_the_pause_is_drawn_from_the_whole_span() -> None:
    for share, low, high in ((0, 0.0, 0.0), (32_768, 0.4, 0.6), (65_535, 0.9, 1.0)):
        crowding = entropy(share)
        crowding.found(0, was_due=True)
        assert low * FIRST_S <= crowding.pause_s() <= high * FIRST_S
