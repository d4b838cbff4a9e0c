"""Every planted mistake is found, soon, and by its name."""

from __future__ import annotations

import pytest
from tests.kit.planted import Planted, found, planted

SECONDS_MAX = 5.0
CASES = planted()


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_planted_mistake_is_found(case: Planted) -> None:
    said, seconds = found(case)
    assert case.says in said, said or "nothing was found"
    assert case.unit in said, said
    assert seconds < SECONDS_MAX


def test_there_are_enough_of_them() -> None:
    assert len({case.name for case in CASES}) >= 20
