"""``input=`` and ``type=`` take types, and nothing else."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NewType, TypedDict

import attrs
import pytest

from durable_core.errors import DefinitionError
from durable_core.workflow import Workflow


@attrs.frozen
class Cart:
    item: str


class Row(TypedDict):
    item: str


Sku = NewType("Sku", str)


@pytest.mark.parametrize(
    "good",
    [
        Cart,
        Row,
        Sku,
        Any,
        None,
        str,
        list[Cart],
        dict[str, Any],
        Cart | None,
        Literal["a"],
        Annotated[str, "note"],
        tuple[int, ...],
    ],
)
def test_whatever_annotates_a_value_is_taken(good: Any) -> None:
    Workflow("w", input=good).wait_for_signal("go", type=good)


@pytest.mark.parametrize("bad", [5, "Cart", b"", [Cart], {"item": str}, (), Cart("lamp")])
def test_anything_else_is_refused_where_it_stands(bad: Any) -> None:
    with pytest.raises(DefinitionError, match="'w': input must be a type"):
        Workflow("w", input=bad)
    with pytest.raises(DefinitionError, match="step 'go': type must be a type"):
        Workflow("w").wait_for_signal("go", type=bad)
