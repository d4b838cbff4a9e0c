"""Loose: how a value without an annotation is stored in a workflow that knows classes.

Plain values are stored as ever. An instance of a known class (``known.py``) inside of them is
stored by its fields under its label, ``{"$as": ["Line", {...}]}``, and comes back by that label;
an unknown label is dropped, as always. So a value is read by what is stored and by the
definition, on the first pass as on every replay. An instance of any other class is refused.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

import attrs

from ..codec import plain
from ..codec.payload import DEPTH, Codec, JsonCodec, LayeredCodec
from ..codec.refusal import Refusal, at_index, at_key
from ..codec.types import ANY
from ..errors import EncodingError
from ..kernel.value import Payload
from .known import Known
from .suspend import Suspend

_LABELLED = re.compile(rb'"\$as"\s*:')
"""In JSON text only a tag looks so: a quote inside of a text is escaped, a user's key is `$$as`."""


@attrs.frozen(slots=True, eq=False)
class Loose:
    """The type of a value that nobody annotated, in a workflow that knows classes.

    To a codec it means ``Any``; ``decode`` below makes the classes of it.
    """

    known: Known
    __value__: ClassVar[Any] = Any

    def __repr__(self) -> str:
        return f"<any plain value, {', '.join(self.known)}>"


def is_untyped(type_: Any) -> bool:
    """Whether this is no annotation at all."""
    return type_ is ANY or isinstance(type_, Loose)


def decode(codec: Codec, payload: Payload, type_: Any, *, what: str = "value") -> Any:
    """``codec.decode``, for which ``Loose`` is a type too. Raises ``EncodingError``."""
    if not isinstance(type_, Loose):
        return codec.decode(payload, type_, what=what)
    data = _json_of(codec, payload, what)
    if data is None or _LABELLED.search(data) is None:
        return codec.decode(payload, what=what)
    try:
        raw = plain.read(json.loads(data), final=False)
    except (Refusal, ValueError, RecursionError):
        return codec.decode(payload, what=what)  # says what is wrong with it
    return plain.finish(_Reader(codec, type_.known, what).read(raw))


def loose_codec(codec: Codec, known: Known) -> Codec:
    """A codec that stores known classes in values without an annotation as well.

    Only of this library's codecs: another's own rules for such values are left to it.
    """
    bare = codec.codec if isinstance(codec, LooseCodec) else codec
    if not known or not isinstance(bare, JsonCodec | LayeredCodec):
        return bare
    return LooseCodec(bare, known)


def codec_of(definition: object, codec: Codec) -> Codec:
    """The codec for values of this definition's runs that nobody annotated."""
    return loose_codec(codec, getattr(definition, "known_classes", {}))


class LooseCodec:
    """A codec, with the classes that one definition knows."""

    def __init__(self, codec: Codec, known: Known) -> None:
        self.codec = codec
        self.type = Loose(known)
        self._by_class: dict[type, list[tuple[str, Any]]] = {}
        for label, type_ in known.items():
            self._by_class.setdefault(_class_of(type_), []).append((label, type_))

    def encode(
        self, value: object, type_: object = ANY, *, limit: int | None = None, what: str = "value"
    ) -> Payload:
        """As ``Codec.encode``."""
        if is_untyped(type_):
            value = self.labelled(value, limit=limit, what=what)
        return self.codec.encode(value, type_, limit=limit, what=what)

    def decode(self, payload: Payload, type_: object = ANY, *, what: str = "value") -> Any:
        """As ``Codec.decode``."""
        return decode(self.codec, payload, self.type if type_ is ANY else type_, what=what)

    def canonical(self, payload: Payload) -> bytes:
        """As ``Codec.canonical``."""
        return self.codec.canonical(payload)

    def assemble_list(self, parts: Sequence[Payload]) -> Payload:
        """As ``Codec.assemble_list``."""
        return self.codec.assemble_list(parts)

    def assemble_map(self, parts: Mapping[str, Payload]) -> Payload:
        """As ``Codec.assemble_map``."""
        return self.codec.assemble_map(parts)

    def labelled(self, value: Any, *, limit: int | None = None, what: str = "value") -> Any:
        """The value with its known instances made what any codec stores without an annotation.

        Everything else stays as it is, to be stored or refused as without known classes.
        """
        return _Labeller(self.codec, self._by_class, limit, what).write(value, "", 0)

    def wrapped(
        self, function: Callable[..., Any], *, is_async: bool, typed: bool, limit: int, what: str
    ) -> Callable[..., Any]:
        """The handler, giving labelled values and snapshots; the engine need not know."""

        def kept(value: Any) -> Any:
            if isinstance(value, Suspend):
                snapshot = f"the snapshot of {what.removeprefix('the result of ')}"
                return Suspend(self.labelled(value.snapshot, limit=limit, what=snapshot))
            return value if typed else self.labelled(value, limit=limit, what=what)

        async def kept_later(value: Awaitable[Any]) -> Any:
            return kept(await value)

        @functools.wraps(function)
        async def call_async(*args: Any) -> Any:
            return kept(await function(*args))

        @functools.wraps(function)
        def call(*args: Any) -> Any:
            value = function(*args)
            return kept_later(value) if inspect.isawaitable(value) else kept(value)

        return call_async if is_async else call


class _Labeller:
    """One walk over a value. What is shared is written once; what goes round is left alone."""

    def __init__(
        self,
        codec: Codec,
        by_class: Mapping[type, list[tuple[str, Any]]],
        limit: int | None,
        what: str,
    ) -> None:
        self._codec = codec
        self._by_class = by_class
        self._limit = limit
        self._what = what
        self._written: dict[int, Any] = {}

    def write(self, value: Any, path: str, depth: int) -> Any:
        """The value itself when there is nothing to label in it."""
        kind = type(value)
        types = self._by_class.get(kind)
        if types is None and kind not in (dict, list, tuple, set, frozenset):
            return value
        if id(value) in self._written:
            return self._written[id(value)]
        if depth > DEPTH:
            return value
        self._written[id(value)] = value
        if types is not None:
            written: Any = self._label(value, types, path)
        elif kind is dict:
            items = [self.write(item, path + at_key(key), depth + 1) for key, item in value.items()]
            written = dict(zip(value, items, strict=True))
        else:
            items = [
                self.write(item, path + at_index(index), depth + 1)
                for index, item in enumerate(value)
            ]
            same = all(new is old for new, old in zip(items, value, strict=True))
            written = value if same else _as_kind(kind, items)
        self._written[id(value)] = written
        return written

    def _label(self, value: Any, types: list[tuple[str, Any]], path: str) -> plain.As:
        what = f"{self._what} at ${path}" if path else self._what
        for position, (label, type_) in enumerate(types, start=1):
            try:
                payload = self._codec.encode(value, type_, limit=self._limit, what=what)
            except EncodingError:
                if position == len(types):
                    raise
                continue  # a generic class, known with other arguments too
            data = _json_of(self._codec, payload, what)
            assert data is not None, "these codecs write JSON"
            return plain.As(label, plain.read(json.loads(data), final=False))
        raise AssertionError("a class is known by at least one label")


class _Reader:
    """Resolves the labels in a plain value; what it leaves open is finished by the codec's rule."""

    def __init__(self, codec: Codec, known: Known, what: str) -> None:
        self._codec = codec
        self._known = known
        self._what = what

    def read(self, raw: Any) -> Any:
        """The value again. Raises ``EncodingError``."""
        kind = type(raw)
        if kind is plain.As:
            type_ = self._known.get(raw.label)
            if type_ is None:
                return self.read(raw.value)
            return self._codec.decode(self._codec.encode(raw.value), type_, what=self._what)
        if kind is dict:
            return {key: self.read(item) for key, item in raw.items()}
        if kind is list or kind is tuple:
            return kind([self.read(item) for item in raw])
        if kind is plain.Bag:
            return plain.Bag(raw.tag, [self.read(item) for item in raw.items])
        if kind is plain.Pairs:
            return plain.Pairs([(self.read(key), self.read(item)) for key, item in raw.items])
        return raw


def _as_kind(kind: type, items: list[Any]) -> Any:
    """Items in their container; those of a set cannot be hashed while they are labelled."""
    if kind is list:
        return items
    return tuple(items) if kind is tuple else plain.Bag(f"${kind.__name__}", items)


def _class_of(type_: Any) -> type:
    origin = getattr(type_, "__origin__", type_)
    assert isinstance(origin, type)
    return origin


def _json_of(codec: Codec, payload: Payload, what: str) -> bytes | None:
    """The JSON text under byte layers, or None where the encoding is another one."""
    if isinstance(codec, LayeredCodec):
        payload = codec.opened(payload, what=what)
    return payload.data if payload.encoding == "json" else None
