"""Known classes: those that a definition's annotations lead to, fields and members included.

They are all that a value without an annotation may hold beside plain values (``loose.py``).
Nothing is looked up by name anywhere else, so a stored name can never choose what is imported.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..codec.classes import fields_of, is_class_with_fields, is_model, is_typed_dict
from ..codec.refusal import Refusal, type_name

Known = Mapping[str, Any]
"""Classes (or generic ones with their arguments) by the label that stands for them."""


def known_classes(annotations: Iterable[Any]) -> Known:
    """The classes that can be reached from these annotations, by name.

    Two classes of one name are both left out: a label could not tell which one it means.
    """
    found: dict[str, Any] = {}
    ambiguous: set[str] = set()
    seen: list[Any] = []
    todo = list(annotations)
    while todo:
        type_ = todo.pop()
        if any(type_ is one or _equal(type_, one) for one in seen):
            continue
        seen.append(type_)
        if _is_class_of_values(type_):
            label = type_name(type_)
            if found.setdefault(label, type_) is not type_:
                ambiguous.add(label)
        todo += _parts(type_)
    return {label: found[label] for label in sorted(found) if label not in ambiguous}


def _is_class_of_values(type_: Any) -> bool:
    """True for what only an annotation can bring back: no builtin, and no ``TypedDict``."""
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        return bool(type_.__members__)
    origin = typing.get_origin(type_) or type_
    return is_model(type_) or (is_class_with_fields(type_) and not is_typed_dict(origin))


def _parts(type_: Any) -> Iterator[Any]:
    """The annotations inside of an annotation: arguments, and the types of fields."""
    if typing.get_origin(type_) is typing.Literal:
        yield from (type(one) for one in typing.get_args(type_) if isinstance(one, enum.Enum))
        return
    yield from typing.get_args(type_)
    for attribute in ("__supertype__", "__value__", "__bound__"):
        if not isinstance(type_, type) and hasattr(type_, attribute):
            yield getattr(type_, attribute)
    if isinstance(type_, typing.TypeVar):
        yield from type_.__constraints__
    if is_class_with_fields(type_):
        try:
            yield from (field.type for field in fields_of(type_))
        except Refusal:
            return  # the codec says why, if such a value ever comes
    elif is_model(type_):
        fields = type_.model_fields
        if isinstance(fields, Mapping):
            yield from (getattr(field, "annotation", None) for field in fields.values())


def _equal(one: Any, other: Any) -> bool:
    """Whether two annotations are equal; some cannot even be compared."""
    try:
        return bool(one == other)
    except Exception:
        return False
