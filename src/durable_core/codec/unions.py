"""The shape of a union: which member a value is, and a label where its looks do not tell.

Members that are written as different kinds of plain values (``str | datetime``, ``Order | None``)
need no label. Members of one kind (two classes) are written as ``{"$as": ["Order", {...}]}``.
The label is looked up among the union's own members only. Without one, the members are tried,
and exactly one has to fit: nothing is read by guess.
"""

from __future__ import annotations

from typing import Any

from .classes import FieldsShape
from .plain import As
from .refusal import Refusal, mismatch
from .shapes import FloatShape, Shape, Wire, kind_of


class UnionShape(Shape):
    """One of several shapes."""

    def __init__(self, type_: Any, members: list[Shape]) -> None:
        super().__init__(type_)
        self.members = members
        self._wires = _wires(members)
        self.wire = _together(self._wires)
        self._labels: dict[int, str] = {}
        taken: dict[str, int] = {}
        for index, member in enumerate(members):
            if _meets_another(index, self._wires):
                count = taken[member.label] = taken.get(member.label, 0) + 1
                label = member.label if count == 1 else f"{member.label}#{count}"
                self._labels[index] = label
        self._by_label = {label: members[index] for index, label in self._labels.items()}

    def accepts(self, value: Any) -> bool:
        return any(member.accepts(value) for member in self.members)

    def write(self, value: Any) -> Any:
        able = [index for index, member in enumerate(self.members) if member.accepts(value)]
        if not able:
            raise mismatch(value, self.type)
        first: Refusal | None = None
        for index in able:
            try:
                written = self.members[index].write(value)
            except Refusal as refusal:
                first = first or refusal
                continue
            label = self._labels.get(index)
            return written if label is None else As(label, written)
        assert first is not None
        raise first

    def read(self, raw: Any, _: Any = None) -> Any:
        if type(raw) is As:
            labelled = self._by_label.get(raw.label)
            if labelled is not None:
                return labelled.read(raw.value)
            by_name = [member for member in self.members if member.label == raw.label]
            if len(by_name) == 1:
                return by_name[0].read(raw.value)
            raw = raw.value
        kind = kind_of(raw)
        able = [
            member
            for member, wire in zip(self.members, self._wires, strict=True)
            if wire is None or kind in wire
        ]
        if len(able) == 1:
            return able[0].read(raw)
        return self._by_trial(able or self.members, raw)

    def _by_trial(self, members: list[Shape], raw: Any) -> Any:
        fitting: list[tuple[Shape, Any]] = []
        first: Refusal | None = None
        for member in members:
            try:
                fitting.append((member, member.read(raw)))
            except Refusal as refusal:
                first = first or refusal
        if len(fitting) > 1:
            closer: list[tuple[Shape, Any]] = [
                (member, value)
                for member, value in fitting
                if isinstance(member, FieldsShape) and member.knows_all(raw)
            ]
            fitting = closer if len(closer) == 1 else fitting
        if len(fitting) == 1:
            return fitting[0][1]
        names = " | ".join(member.label for member in members)
        if not fitting:
            raise Refusal(f"it fits none of {names}") from first
        raise Refusal(f"it fits several of {names}", 'label it, as in {"$as": ["Name", ...]}')


def _wires(members: list[Shape]) -> list[Wire]:
    """What each member is written as; an int among the members leaves float only the floats."""
    if not any(member.wire == frozenset({int}) for member in members):
        return [member.wire for member in members]
    return [
        frozenset({float}) if isinstance(member, FloatShape) else member.wire for member in members
    ]


def _together(wires: list[Wire]) -> Wire:
    union: frozenset[object] = frozenset()
    for wire in wires:
        if wire is None:
            return None
        union |= wire
    return union


def _meets_another(index: int, wires: list[Wire]) -> bool:
    mine = wires[index]
    return any(
        mine is None or other is None or bool(mine & other)
        for position, other in enumerate(wires)
        if position != index
    )
