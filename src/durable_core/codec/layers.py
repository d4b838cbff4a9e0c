"""Byte layers over a codec: ``JsonCodec() | ZlibLayer()`` writes ``json+zlib``, and reads ``json``.

Encryption is a layer of a few lines over a library of the user's choice::

    class FernetLayer:
        name = "fernet"

        def __init__(self, *keys: bytes) -> None:  # the newest key first
            self._fernet = MultiFernet([Fernet(key) for key in keys])

        def seal(self, data: bytes) -> bytes:
            return self._fernet.encrypt(data)

        def open(self, data: bytes) -> bytes:
            return self._fernet.decrypt(data)
"""

from __future__ import annotations

import zlib
from typing import Protocol

from .refusal import Refusal

OPENED_MAX = 64 * 1024 * 1024


class Layer(Protocol):
    """Bytes to bytes and back. ``name`` goes into the encoding, so it holds no ``+``.

    A key id belongs into the name (``fernet:k2``) or into the sealed bytes. Whatever ``seal``
    or ``open`` raises becomes an ``EncodingError``.
    """

    @property
    def name(self) -> str:
        """What the layer is called in ``Payload.encoding``."""
        ...

    def seal(self, data: bytes) -> bytes:
        """What is stored in place of ``data``."""
        ...

    def open(self, data: bytes) -> bytes:
        """The inverse of ``seal``."""
        ...


class ZlibLayer:
    """Compression. Refuses to open what would grow beyond ``opened_max`` bytes."""

    name = "zlib"

    def __init__(self, level: int = 6, *, opened_max: int = OPENED_MAX) -> None:
        self._level = level
        self._opened_max = opened_max

    def seal(self, data: bytes) -> bytes:
        """Compressed ``data``. Raises ``Refusal`` if it could not be opened again."""
        if len(data) > self._opened_max:
            raise Refusal(f"more than {self._opened_max} bytes before compression")
        return zlib.compress(data, self._level)

    def open(self, data: bytes) -> bytes:
        """Decompressed ``data``. Raises ``Refusal`` for cut, trailing or too many bytes."""
        stream = zlib.decompressobj()
        opened = stream.decompress(data, self._opened_max)
        if stream.unconsumed_tail:
            raise Refusal(f"more than {self._opened_max} bytes after decompression")
        if not stream.eof or stream.unused_data:
            raise Refusal("cut or trailing compressed bytes")
        return opened
