"""Byte layers: compression or encryption around a codec, named in the payload's encoding.

``JsonCodec() | ZlibLayer()`` writes ``json+zlib`` and still reads ``json``, so that a layer can
be added to a running system; rows already there stay readable.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..errors import EncodingError
from ..kernel.value import Payload
from .refusal import told
from .types import ANY

SEPARATOR = "+"


class Layer(Protocol):
    """Bytes to bytes and back. ``name`` stands in the encoding: letters, digits, ``:``, ``-``."""

    @property
    def name(self) -> str:
        """The part of the encoding that says this layer was applied."""
        ...

    def wrap(self, data: bytes) -> bytes:
        """The bytes to be stored."""
        ...

    def unwrap(self, data: bytes) -> bytes:
        """The inverse of ``wrap``; may raise anything for bytes it did not make."""
        ...


class ZlibLayer:
    """Compression; ``max_size`` bounds, in bytes, what a stored value may inflate to."""

    name = "zlib"

    def __init__(self, level: int = 6, *, max_size: int = 64 * 1024 * 1024) -> None:
        self._level = level
        self._max_size = max_size

    def wrap(self, data: bytes) -> bytes:
        """Compressed."""
        return zlib.compress(data, self._level)

    def unwrap(self, data: bytes) -> bytes:
        """Decompressed. Raises ``EncodingError`` beyond ``max_size`` and for damaged bytes."""
        inflater = zlib.decompressobj()
        plain = inflater.decompress(data, self._max_size + 1)
        if len(plain) > self._max_size:
            raise EncodingError(
                f"a compressed value inflates to more than {self._max_size} bytes: it is refused; "
                "ZlibLayer(max_size=...) allows more"
            )
        if not inflater.eof or inflater.unused_data:
            raise EncodingError("a compressed value is cut off or has bytes too many: it is damaged")
        return plain


class Inner(Protocol):
    """The innermost codec, whose encoding has no layers."""

    def encode(
        self, value: object, type_: object = ANY, *, limit: int | None = None, what: str = "value"
    ) -> Payload: ...
    def decode(self, payload: Payload, type_: object = ANY) -> Any: ...
    def canonical(self, payload: Payload) -> bytes: ...
    def assemble_map(self, parts: Mapping[str, Payload]) -> Payload: ...
    def assemble_list(self, parts: Sequence[Payload]) -> Payload: ...


class LayeredCodec:
    """A codec inside byte layers; ``limit`` counts bytes before the layers."""

    def __init__(self, inner: Inner, layers: Sequence[Layer]) -> None:
        self._inner = inner
        self._layers = tuple(layers)
        self._by_name = {layer.name: layer for layer in self._layers}
        if len(self._by_name) != len(self._layers):
            raise ValueError("two layers of a codec have the same name, so neither could be found")
        if any(SEPARATOR in name or not name for name in self._by_name):
            raise ValueError(f"a layer's name must not be empty or contain {SEPARATOR!r}")

    def __or__(self, layer: Layer) -> LayeredCodec:
        return LayeredCodec(self._inner, (*self._layers, layer))

    def encode(
        self, value: object, type_: object = ANY, *, limit: int | None = None, what: str = "value"
    ) -> Payload:
        """See ``Codec.encode``."""
        return self._wrap(self._inner.encode(value, type_, limit=limit, what=what))

    def decode(self, payload: Payload, type_: object = ANY) -> Any:
        """See ``Codec.decode``."""
        return self._inner.decode(self._unwrap(payload), type_)

    def canonical(self, payload: Payload) -> bytes:
        """See ``Codec.canonical``."""
        return self._inner.canonical(self._unwrap(payload))

    def assemble_map(self, parts: Mapping[str, Payload]) -> Payload:
        """See ``Codec.assemble_map``."""
        plain = {key: self._unwrap(part) for key, part in parts.items()}
        return self._wrap(self._inner.assemble_map(plain))

    def assemble_list(self, parts: Sequence[Payload]) -> Payload:
        """See ``Codec.assemble_list``."""
        return self._wrap(self._inner.assemble_list([self._unwrap(part) for part in parts]))

    def _wrap(self, payload: Payload) -> Payload:
        data, encoding = payload.data, payload.encoding
        for layer in self._layers:
            try:
                data = layer.wrap(data)
            except EncodingError:
                raise
            except Exception as error:
                raise EncodingError(
                    f"the layer {layer.name!r} failed to wrap a value ({told(error)})"
                ) from error
            encoding = f"{encoding}{SEPARATOR}{layer.name}"
        return Payload(data, encoding)

    def _unwrap(self, payload: Payload) -> Payload:
        data = payload.data
        base, *names = payload.encoding.split(SEPARATOR)
        for name in reversed(names):
            layer = self._by_name.get(name)
            if layer is None:
                raise EncodingError(
                    f"a stored value has the encoding {payload.encoding!r}, and this codec has no "
                    f"layer {name!r}: give the Engine the layers it was written with"
                )
            try:
                data = layer.unwrap(data)
            except EncodingError:
                raise
            except Exception as error:
                raise EncodingError(
                    f"the layer {name!r} cannot read a stored value ({told(error)}): it is "
                    "damaged, or was written with another key"
                ) from error
        return Payload(data, base)
