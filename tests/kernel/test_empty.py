"""Empty: nobody can put anything into what belongs to everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from durable_core.kernel.empty import NO_DICT, NO_LIST


def put(it: Any) -> None:
    it[1] = 2


def add(it: Any) -> None:
    it += [1]


def merge(it: Any) -> None:
    it |= {1: 2}


@pytest.mark.parametrize(
    "write",
    [
        put,
        merge,
        lambda it: it.setdefault(1, 2),
        lambda it: it.update({1: 2}),
    ],
)
def test_the_empty_dict_takes_nothing(write: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match="everybody's"):
        write(NO_DICT)
    assert NO_DICT == {}


@pytest.mark.parametrize(
    "write",
    [
        add,
        lambda it: it.append(1),
        lambda it: it.extend([1]),
        lambda it: it.insert(0, 1),
    ],
)
def test_the_empty_list_takes_nothing(write: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match="everybody's"):
        write(NO_LIST)
    assert NO_LIST == []


def test_taking_out_and_clearing_are_nothing_to_refuse() -> None:
    assert NO_DICT.pop(1, None) is None
    NO_DICT.clear()
    NO_LIST.clear()
