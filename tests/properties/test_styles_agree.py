"""A workflow does the same whether it is declared or written as a body of code.

One random plan of work is written both ways, and simulated under one plan of faults: equal
statuses, results and failures, equal entries in equal order at equal times, rollbacks among them,
and equal effects on the world.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.properties.styles import Piece, at_units, in_both, pieces, plans, story

from durable_core.testing import Faults

patient = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """The engine complains of every mishap, and rightly."""
    logger = logging.getLogger("durable")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


def agree(work: list[Piece], plan: Faults) -> None:
    declared, coded = in_both(work, plan)
    assert story(coded) == story(declared)
    assert (coded.status, coded.result) == (declared.status, declared.result)
    assert coded.fired == declared.fired


@settings(patient, max_examples=100)
@given(pieces())
def test_both_styles_do_the_same_when_nothing_goes_wrong(work: list[Piece]) -> None:
    agree(work, Faults())


@settings(patient, max_examples=100)
@given(pieces(), st.data())
def test_both_styles_do_the_same_whatever_happens_to_their_units(
    work: list[Piece], data: st.DataObject
) -> None:
    agree(work, at_units(data.draw(plans(work, max_faults=4))))


@settings(patient, max_examples=150)
@given(pieces(decides=False), st.data())
def test_both_styles_do_the_same_whatever_goes_wrong(
    work: list[Piece], data: st.DataObject
) -> None:
    agree(work, data.draw(plans(work, max_faults=4)))
