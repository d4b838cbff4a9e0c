"""The store's clock, as an engine knows it between two answers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from durable_core.engine.clock import StoreClock
from durable_core.testing.virtual_time import VirtualTime

us = st.integers(0, 20_000)
answers = st.lists(st.tuples(us, us, us), min_size=1, max_size=20)
"""Of each: µs before the store is asked, until it looks at its clock, until its answer is here."""


def play(time: VirtualTime, main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=time.loop) as runner:
        runner.run(main)


def true_us(time: VirtualTime) -> int:
    """The store's clock, which is as exact as the loop's and shows whole ms."""
    return round(time.seconds * 1e6)


@given(answers)
def test_it_is_never_ahead_of_the_store_and_as_near_as_the_quickest_answer(
    asked: list[tuple[int, int, int]],
) -> None:
    time = VirtualTime()

    async def main() -> None:
        clock = StoreClock()
        least_us = None
        for rest, there, back in asked:
            time.advance(rest / 1000)
            stamp = clock.stamp()
            time.advance(there / 1000)
            seen_us = true_us(time)
            time.advance(back / 1000)
            clock.set(seen_us // 1000, stamp)
            # What the answer said is so much older than it seems.
            lag = seen_us % 1000 + back
            least_us = lag if least_us is None else min(least_us, lag)
            behind_us = true_us(time) - clock.now_ms() * 1000
            assert behind_us >= -1  # a float's last digit
            assert behind_us <= least_us + 1_001
            moment_ms = clock.now_ms() + 7
            time.seconds += clock.seconds_until(moment_ms) + 2e-6
            assert clock.now_ms() == moment_ms

    play(time, main())


def test_a_clock_that_was_set_is_followed_forwards_and_backwards() -> None:
    time = VirtualTime()

    async def main() -> None:
        clock = StoreClock()
        for store_ms in (10_000, 500_000, 20_000, 20_003):
            stamp = clock.stamp()
            time.advance(2)
            clock.set(store_ms, stamp)
            assert clock.now_ms() == store_ms
        stamp = clock.stamp()
        time.advance(2)
        clock.set(20_002, stamp)  # 20,005 by the last answer, which was as quick
        assert clock.now_ms() == 20_005
        clock.set(20_002)  # nobody knows when this was asked for, so it may be old
        assert clock.now_ms() == 20_005
        clock.set(20_010)
        assert clock.now_ms() == 20_010


def test_what_is_known_for_long_gives_way_to_the_next_answer() -> None:
    time = VirtualTime()

    async def main() -> None:
        clock = StoreClock()
        clock.set(0)
        for seconds in (4, 8, 12, 16):
            stamp = clock.stamp()
            time.advance(4_000)
            clock.set(1_000 * seconds - 30, stamp)  # set back, by less than this answer took
            assert clock.now_ms() == 1_000 * seconds - (0 if seconds < 10 else 30)

    play(time, main())

    play(time, main())
