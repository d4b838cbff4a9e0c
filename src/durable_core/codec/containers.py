"""Shapes of annotated lists, tuples, sets and dicts."""

from __future__ import annotations

import collections
from collections import abc
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

from .plain import Bag, Pairs
from .refusal import Refusal, at_index, at_key, mismatch
from .shapes import Shape, guarded, spend

Resolve = Callable[[Any], Shape]

SEQUENCES: Mapping[Any, tuple[type, ...]] = {
    list: (list,),
    tuple: (tuple,),
    set: (set,),
    frozenset: (frozenset,),
    collections.deque: (collections.deque,),
    abc.Sequence: (list, tuple),
    abc.MutableSequence: (list,),
    abc.Set: (set, frozenset),
    abc.MutableSet: (set,),
    abc.Collection: (list, tuple, set, frozenset),
    abc.Iterable: (list, tuple, set, frozenset),
}
"""Which runtime types an annotation takes; the first is built where the stored form is silent."""

MAPPINGS: Mapping[Any, tuple[type, ...]] = {
    dict: (dict,),
    collections.OrderedDict: (collections.OrderedDict,),
    abc.Mapping: (dict,),
    abc.MutableMapping: (dict,),
}

_WIRE: Mapping[type, object] = {
    list: list,
    tuple: tuple,
    set: "$set",
    frozenset: "$frozenset",
    collections.deque: list,
}
_KINDS: Mapping[object, type] = {
    list: list,
    tuple: tuple,
    "$set": set,
    "$frozenset": frozenset,
}


def write_each(shape: Shape, items: Collection[Any]) -> list[Any]:
    """Every item written; a refusal names its index."""
    spend(len(items))
    write = shape.write
    written: list[Any] = []
    try:
        for item in items:
            written.append(write(item))
    except Refusal as refusal:
        refusal.within(at_index(len(written)))
        raise
    return written


def read_each(shape: Shape, items: Iterable[Any]) -> list[Any]:
    """Every item read; a refusal names its index."""
    read = shape.read
    values: list[Any] = []
    try:
        for item in items:
            values.append(read(item))
    except Refusal as refusal:
        refusal.within(at_index(len(values)))
        raise
    return values


def items_of(shape: Shape, raw: Any) -> list[Any]:
    """The items of a plain list, tuple or set. Raises ``Refusal`` for anything else."""
    if type(raw) is Bag:
        return raw.items
    if type(raw) is list or type(raw) is tuple:
        return list(raw)
    return items_of(shape, shape.unlabelled(raw))


class SequenceShape(Shape):
    """Any number of items of one type, in a list, tuple, set, frozenset or deque."""

    def __init__(self, type_: Any, origin: Any, item: Any, resolve: Resolve) -> None:
        super().__init__(type_)
        self.origins = SEQUENCES[origin]
        self.wire = frozenset(_WIRE[kind] for kind in self.origins)
        self._item = item
        self._resolve = resolve

    @cached_property
    def item(self) -> Shape:
        """Resolved late, for types that contain themselves."""
        return self._resolve(self._item)

    def accepts(self, value: Any) -> bool:
        return type(value) in self.origins

    def write(self, value: Any) -> Any:
        kind = type(value)
        if kind not in self.origins:
            raise mismatch(value, self.type)
        items = write_each(self.item, value)
        if kind is list:
            return items
        if kind is tuple:
            return tuple(items)
        if kind is collections.deque:
            if value.maxlen is not None:
                raise Refusal("a deque with maxlen would lose it", "return a list")
            return items
        return Bag(f"${kind.__name__}", items)

    def read(self, raw: Any, _: Any = None) -> Any:
        values = read_each(self.item, items_of(self, raw))
        kind = _KINDS.get(raw.tag if type(raw) is Bag else type(raw))
        if kind not in self.origins:
            kind = self.origins[0]
        return values if kind is list else guarded(kind, values, f"building {self.label}")


class TupleShape(Shape):
    """A tuple with a type for each place."""

    wire = frozenset({tuple})

    def __init__(self, type_: Any, items: tuple[Any, ...], resolve: Resolve) -> None:
        super().__init__(type_)
        self._items = items
        self._resolve = resolve

    @cached_property
    def items(self) -> list[Shape]:
        """Resolved late, for types that contain themselves."""
        return [self._resolve(item) for item in self._items]

    def accepts(self, value: Any) -> bool:
        return type(value) is tuple and len(value) == len(self._items)

    def write(self, value: Any) -> Any:
        if type(value) is not tuple:
            raise mismatch(value, self.type)
        return tuple(self._each("write", value))

    def read(self, raw: Any, _: Any = None) -> Any:
        return tuple(self._each("read", items_of(self, raw)))

    def _each(self, verb: str, items: Any) -> list[Any]:
        if len(items) != len(self.items):
            raise Refusal(f"{self.label} has {len(self.items)} items, the value {len(items)}")
        results: list[Any] = []
        try:
            for shape, item in zip(self.items, items, strict=True):
                results.append(getattr(shape, verb)(item))
        except Refusal as refusal:
            refusal.within(at_index(len(results)))
            raise
        return results


class MappingShape(Shape):
    """A dict with annotated keys and values; keys that are written as text make an object."""

    wire = frozenset({dict, Pairs})

    def __init__(self, type_: Any, origin: Any, key: Any, item: Any, resolve: Resolve) -> None:
        super().__init__(type_)
        self.origins = MAPPINGS[origin]
        self._key = key
        self._item = item
        self._resolve = resolve

    @cached_property
    def key(self) -> Shape:
        """Resolved late, for types that contain themselves."""
        return self._resolve(self._key)

    @cached_property
    def item(self) -> Shape:
        """Resolved late, for types that contain themselves."""
        return self._resolve(self._item)

    def accepts(self, value: Any) -> bool:
        return type(value) in self.origins

    def write(self, value: Any) -> Any:
        if type(value) not in self.origins:
            raise mismatch(value, self.type)
        spend(len(value))
        pairs = []
        for key, item in value.items():
            try:
                pairs.append((self.key.write(key), self.item.write(item)))
            except Refusal as refusal:
                refusal.within(at_key(key))
                raise
        if not all(type(key) is str for key, _ in pairs):
            return Pairs(pairs)
        written = dict(pairs)
        if len(written) < len(pairs):
            raise Refusal("two keys are written alike", "use keys of one type")
        return written

    def read(self, raw: Any, _: Any = None) -> Any:
        if type(raw) is dict:
            pairs: Iterable[tuple[Any, Any]] = raw.items()
        elif type(raw) is Pairs:
            pairs = raw.items
        else:
            return self.read(self.unlabelled(raw))
        built = self.origins[0]()
        for key, item in pairs:
            try:
                value = self.item.read(item)
                built[self.key.read(key)] = value
            except Refusal as refusal:
                refusal.within(at_key(key))
                raise
            except TypeError as error:
                raise Refusal("a key that cannot be hashed").within(at_key(key)) from error
        return built
