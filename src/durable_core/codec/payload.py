"""Values <-> payloads: typed JSON, refused where it would lose something, and byte layers.

``decode(encode(x, T), T)`` equals ``x`` with the same types, or ``encode`` refuses. The engine
hands out the decoded value already on the first pass, so there is no drift on replay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import cattrs

from ..errors import EncodingError, LimitExceededError
from ..kernel.value import Payload
from . import plain
from .layers import Layer
from .refusal import Refusal, type_name
from .shapes import write_bounded
from .typed import TypeTable, new_converter
from .types import ANY

__all__ = ["ANY", "DEPTH", "Codec", "JsonCodec", "LayeredCodec"]

DEPTH = 64


class Codec(Protocol):
    """What the engine needs of an encoding of values; pure, and safe to use from any thread."""

    def encode(
        self, value: object, type_: object = ANY, *, limit: int | None = None, what: str = "value"
    ) -> Payload:
        """The stored form of ``value``. ``what`` names it in errors.

        Raises ``EncodingError``, and ``LimitExceededError`` above ``limit`` bytes.
        """
        ...

    def decode(self, payload: Payload, type_: object = ANY, *, what: str = "value") -> Any:
        """The value again. Raises ``EncodingError``."""
        ...

    def canonical(self, payload: Payload) -> bytes:
        """Bytes that are equal for equal values, whatever the order of keys; for digests.

        Raises ``EncodingError``.
        """
        ...

    def assemble_list(self, parts: Sequence[Payload]) -> Payload:
        """The payload of a list of these values, without decoding them.

        Raises ``EncodingError`` for an encoding that this codec does not read.
        """
        ...

    def assemble_map(self, parts: Mapping[str, Payload]) -> Payload:
        """The payload of a dict of these values, without decoding them.

        Raises ``EncodingError`` for an encoding that this codec does not read.
        """
        ...


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0.0:
        raise ValueError("a number too large for a float")
    return number


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_to_text = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode
_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)


def _from_text(text: str) -> Any:
    """The JSON value. What we wrote begins and ends with it, and needs no search for blanks."""
    try:
        value, end = _decoder.raw_decode(text)
    except ValueError:
        end = -1
    return value if end == len(text) else _decoder.decode(text)


class JsonCodec:
    """Typed JSON in UTF-8; the encoding is called ``json``.

    ``converter`` replaces the one that shapes annotated values: start from ``new_converter()``,
    whose hooks are strict, and register your own on it. It is copied.
    """

    encoding = "json"

    def __init__(
        self, converter: cattrs.Converter | None = None, *, max_depth: int = DEPTH
    ) -> None:
        self._max_depth = max_depth
        self._types = TypeTable(new_converter() if converter is None else converter.copy())

    def encode(
        self, value: object, type_: object = ANY, *, limit: int | None = None, what: str = "value"
    ) -> Payload:
        """JSON bytes. Raises ``EncodingError``, or ``LimitExceededError`` above ``limit`` bytes."""
        nodes = plain.NODES if limit is None else limit
        try:
            if type_ is not ANY:
                shape = self._types.shape(type_)
                value = shape.write(value) if shape.plain else write_bounded(shape, value, nodes)
            data = self._to_bytes(value, nodes)
        except Refusal as refusal:
            error = EncodingError(f"{what} cannot be stored: {refusal.sentence()}")
            raise error from refusal.__cause__
        except LimitExceededError as over:
            raise LimitExceededError(f"{what} is too large: {over}") from None
        except Exception as raised:
            raise EncodingError(f"{what} cannot be stored: {_hook_failed(raised)}") from raised
        if limit is not None and len(data) > limit:
            raise over_limit(what, len(data), limit)
        return Payload(data, self.encoding)

    def decode(self, payload: Payload, type_: object = ANY, *, what: str = "value") -> Any:
        """The value again. Raises ``EncodingError``."""
        value, tagged = self._parse(payload, what)
        try:
            if type_ is ANY:
                return plain.read(value, final=True) if tagged else value
            shape = self._types.shape(type_)
            if tagged:
                value = plain.read(value, final=shape.plain)
            return shape.check(value) if shape.plain else shape.read(value)
        except Refusal as refusal:
            error = EncodingError(f"{what} cannot be read: {refusal.sentence()}")
            raise error from refusal.__cause__
        except Exception as raised:
            raise EncodingError(f"{what} cannot be read: {_hook_failed(raised)}") from raised

    def canonical(self, payload: Payload) -> bytes:
        """Bytes that are equal for equal values, whatever the order of keys; for digests.

        Raises ``EncodingError``.
        """
        value, tagged = self._parse(payload, "value")
        if tagged:
            value = _with_sorted_maps(value)
        return plain.canonical_text(value).encode()

    def assemble_list(self, parts: Sequence[Payload]) -> Payload:
        """The payload of a list of these values, undecoded. Raises ``EncodingError``."""
        return Payload(b"[" + b",".join([self._json(part) for part in parts]) + b"]")

    def assemble_map(self, parts: Mapping[str, Payload]) -> Payload:
        """The payload of a dict of these values, undecoded. Raises ``EncodingError``."""
        items = [
            _to_text(plain.escaped(key)).encode() + b":" + self._json(part)
            for key, part in parts.items()
        ]
        return Payload(b"{" + b",".join(items) + b"}")

    def __or__(self, layer: Layer) -> LayeredCodec:
        return LayeredCodec(self, (layer,))

    def _to_bytes(self, value: object, nodes: int) -> bytes:
        if plain.is_json(value, self._max_depth, nodes):
            try:
                return _to_text(value).encode()
            except ValueError:
                pass  # NaN or a lone surrogate: the walk below says where
        return _to_text(plain.Writer(self._max_depth, nodes).write(value)).encode()

    def _json(self, payload: Payload, what: str = "a part") -> bytes:
        if payload.encoding != self.encoding:
            raise EncodingError(
                f"{what} cannot be read: its encoding is {payload.encoding!r}, this codec reads "
                f"{self.encoding!r}; give the engine the codec it was written with"
            )
        return payload.data

    def _parse(self, payload: Payload, what: str) -> tuple[Any, bool]:
        """The JSON value, and whether it may hold tags."""
        try:
            text = self._json(payload, what).decode()
            value = _from_text(text)
            if "\\ud" in text or "\\uD" in text:
                _to_text(value).encode()
        except (ValueError, RecursionError) as error:
            raise EncodingError(f"{what} cannot be read: not JSON ({error})") from error
        return value, '"$' in text


class LayeredCodec:
    """A codec under byte layers; it also reads what was written with fewer of them."""

    def __init__(self, inner: JsonCodec, layers: tuple[Layer, ...]) -> None:
        self._inner = inner
        self._layers = layers
        for layer in layers:
            if not layer.name or "+" in layer.name:
                raise ValueError(f"a layer's name is not empty and holds no '+': {layer.name!r}")
        self.encoding = "+".join((inner.encoding, *(layer.name for layer in layers)))

    def encode(
        self, value: object, type_: object = ANY, *, limit: int | None = None, what: str = "value"
    ) -> Payload:
        """Sealed bytes; ``limit`` counts these. Raises as ``JsonCodec.encode`` does."""
        sealed = self._sealed(self._inner.encode(value, type_, what=what), what)
        if limit is not None and len(sealed.data) > limit:
            raise over_limit(what, len(sealed.data), limit)
        return sealed

    def decode(self, payload: Payload, type_: object = ANY, *, what: str = "value") -> Any:
        """The value again. Raises ``EncodingError``."""
        return self._inner.decode(self.opened(payload, what=what), type_, what=what)

    def canonical(self, payload: Payload) -> bytes:
        """As ``JsonCodec.canonical``, of the opened bytes. Raises ``EncodingError``."""
        return self._inner.canonical(self.opened(payload))

    def assemble_list(self, parts: Sequence[Payload]) -> Payload:
        """The payload of a list of these values. Raises ``EncodingError``."""
        return self._sealed(self._inner.assemble_list([self.opened(part) for part in parts]))

    def assemble_map(self, parts: Mapping[str, Payload]) -> Payload:
        """The payload of a dict of these values. Raises ``EncodingError``."""
        opened = {key: self.opened(part) for key, part in parts.items()}
        return self._sealed(self._inner.assemble_map(opened))

    def _sealed(self, payload: Payload, what: str = "value") -> Payload:
        data = payload.data
        for layer in self._layers:
            data = _through(layer.seal, data, f"{what} cannot be sealed by layer {layer.name!r}")
        return Payload(data, self.encoding)

    def opened(self, payload: Payload, *, what: str = "value") -> Payload:
        """The payload without its layers. Raises ``EncodingError``."""
        base, *names = payload.encoding.split("+")
        ours = [layer.name for layer in self._layers]
        if base != self._inner.encoding or names != ours[: len(names)]:
            raise EncodingError(
                f"{what} cannot be read: its encoding is {payload.encoding!r}, this codec reads "
                f"{self.encoding!r} and what has fewer layers"
            )
        data = payload.data
        for layer in reversed(self._layers[: len(names)]):
            data = _through(layer.open, data, f"{what} cannot be opened by layer {layer.name!r}")
        return Payload(data, self._inner.encoding)

    def __or__(self, layer: Layer) -> LayeredCodec:
        return LayeredCodec(self._inner, (*self._layers, layer))


def over_limit(what: str, size: int, limit: int) -> LimitExceededError:
    """The error for too many encoded bytes."""
    return LimitExceededError(
        f"{what} is too large: {size} bytes encoded, the limit is {limit}; store it elsewhere "
        f"and keep a reference, or raise the limit"
    )


def _through(function: Callable[[bytes], bytes], data: bytes, failed: str) -> bytes:
    """The layer's bytes. Its error's text stays out of ours: it may hold what was sealed."""
    try:
        result = function(data)
    except Exception as error:
        raise EncodingError(f"{failed} ({type_name(type(error))})") from error
    if type(result) is not bytes:
        raise EncodingError(f"{failed}: it gave {type_name(type(result))}, not bytes")
    return result


def _hook_failed(error: Exception) -> str:
    """What is said of an exception out of a user's hook or class; never raises."""
    if isinstance(error, RecursionError):
        return "it is nested too deep, or contains itself; store ids instead of references"
    try:
        text = str(error)
    except Exception:
        text = "its message cannot be read"
    return f"{type_name(type(error))} was raised: {text[:500]}"


def _with_sorted_maps(value: Any) -> Any:
    """The order of a dict's items does not count, so that of its stored pairs neither."""
    if type(value) is list:
        return [_with_sorted_maps(item) for item in value]
    if type(value) is not dict:
        return value
    sorted_ = {key: _with_sorted_maps(item) for key, item in value.items()}
    if len(sorted_) == 1 and type(sorted_.get("$map")) is list:
        sorted_["$map"].sort(key=plain.canonical_text)
    return sorted_
