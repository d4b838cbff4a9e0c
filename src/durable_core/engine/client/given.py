"""Given: what callers hand in, encoded by the type that is expected of it.

A value of that type is stored as it is. Plain JSON data that fits the type (the body of a
webhook, say) is shaped by it first; anything else is refused with the error of the value as it
was given.
"""

from __future__ import annotations

from typing import Any

from ...codec.payload import ANY, Codec
from ...errors import EncodingError
from ...kernel.value import Payload

_PLAIN = (dict, list, str, int, float, bool, type(None))


def encode_given(codec: Codec, value: Any, type_: Any, *, limit: int, what: str) -> Payload:
    """The payload of ``value``, which can be read back as ``type_``.

    Raises ``EncodingError`` for what does not fit, ``LimitExceededError`` for more than
    ``limit`` bytes.
    """
    try:
        payload = codec.encode(value, type_, limit=limit, what=what)
        if type_ is not ANY:
            codec.decode(payload, type_, what=what)
        return payload
    except EncodingError as error:
        if type_ is ANY or type(value) not in _PLAIN:
            raise
        refused = error
    try:
        shaped = codec.decode(codec.encode(value, limit=limit, what=what), type_, what=what)
        return codec.encode(shaped, type_, limit=limit, what=what)
    except EncodingError:
        raise refused from None
