"""In flight: whatever goes out and comes back, it is what a dict of attempts would say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from durable_core.kernel.ids import UnitKey
from durable_core.kernel.in_flight import InFlight
from durable_core.kernel.outcome import Attempt, AttemptKey

keys = st.builds(AttemptKey, st.sampled_from("abcd").map(lambda name: UnitKey((name,))))


@given(st.lists(keys))
def test_it_says_what_a_dict_would(moves: list[AttemptKey]) -> None:
    """What is named goes out or, if it is out, comes back."""
    in_flight, expected = InFlight(), dict[AttemptKey, Attempt]()
    for key in moves:
        if key in expected:
            assert in_flight.pop(key) is expected.pop(key)
        else:
            expected[key] = Attempt(key=key, number=1, generation=1, call=None)
            in_flight.add(expected[key])
        assert in_flight.get(key) is expected.get(key)
        assert bool(in_flight) == bool(expected)
        assert {one.key: one for one in in_flight} == expected
    for key in moves:
        assert in_flight.pop(key) is expected.pop(key, None)
