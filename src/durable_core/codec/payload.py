"""Codec: a value and its annotation to a payload and back, the same value or an error.

What a workflow reads is always decoded from the bytes that are stored, so whatever JSON would
change is refused when it is written, naming the place and the mend.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import cattrs

from ..errors import EncodingError, LimitExceededError
from ..kernel.value import Payload
from .layers import Layer, LayeredCodec
from .plain import canonical_tree, dumps, dumps_sorted, escape, is_plain, tag, untag
from .refusal import Refused, told
from .typed import Typed
from .types import ANY

JSON = "json"
DEFAULT_DEPTH = 64


class Codec(Protocol):
    """Values to payloads and back; pure, and safe to call from any thread."""

    def encode(
        self, value: object, type_: object = ANY, *, limit: int | None = None, what: str = "value"
    ) -> Payload:
        """The payload of ``value``, annotated ``type_``; ``what`` names it in errors.

        Raises ``EncodingError`` for a value that would not come back the same, and
        ``LimitExceededError`` for more than ``limit`` bytes of JSON.
        """
        ...

    def decode(self, payload: Payload, type_: object = ANY) -> Any:
        """The value. Raises ``EncodingError`` for bytes that do not hold a ``type_``."""
        ...

    def canonical(self, payload: Payload) -> bytes:
        """Bytes that are equal for equal values, for digests; no secret layer is left on them."""
        ...

    def assemble_map(self, parts: Mapping[str, Payload]) -> Payload:
        """The payload of a dict of these values, without decoding them."""
        ...

    def assemble_list(self, parts: Sequence[Payload]) -> Payload:
        """The payload of a list of these values, without decoding them."""
        ...


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_loads = json.JSONDecoder(parse_constant=_no_constant).decode


class JsonCodec:
    """Typed JSON. ``converter`` brings the user's own cattrs hooks, which come first.

    ``max_depth`` bounds how deep containers may be nested. Compose with byte layers by ``|``.
    """

    def __init__(
        self, converter: cattrs.Converter | None = None, *, max_depth: int = DEFAULT_DEPTH
    ) -> None:
        self._typed = Typed(converter)
        self._max_depth = max_depth

    def __or__(self, layer: Layer) -> LayeredCodec:
        return LayeredCodec(self, (layer,))

    def encode(
        self, value: object, type_: object = ANY, *, limit: int | None = None, what: str = "value"
    ) -> Payload:
        """See ``Codec.encode``."""
        try:
            tree = value if type_ is ANY else self._typed.dump(value, type_)
            data = self._bytes(tree)
        except Refused as refused:
            raise EncodingError(
                f"{what} cannot be stored: at {refused.path}, {refused.reason}"
            ) from refused.__cause__
        except RecursionError as error:
            raise EncodingError(
                f"{what} cannot be stored: it contains itself, or is nested too deep"
            ) from error
        except Exception as error:
            raise EncodingError(
                f"{what} cannot be stored: the code of its class or hook raised {told(error)}"
            ) from error
        if limit is not None and len(data) > limit:
            raise LimitExceededError(
                f"{what} takes {len(data)} bytes of JSON, over the limit of {limit}: keep large "
                "data elsewhere and pass a reference to it, or allow more in Limits"
            )
        return Payload(data)

    def _bytes(self, tree: Any) -> bytes:
        if is_plain(tree, self._max_depth):
            try:
                return dumps(tree).encode()
            except ValueError:
                pass  # NaN, a lone surrogate or a huge int: the walk says where
        return dumps(tag(tree, self._max_depth)).encode()

    def decode(self, payload: Payload, type_: object = ANY) -> Any:
        """See ``Codec.decode``."""
        if payload.encoding != JSON:
            raise unknown_encoding(payload.encoding)
        data = payload.data
        try:
            tree = _loads(data.decode())
            if b"\\ud" in data or b"\\uD" in data:
                dumps(tree).encode()  # raises for lone surrogates, which we never write
            if b'"$' in data or b'"\\u0024' in data:
                tree = untag(tree, keep_of=type_ is not ANY)
            return tree if type_ is ANY else self._typed.load(tree, type_)
        except Refused as refused:
            raise EncodingError(
                f"the stored JSON does not hold what is expected: at {refused.path}, "
                f"{refused.reason}"
            ) from refused.__cause__
        except (ValueError, RecursionError) as error:
            raise EncodingError(
                f"the stored bytes are not JSON that can be read ({told(error)}): they are "
                "damaged, or were not written by this codec"
            ) from error
        except Exception as error:
            raise EncodingError(
                f"a stored value cannot be read: the code of its class or hook raised {told(error)}"
            ) from error

    def canonical(self, payload: Payload) -> bytes:
        """See ``Codec.canonical``."""
        if payload.encoding != JSON:
            raise unknown_encoding(payload.encoding)
        try:
            tree = _loads(payload.data.decode())
            if b'"$map"' in payload.data:
                tree = canonical_tree(tree)
            return dumps_sorted(tree).encode()
        except (ValueError, RecursionError) as error:
            raise EncodingError(
                f"the stored bytes are not JSON that can be read ({told(error)})"
            ) from error

    def assemble_map(self, parts: Mapping[str, Payload]) -> Payload:
        """See ``Codec.assemble_map``."""
        items = []
        for key, part in parts.items():
            if part.encoding != JSON:
                raise unknown_encoding(part.encoding)
            items.append(dumps(escape(key)).encode() + b":" + part.data)
        return Payload(b"{" + b",".join(items) + b"}")

    def assemble_list(self, parts: Sequence[Payload]) -> Payload:
        """See ``Codec.assemble_list``."""
        for part in parts:
            if part.encoding != JSON:
                raise unknown_encoding(part.encoding)
        return Payload(b"[" + b",".join([part.data for part in parts]) + b"]")


def unknown_encoding(encoding: str) -> EncodingError:
    """The error for a payload that was written by a codec the deployer no longer configures."""
    return EncodingError(
        f"a stored value has the encoding {encoding!r}, which this codec cannot read: give the "
        "Engine the codec (and the layers) it was written with"
    )
