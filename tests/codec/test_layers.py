"""Byte layers: named in the encoding, readable with fewer of them, safe to open."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_core.codec import JsonCodec, ZlibLayer
from durable_core.errors import EncodingError
from durable_core.kernel.value import NULL, Payload


class Xor:
    """As much of a cipher as a test needs."""

    def __init__(self, key: int) -> None:
        self.name = f"xor:{key}"
        self._key = key

    def seal(self, data: bytes) -> bytes:
        return bytes(byte ^ self._key for byte in data)

    open = seal


class Broken:
    name = "broken"

    def seal(self, data: bytes) -> bytes:
        raise RuntimeError(f"could not seal {data!r}")

    def open(self, data: bytes) -> bytes:
        raise RuntimeError(f"could not open {data!r}")


CODEC = JsonCodec() | ZlibLayer() | Xor(7)


@given(st.text() | st.integers())
def test_a_codec_reads_every_prefix_of_its_layers(value: object) -> None:
    for codec in (JsonCodec(), JsonCodec() | ZlibLayer(), CODEC):
        payload = codec.encode(value)
        assert CODEC.decode(payload) == value
        assert CODEC.canonical(payload) == JsonCodec().canonical(JsonCodec().encode(value))


def test_the_encoding_names_the_layers_inside_out() -> None:
    assert CODEC.encode(1).encoding == "json+zlib+xor:7"
    assert CODEC.decode(NULL) is None


@pytest.mark.parametrize("encoding", ["json+xor:7", "json+zlib+xor:8", "zlib", "", "json+"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(EncodingError, match="its encoding is"):
        CODEC.decode(Payload(b"1", encoding))


def test_a_layer_that_raises_is_refused_without_its_words() -> None:
    codec = JsonCodec() | Broken()
    with pytest.raises(EncodingError, match=r"sealed by layer 'broken' \(RuntimeError\)") as caught:
        codec.encode("secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(EncodingError, match=r"opened by layer 'broken' \(RuntimeError\)"):
        codec.decode(Payload(b"1", "json+broken"))


@pytest.mark.parametrize("name", ["", "a+b"])
def test_a_layer_needs_a_proper_name(name: str) -> None:
    layer = Xor(1)
    layer.name = name
    with pytest.raises(ValueError, match="name"):
        JsonCodec() | layer


def test_what_grows_too_much_is_not_opened() -> None:
    layer = ZlibLayer(opened_max=1_000)
    bomb = zlib.compress(b'"' + b"a" * 10_000_000 + b'"')
    codec = JsonCodec() | layer
    with pytest.raises(EncodingError):
        codec.decode(Payload(bomb, "json+zlib"))
    with pytest.raises(EncodingError):
        codec.encode("a" * 1_000)
    assert codec.decode(codec.encode("a" * 998)) == "a" * 998


@pytest.mark.parametrize("cut", [slice(0, 5), slice(0, -1), slice(2, None), slice(0, 0)])
def test_cut_bytes_are_refused(cut: slice) -> None:
    sealed = zlib.compress(b'"abcdefgh"')[cut]
    with pytest.raises(EncodingError):
        (JsonCodec() | ZlibLayer()).decode(Payload(sealed, "json+zlib"))


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(EncodingError):
        (JsonCodec() | ZlibLayer()).decode(Payload(zlib.compress(b"1") + b"x", "json+zlib"))
