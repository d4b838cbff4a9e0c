"""The kit says nothing against ordinary workflows.

Here all but the heavy ones under one seed, the small ones under another too;
``python -m tests.kit.clean`` takes all of them, under twenty.
"""

from __future__ import annotations

import pytest
from tests.kit.clean import Clean, clean

CASES = [case for case in clean() if not case.heavy]
LIGHT = [case for case in CASES if case.light]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_clean_workflow_raises_no_alarm(case: Clean) -> None:
    assert case.alarm() == ""


@pytest.mark.parametrize("case", LIGHT, ids=[case.name for case in LIGHT])
def test_nor_does_it_under_another_seed(case: Clean) -> None:
    assert case.alarm(seed=1) == ""


def test_there_are_enough_of_them() -> None:
    assert len({case.name for case in CASES}) >= 30
